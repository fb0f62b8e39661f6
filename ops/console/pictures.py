"""The images of jobs: read from the buckets, checked before they are served, and reduced once."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from PIL import Image, ImageOps

from ops.errors import NotFound, OpsError
from ops.inspect.local_file import LocalFile
from ops.stack import Stack
from posedrop.aws.record import AnyRecord, Status, WaitingRecord
from posedrop.aws.stored_uploads import GONE
from posedrop.contract import contents, images
from posedrop.contract.container import BadImage
from posedrop.contract.images import SIDE_LIMIT
from posedrop.contract.upload_layout import slug

SIZES = {"thumb": 480, "large": 1600}
"""Pixels of the longer side."""
BYTE_LIMIT = 128 * 1024 * 1024
CACHE_BYTES = 128 * 1024 * 1024
FAILURE_BYTES = 4096
"""What an image that cannot be shown counts in the cache. It is cached, so that it is not decoded again."""
LARGE = 4_000_000
"""Images with more pixels are decoded one at a time, because decoding may need a thousand times the file's size."""
WEBP_PIXELS = 40_000_000
"""The most pixels of a WebP: its decoder needs 16 bytes of memory for each."""
QUALITY = 82
SENT = {"face-sent": "face", "pose-sent": "pose"}
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")


class NoPicture(OpsError):
    """The stored object is no complete picture within the limits, so it is not served."""


@dataclass(frozen=True)
class Source:
    """One stored image. `version` is its version id, or empty if the bucket is not versioned."""

    bucket: str
    key: str
    etag: str = ""
    version: str = ""


@dataclass(frozen=True)
class Picture:
    """An image that was checked. The content type was read from its bytes."""

    data: bytes
    content_type: str
    extension: str
    pixels: int = 0


class Pictures:
    """The images of one stack. Its methods read from S3 and decode, so call them in a thread.

    Raises NotFound and NoPicture; other errors of S3 pass as botocore's ClientError.
    """

    def __init__(self, stack: Stack, cache_bytes: int = CACHE_BYTES) -> None:
        self._stack = stack
        self._limit = cache_bytes
        self._lock, self._large = threading.Lock(), threading.Lock()
        self._made: OrderedDict[Hashable, Future[Picture]] = OrderedDict()
        self._bytes = 0

    def source(self, record: AnyRecord, what: str, number: int = 1) -> Source:
        """Return where a job's face, pose or output (counted from 1) is stored. face-sent and pose-sent are as sent.

        Waiting uploads have a face or a pose only.
        """
        if record.status is Status.WAITING:
            found = self._present(record, what)
        elif what == "output":
            found = _stored(record.outputs[number - 1]) if 1 <= number <= len(record.outputs) else None
        elif what in SENT and (prepared := record.inputs.get(SENT[what], {}).get("prepared")):
            found = Source(self._stack.output("OutputBucketName"), prepared["key"])
        else:
            found = _stored(record.inputs[what]) if what in record.inputs else None
        if found is None:
            raise NotFound(f"{record.job_id} has no {what}{f' {number}' if what == 'output' else ''}")
        return found

    def _present(self, waiting: WaitingRecord, what: str) -> Source | None:
        """Return where the face or pose of waiting uploads is in the bucket now, because no job has read it yet."""
        if what not in ("face", "pose"):
            return None
        files = self._stack.uploads.files(waiting.character, waiting.pose)
        listed = files.face if what == "face" else files.pose
        return Source(self._stack.uploads.name, listed.key, listed.etag) if listed else None

    def get(self, source: Source, size: str) -> Picture:
        """Return the image, reduced unless `size` is "original". Simultaneous calls for one image make it once."""
        if size not in SIZES:
            return self._read(source)
        return self._made_once((source, size), lambda: self._smaller(self._read(source), SIZES[size]))

    def staged(self, staged: LocalFile, size: str) -> Picture:
        """Return a file that is not uploaded yet, reduced and upright."""

        def make() -> Picture:
            return self._smaller(checked("the file", staged.read()), SIZES[size])

        return self._made_once((staged.sha256, size), make)

    def _made_once(self, wanted: Hashable, make: Callable[[], Picture]) -> Picture:
        with self._lock:
            future = self._made.get(wanted)
            mine = future is None
            if future is None:
                future = self._made[wanted] = Future()
            self._made.move_to_end(wanted)
        if mine:
            try:
                picture = make()
            except NoPicture as exc:
                future.set_exception(exc)
                self._keep_within_limit(FAILURE_BYTES)
            except BaseException as exc:
                with self._lock:
                    del self._made[wanted]
                future.set_exception(exc)
                raise
            else:
                future.set_result(picture)
                self._keep_within_limit(len(picture.data))
        return future.result()

    def _smaller(self, picture: Picture, side: int) -> Picture:
        if picture.extension == "webp" and picture.pixels > WEBP_PIXELS:
            raise NoPicture("the image is too large to be shown here: download it")
        with self._large if picture.pixels > LARGE else nullcontext():
            return _smaller(picture, side)

    def _keep_within_limit(self, more: int) -> None:
        with self._lock:
            self._bytes += more
            for wanted, future in list(self._made.items()):
                if self._bytes <= self._limit:
                    break
                if future.done():
                    del self._made[wanted]
                    self._bytes -= FAILURE_BYTES if future.exception() else len(future.result().data)

    def _read(self, source: Source) -> Picture:
        which: dict[str, Any] = {"VersionId": source.version} if source.version else {}
        if source.etag:
            which["IfMatch"] = f'"{source.etag.strip(chr(34))}"'
        try:
            response = self._stack.client("s3").get_object(Bucket=source.bucket, Key=source.key, **which)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in GONE:
                raise NotFound(f"{source.key} does not exist any more") from exc
            raise
        with response["Body"] as body:
            if response["ContentLength"] > BYTE_LIMIT:
                raise NoPicture(f"{source.key} has {response['ContentLength']} bytes, more than are shown")
            return checked(source.key, body.read())


