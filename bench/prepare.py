"""Measure seconds and memory of `prepare` for one picture on one core, and the size of its layer.

    python -m bench prepare

The pictures are generated: smooth with some noise, as photographs are. The function's own code reads a picture from a
store in memory and stores the result there; the decoder runs in its own process, as in Lambda. The seconds are the best
of a few runs on one core, without Lambda's cold start. The memory is the peak, minus that of an idle function.
"""

import hashlib
import io
import os
import subprocess  # nosec B404 # the layer's Makefile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image

from bench.tables import table
from local.chaos.memory import family, memory
from posedrop.contract.contents import HEAD_BYTES, content_of
from posedrop.contract.images import PIXEL_LIMIT
from posedrop.contract.prepared import PrepareRequest
from posedrop.prepare.preparer import Preparer

ROOT = Path(__file__).parents[1]
MEMORY_MEGABYTES = 1769
RUNS = 3


class Store:
    """A bucket with one upload, with the part of the S3 client that `prepare` uses."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.stored = b""

    def get_object(self, **_: Any) -> dict[str, Any]:
        """Return the upload."""
        return {"Body": io.BytesIO(self._data), "ContentLength": len(self._data)}

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Keep the prepared picture."""
        self.stored = request["Body"]
        return {"ETag": '"made"'}


def photograph(size: tuple[int, int]) -> Image.Image:
    """Return a picture whose JPEG is about as large as a photograph of this size."""
    noise = Image.effect_noise((512, 512), 24)
    tile = Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180)))
    image = Image.new("RGB", size)
    for left in range(0, size[0], 512):
        for top in range(0, size[1], 512):
            image.paste(tile, (left, top))
    return Image.blend(image, Image.radial_gradient("L").resize(size).convert("RGB"), 0.7)


def encoded(size: tuple[int, int], kind: str, orientation: int, **options: Any) -> bytes:
    """Return a photograph with an EXIF orientation and a place."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 29.5)
    buffer = io.BytesIO()
    image = photograph(size)
    if kind == "HEIC":
        import pillow_heif  # imported here: only this function writes HEIC

        pillow_heif.from_pillow(image).save(buffer, exif=exif.tobytes(), **options)
    else:
        image.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def measured(data: bytes, runs: int = RUNS) -> dict[str, Any]:
    """Prepare one picture a few times; return the seconds of the best run and the most memory (MB)."""
    kind = content_of(data[:HEAD_BYTES]).type
    assert kind
    request = PrepareRequest("uploads", "face.jpg", None, "etag", hashlib.sha256(data).hexdigest(), kind)
    seconds, peak, response = [], 0, {}
    for _ in range(runs):
        preparer = Preparer(cast(Any, Store(data)), "outputs", MEMORY_MEGABYTES)
        with Peak() as watched:
            begin = time.perf_counter()
            response = preparer.handle(request.to_dict(), lambda: 60.0)
            seconds.append(time.perf_counter() - begin)
        peak = max(peak, watched.bytes)
    done = response.get("prepared", {}).get("what") or [response["error"]["message"]]
    return {"upload_bytes": len(data), "seconds": min(seconds), "megabytes": peak / 1e6, "what": ", ".join(done)}


class Peak:
    """Measures the memory of this process and all that it started, every 20 ms."""

    def __enter__(self) -> "Peak":
        from threading import Event, Thread  # imported here: only needed here

        self.bytes = 0
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._own = memory(os.getpid())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            # The memory of the benchmark itself is not the function's.
            self.bytes = max(self.bytes, sum(map(memory, family(os.getpid()))) - self._own)


def layer_megabytes() -> float:
    """Build the layer with its own Makefile, for the function's platform, and return its zipped size."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(  # nosec B603 B607 # no shell, and no argument from outside
            ["make", "build-PrepareLayer", f"ARTIFACTS_DIR={directory}"],
            cwd=ROOT / "layers" / "prepare",
            check=True,
            capture_output=True,
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(directory).rglob("*")):
                archive.write(path, path.relative_to(directory))
        return len(packed.getvalue()) / 1e6


def main() -> Mapping[str, Any]:
    """Measure, print a table, and return the figures."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # in Lambda, 1,769 MB are one processor
    pictures = {
        "12 megapixels, JPEG, sideways": ((4000, 3000), "JPEG", 6, {"quality": 92}),
        "12 megapixels, JPEG, metadata removed only": ((4000, 3000), "JPEG", 1, {"quality": 92}),
        "12 megapixels, HEIC, sideways": ((4000, 3000), "HEIC", 6, {"quality": 70}),
        "48 megapixels, JPEG, sideways": ((8000, 6000), "JPEG", 6, {"quality": 85}),
        f"{PIXEL_LIMIT // 10**6} megapixels, JPEG": ((16_000, 12_500), "JPEG", 6, {"quality": 75}),
    }
    figures: dict[str, Any] = {}
    for name, (size, kind, orientation, options) in pictures.items():
        figures[name] = measured(encoded(size, kind, orientation, **options))
    rows = []
    for name, found in figures.items():
        numbers = (f"{found['upload_bytes'] / 1e6:.1f}", f"{found['seconds']:.2f}", f"{found['megabytes']:.0f}")
        rows.append([name, *numbers, found["what"]])
    print(table("prepare", ["upload", "MB", "seconds", "memory, MB", "what was done"], rows))
    figures["layer_megabytes"] = layer_megabytes()
    print(f"The layer of prepare, zipped: {figures['layer_megabytes']:.1f} MB")
    return figures
