"""Decode one picture and convert it for the provider.

`python -m posedrop.prepare.decode` reads a JSON request from stdin. It writes JSON to stdout: what was done, or what is
wrong with the picture. It runs in its own process with limits of memory and time, because the file may be hostile.
"""

import io
import json
import math
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, UnidentifiedImageError

from posedrop.contract.container import BadImage
from posedrop.contract.contents import Type
from posedrop.contract.icc import is_srgb
from posedrop.contract.images import IMAGE_LIMIT, PIXEL_LIMIT, SIDE_LIMIT, Change

FORMATS = {
    Type.PNG: "PNG",
    Type.JPEG: "JPEG",
    Type.WEBP: "WEBP",
    Type.HEIC: "HEIF",
    Type.AVIF: "AVIF",
    Type.TIFF: "TIFF",
    Type.GIF: "GIF",
    Type.BMP: "BMP",
}
QUALITY = 95
MANY_PIXELS = 50_000_000
"""A picture with more pixels is never copied as a whole. It is reduced by a whole factor, band by band."""
BAND = 512
"""The rows of a band in the reduced picture."""
METADATA = ("exif", "xmp", "icc_profile", "comment", "photoshop", "XML:com.adobe.xmp", "thumbnails")
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a picture upright, by its EXIF orientation (CIPA DC-008, 4.6.4 A)."""


def main() -> int:
    """Read a request from stdin, and write the result to stdout."""
    asked = json.load(sys.stdin)
    megabytes = asked["megabytes"]
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 2**20, megabytes * 2**20))
    warnings.simplefilter("ignore")
    try:
        found = convert(
            Path(asked["source"]),
            Path(asked["target"]),
            Type(asked["content_type"]),
            asked["orientation"],
            set(asked["changes"]),
        )
    except BadImage as exc:
        found = {"problem": str(exc)}
    except MemoryError:
        found = {"problem": f"decoding the picture takes more than {megabytes} MB"}
    json.dump(found, sys.stdout)
    return 0


def convert(source: Path, target: Path, kind: Type, orientation: int, changes: set[str]) -> dict[str, Any]:
    """Write a picture that can be sent. Return its extension and what was done. Raises BadImage.

    `orientation` is the one in the container, or 0 if only the decoder can read it. `changes` are those that the
    container requires.
    """
    image = _open(source, kind)
    before = image.size
    if kind not in (Type.PNG, Type.JPEG, Type.WEBP):
        changes |= {Change.CONVERTED} | ({Change.CLEANED} if any(image.info.get(name) for name in METADATA) else set())
    before_load = _orientation(image) if kind is Type.TIFF else 1
    try:
        _draft(image)
        image.load()
    except MemoryError:
        raise
    except Exception as exc:  # decoders raise many kinds of errors
        raise BadImage(f"the picture cannot be decoded: {_said(exc)}") from exc
    if kind is Type.HEIC:  # the HEIC decoder has turned it already
        turned, orientation = (image.info.get("original_orientation") or 1) != 1, 1
    else:
        orientation = orientation or _orientation(image)
        turned = before_load != 1 or orientation != 1
    profile = image.info.get("icc_profile")
    image = _opaque(_within_limit(_plain(image)))
    image = _to_srgb(image, profile)
    if orientation in TRANSPOSED:
        image = image.transpose(TRANSPOSED[orientation])
    data = _encode(image)
    if len(data) > IMAGE_LIMIT:
        data = _encode(image, coarse_colours=True)
    while len(data) > IMAGE_LIMIT:
        share = 0.95 * math.sqrt(IMAGE_LIMIT / len(data))
        size = max(1, int(image.width * share)), max(1, int(image.height * share))
        image = image.resize(size, Image.Resampling.LANCZOS)
        data = _encode(image, coarse_colours=True)
    target.write_bytes(data)
    # The container says that the original is too large. The converted picture may be small enough.
    reduced = max(image.size) < max(before)
    changes = (changes - {Change.REDUCED}) | ({Change.REDUCED} if reduced else set())
    changes |= {Change.TURNED} if turned else set()
    ending = ".png" if image.mode == "RGBA" else ".jpg"
    return {"ending": ending, "changes": [change for change in Change if change in changes]}


def _open(source: Path, kind: Type) -> Image.Image:
    if kind is Type.HEIC:
        import pi_heif  # imported here, because other formats do not need it

        pi_heif.register_heif_opener(thumbnails=False)
    Image.MAX_IMAGE_PIXELS = None  # PIXEL_LIMIT is checked instead
    try:
        image = Image.open(source, formats=(FORMATS[kind],))
    except MemoryError:
        raise
    except UnidentifiedImageError as exc:
        raise BadImage("the picture is damaged: its header cannot be read") from exc
    except Exception as exc:  # decoders raise many kinds of errors
        raise BadImage(f"the picture is damaged: {_said(exc)}") from exc
    if image.width * image.height > PIXEL_LIMIT:
        limit = f"{PIXEL_LIMIT // 10**6} million"
        raise BadImage(f"the image has {image.width} x {image.height} pixels, more than {limit}")
    return image


def _said(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:300]


def _draft(image: Image.Image) -> None:
    """Decode a very large JPEG at a smaller size, because a progressive JPEG needs twice the memory."""
    factor = math.ceil(max(image.size) / SIDE_LIMIT)
    if factor > 1 and image.width * image.height > MANY_PIXELS:
        image.draft(None, (image.width // factor, image.height // factor))


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(0x0112, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture with 8 bits a sample in mode L, RGB, RGBA or CMYK."""
    if image.mode in GREY_16:
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("I", "F"):
        raise BadImage("the picture has 32 bits a sample: save it with 8 or 16")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("L" if image.mode == "1" else "RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """Return the picture without its alpha channel, if nothing is transparent."""
    if image.mode != "RGBA" or image.getchannel("A").getextrema()[0] != 255:
        return image
    return image.convert("RGB")


def _within_limit(image: Image.Image) -> Image.Image:
    if max(image.size) <= SIDE_LIMIT:
        return image
    if image.width * image.height <= MANY_PIXELS:
        image.thumbnail((SIDE_LIMIT, SIDE_LIMIT), Image.Resampling.LANCZOS)
        return image
    factor = math.ceil(max(image.size) / SIDE_LIMIT)
    width, height = -(-image.width // factor), -(-image.height // factor)
    reduced = Image.new(image.mode, (width, height))
    for top in range(0, height, BAND):
        band = image.crop((0, top * factor, image.width, min((top + BAND) * factor, image.height)))
        reduced.paste(band.reduce(factor), (0, top))
    return reduced


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in sRGB. A profile that littlecms cannot use is ignored, as decoders do."""
    if profile and not is_srgb(profile):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) == image.mode.removesuffix("A"):
                srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
                mode = "RGBA" if image.mode == "RGBA" else "RGB"
                in_place = mode == image.mode
                made = ImageCms.profileToProfile(image, source, srgb, outputMode=mode, inPlace=in_place)
                image = image if made is None else made
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image.convert("RGB") if image.mode == "CMYK" else image


def _encode(image: Image.Image, *, coarse_colours: bool = False) -> bytes:
    """Return a PNG if the picture is transparent, else a JPEG. `coarse_colours` halves the colour resolution."""
    image.info.clear()  # Pillow would write comments and other metadata
    buffer = io.BytesIO()
    if image.mode == "RGBA":
        image.save(buffer, "PNG", compress_level=4)
    else:
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=2 if coarse_colours else 0)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