def checked(name: str, data: bytes) -> Picture:
    """Check an image's bytes and return the picture. Raises NoPicture if it is incomplete or beyond the limits."""
    content = contents.content_of(data[: contents.HEAD_BYTES], name)
    if content.type and content.type not in contents.SENT:
        return _convertible(name, data, content.type)
    try:
        info = images.check(data)
    except BadImage as exc:
        raise NoPicture(f"{name} is no image that can be shown: {exc}") from exc
    if max(info.width, info.height) > SIDE_LIMIT:
        raise NoPicture(f"{name} has {info.width} x {info.height} pixels, more than {SIDE_LIMIT} a side")
    return Picture(data, info.content_type, info.extension, info.width * info.height)


def _convertible(name: str, data: bytes, kind: contents.Type) -> Picture:
    """Return a picture of a type that is converted before it is sent. Raises NoPicture."""
    try:
        with _open(data) as image:
            size = image.size
    except Exception as exc:
        raise NoPicture(f"{name} is no image that can be shown: {type(exc).__name__}") from exc
    if max(size) > SIDE_LIMIT:
        raise NoPicture(f"{name} has {size[0]} x {size[1]} pixels, more than {SIDE_LIMIT} a side")
    return Picture(data, str(kind), str(kind).rpartition("/")[2], size[0] * size[1])


def _open(data: bytes) -> Image.Image:
    """Open a picture of any accepted type; HEIC only if its decoder is installed."""
    try:
        import pi_heif  # imported here, because it is optional
    except ImportError:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    pi_heif.register_heif_opener(thumbnails=False)
    return Image.open(io.BytesIO(data), formats=(*FORMATS, "HEIF"))


def file_name(record: AnyRecord, what: str, number: int, picture: Picture) -> str:
    """Return the file name of a downloaded image, in ASCII."""
    counted = f"{what}-{number}" if what == "output" else what
    return f"{slug(record.job_id, 100)}-{counted}.{picture.extension}"


def _stored(stored: Mapping[str, Any]) -> Source:
    return Source(stored["bucket"], stored["key"], stored.get("etag") or "", stored.get("version_id") or "")


def _smaller(picture: Picture, side: int) -> Picture:
    """Return a WebP of at most `side` pixels a side: of an animation, the first frame."""
    try:
        with _open(picture.data) as image:
            image.draft("RGB", (side, side))  # decodes a large JPEG at a lower resolution
            # Reduce first: `convert` copies the image, and so does LANCZOS if it is transparent. NEAREST does not.
            if image.mode in ("RGB", "L"):
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
            else:
                image.thumbnail((4 * side, 4 * side), Image.Resampling.NEAREST)
            small = ImageOps.exif_transpose(image)
            small = small.convert("RGBA" if small.has_transparency_data else "RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=QUALITY, method=3)
    # Pillow's decoders raise nearly anything for what only looks like an image.
    except Exception as exc:
        raise NoPicture(f"the image cannot be decoded: {type(exc).__name__}") from exc
    return Picture(buffer.getvalue(), "image/webp", "webp")
