"""Check whether a file is a whole PNG, JPEG or WebP image that may be sent as it is, without decoding the pixels.

The type comes from the bytes. An image is whole if its structure is complete: PNG chunks with valid CRCs up to IEND,
JPEG markers up to EOI, WebP chunks that fill the RIFF length. Bytes after the end are accepted, as decoders do, because
phones append a second picture or a video to their photographs. The checker keeps only a few bytes of headers in memory,
and at most 64 KiB of EXIF or of a colour profile while it reads them.

Faults that only a decoder can find are not found here, such as damaged or missing pixels.
"""

from dataclasses import dataclass
from enum import StrEnum

from posedrop.contract.container import BadImage, Format, Patch, Step
from posedrop.contract.jpeg import Jpeg
from posedrop.contract.png import PNG_SIGNATURE, Png
from posedrop.contract.webp import WebP

IMAGE_LIMIT = 20 * 1024 * 1024
"""The most bytes of an image that is sent."""
SIDE_LIMIT = 8192
"""The most pixels along each side of an image that is sent."""
UPLOAD_LIMIT = 100 * 1024 * 1024
"""The most bytes of an uploaded image."""
PIXEL_LIMIT = 200_000_000
"""The most pixels of an uploaded image."""

EXTENSIONS: dict[Format, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
ENDS: dict[Format, str] = {"png": "IEND", "jpeg": "EOI", "webp": "the end of its RIFF length"}


class Change(StrEnum):
    """What is done to a picture before it is sent."""

    TURNED = "turned"
    """Turned upright, by its EXIF orientation."""
    CONVERTED = "converted"
    """Converted to sRGB and 8 bits: to a PNG if it is transparent, else to a JPEG. Of an animation, the first frame."""
    REDUCED = "reduced"
    """Scaled down to the limits of pixels and bytes."""
    CLEANED = "cleaned"
    """Metadata is removed: EXIF with the location, texts, thumbnails, further pictures."""


@dataclass(frozen=True)
class ImageInfo:
    """What the file's structure says about the image. `bytes` is the whole file, with any data after the image's end.

    - orientation: from EXIF, 1 (upright) to 8.
    - converts: the image must be converted, because it is not a still picture in sRGB with 8 bits a sample.
    - metadata_bytes: the bytes that are not part of the picture, such as EXIF, colour profiles and data after its end.
    """

    format: Format
    content_type: str
    extension: str
    width: int
    height: int
    bytes: int
    orientation: int = 1
    converts: bool = False
    metadata_bytes: int = 0

    @property
    def changes(self) -> tuple[Change, ...]:
        """What must be done before the image is sent."""
        too_large = max(self.width, self.height) > SIDE_LIMIT or self.bytes - self.metadata_bytes > IMAGE_LIMIT
        wanted = {
            Change.TURNED: self.orientation != 1,
            Change.CONVERTED: self.converts,
            Change.REDUCED: too_large,
            Change.CLEANED: self.metadata_bytes > 0,
        }
        return tuple(change for change, is_wanted in wanted.items() if is_wanted)


def check(data: bytes) -> ImageInfo:
    """Check an image in memory. Raises BadImage."""
    checker = ImageChecker()
    checker.feed(data)
    return checker.close()


class ImageChecker(Png, Jpeg, WebP):
    """Checks an image that arrives in chunks of any size. It needs the same memory for an image of any size.

    `patches` collects the changes that remove the metadata (see `cleaned`).
    """

    def __init__(self, patches: list[Patch] | None = None) -> None:
        super().__init__(patches)
        self._error: BadImage | None = None
        self._whole = False
        self._parser = self._parse()

    @property
    def format(self) -> Format | None:
        """The format, or None until enough bytes were fed."""
        return self._format

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes. Raises BadImage as soon as the file is certainly not a valid image."""
        if self._error:
            raise self._error
        self._chunk, self._at = chunk, 0
        try:
            if not self._whole:
                next(self._parser)
        except StopIteration:
            self._whole = True
            self._end = self._before + self._at
        except BadImage as error:
            self._error = error
            raise
        finally:
            self._before += len(chunk)
            self._chunk, self._at = b"", 0

    def close(self) -> ImageInfo:
        """Return what was found. Raises BadImage if the image is incomplete."""
        if self._error:
            raise self._error
        if self._before == 0:
            raise BadImage("empty: 0 bytes")
        if self._format is None:
            raise BadImage("not a PNG, JPEG or WebP image")
        if not self._whole or self._size is None:
            raise BadImage(f"truncated: ends at byte {self._before}, before {ENDS[self._format]}")
        if self._end < self._before:
            self._drop(self._end, self._before)
        if self._patches is not None and self._format == "webp" and self._metadata_bytes:
            self._patch(4, 8, (self._riff_bytes - self._removed_from_riff).to_bytes(4, "little"))
        return ImageInfo(
            self._format,
            f"image/{self._format}",
            EXTENSIONS[self._format],
            *self._size,
            bytes=self._before,
            orientation=self._orientation or 1,
            converts=self._converts,
            metadata_bytes=self._metadata_bytes,
        )

    @property
    def _removed_from_riff(self) -> int:
        return self._metadata_bytes - (self._before - self._end)

    def _parse(self) -> Step:
        start = yield from self._read(3)
        if start == b"\xff\xd8\xff":
            self._format = "jpeg"
            yield from self._parse_jpeg()
        elif start == PNG_SIGNATURE[:3] and (yield from self._read(5)) == PNG_SIGNATURE[3:]:
            self._format = "png"
            yield from self._parse_png()
        elif start == b"RIF" and (rest := (yield from self._read(9)))[0:1] == b"F" and rest[5:] == b"WEBP":
            self._format = "webp"
            yield from self._parse_webp(int.from_bytes(rest[1:5], "little") - 4)
        else:
            raise BadImage("not a PNG, JPEG or WebP image")


def cleaned(data: bytes, patches: list[Patch]) -> bytes:
    """Return an image without its metadata. `patches` are the ones that its check collected."""
    parts, position = [], 0
    for start, end, replacement in sorted(patches):
        parts += [data[position:start], replacement]
        position = end
    return b"".join([*parts, data[position:]])
