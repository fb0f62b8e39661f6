"""Is this a whole PNG, JPEG or WebP image, and may it be sent as it is? Answered from its container, without decoding.

The type comes from the bytes. An image is whole when its container says so: PNG chunks with their CRCs up to IEND,
JPEG markers up to EOI, WebP chunks that fill the RIFF length. Bytes after that end are accepted and counted, as all
decoders do: phones append a second picture or a film to their photographs. Nothing is kept but a few bytes of headers,
and at most 64 KiB of EXIF or of a colour profile while they are read.

What only a decoder finds is not found here: damaged pixels, a picture that unpacks to less than its size.
"""

import re
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from posedrop.exif import read_orientation
from posedrop.icc import is_srgb

Format = Literal["png", "jpeg", "webp"]
Step = Generator[None, None, None]
Patch = tuple[int, int, bytes]
"""Bytes from the first position up to the second, and what takes their place."""

IMAGE_LIMIT = 20 * 1024 * 1024
"""Bytes of an image that is sent."""
SIDE_LIMIT = 8192
"""Pixels a side of an image that is sent."""
UPLOAD_LIMIT = 100 * 1024 * 1024
"""Bytes of an uploaded image."""
PIXEL_LIMIT = 200_000_000
"""Pixels of an uploaded image."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
PNG_PALETTE = 3
PNG_KEPT = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"cICP",
        b"sBIT",
        b"bKGD",
        b"hIST",
        b"pHYs",
    }
)
"""The chunks that say how a picture looks. All others go when it is cleaned: texts, EXIF, times, further frames."""
JPEG_COMMON = frozenset({0xC0, 0xC1, 0xC2})
"""The frames that everything reads: baseline, extended, progressive."""
JPEG_DECODED = JPEG_COMMON | {0xC3, 0xC9, 0xCA}
"""Those that decoders read: also lossless, and extended and progressive in arithmetic coding."""
JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC, which share the range
JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and the restart markers have no length
SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
JPG0, JPG13 = 0xF0, 0xFD
JFIF_BYTES, ADOBE_BYTES = 14, 12
"""Of an APP0 and an APP14 that have no more than what decoders go by: no thumbnail."""
# What ends a scan: a marker other than a stuffed FF00, a restart, or the first FF of a run of fill bytes.
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
WEBP_HEADERS = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}
"""The bytes with the dimensions."""
WEBP_KEPT = frozenset({*WEBP_HEADERS, b"ALPH", b"ANIM", b"ANMF"})
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04
"""Of VP8X: a colour profile, EXIF, XMP (WebP container specification)."""
PROFILE_LIMIT = 64 * 1024
"""Bytes of EXIF or of a colour profile that are looked at. One of sRGB has a few thousand."""
MAX_PARTS = 250_000  # chunks or segments; real files have thousands, an attacker's 250 MB of empty ones cost minutes

EXTENSIONS: dict[Format, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
ENDS: dict[Format, str] = {"png": "IEND", "jpeg": "EOI", "webp": "the end of its RIFF length"}


class Change(StrEnum):
    """What is done to a picture before it is sent."""

    TURNED = "turned"
    """Upright, as its EXIF orientation says."""
    CONVERTED = "converted"
    """To sRGB and 8 bits, as a JPEG, or as a PNG where it is transparent; of an animation the first frame."""
    REDUCED = "reduced"
    """To the limits of pixels and bytes."""
    CLEANED = "cleaned"
    """What does not belong to the picture is gone: EXIF with the place, texts, thumbnails, further pictures."""


class BadImage(ValueError):
    """The bytes are not a whole image; the message is one line for a person."""


@dataclass(frozen=True)
class ImageInfo:
    """What the container says. `bytes` counts everything that was fed, data after the image's end included.

    orientation: EXIF's, 1 (upright) to 8. converts: it is no still picture in sRGB with 8 bits a sample.
    metadata_bytes: those that do not belong to the picture, colour profiles and data after its end among them.
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
        """What is to be done before the image is sent."""
        too_large = max(self.width, self.height) > SIDE_LIMIT or self.bytes - self.metadata_bytes > IMAGE_LIMIT
        wanted = {
            Change.TURNED: self.orientation != 1,
            Change.CONVERTED: self.converts,
            Change.REDUCED: too_large,
            Change.CLEANED: self.metadata_bytes > 0,
        }
        return tuple(change for change, is_wanted in wanted.items() if is_wanted)


def check(data: bytes) -> ImageInfo:
    """Check an image that is held in memory. Raises BadImage."""
    checker = ImageChecker()
    checker.feed(data)
    return checker.close()


class ImageChecker:
    """Checks an image that arrives in chunks of any sizes; memory does not grow with them.

    `patches` collects what makes the image a clean one (see `cleaned`).
    """

    def __init__(self, patches: list[Patch] | None = None) -> None:
        self._patches = patches
        self._orientation = 0  # not seen yet
        self._converts = False
        self._metadata_bytes = 0
        self._has_data = False
        self._lacks_palette = False
        self._riff_bytes = 0
        self._end = 0  # of the image, once it is whole
        self._format: Format | None = None
        self._size: tuple[int, int] | None = None
        self._chunk = b""
        self._at = 0  # position in the chunk
        self._before = 0  # bytes fed before the chunk
        self._parts = 0
        self._error: BadImage | None = None
        self._whole = False
        self._parser = self._parse()

    @property
    def format(self) -> Format | None:
        """The format, once the first bytes have told it."""
        return self._format

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises BadImage as soon as it is certain that they are no sound image."""
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
        """Say what the image is. Raises BadImage if its end is missing."""
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

    # What does not belong to the picture.

    @property
    def _removed_from_riff(self) -> int:
        return self._metadata_bytes - (self._before - self._end)

    def _drop(self, start: int, end: int) -> None:
        """Take these bytes for ones that do not belong to the picture."""
        self._metadata_bytes += end - start
        self._patch(start, end, b"")

    def _patch(self, start: int, end: int, replacement: bytes) -> None:
        if self._patches is not None:
            self._patches.append((start, end, replacement))

    def _oriented(self, exif: bytes) -> None:
        """The first EXIF counts."""
        self._orientation = self._orientation or read_orientation(exif)

    @property
    def _position(self) -> int:
        return self._before + self._at

    # The parsers are generators: each yields when it needs the next chunk, and returns at the image's end.

    def _read(self, count: int) -> Generator[None, None, bytes]:
        """The next `count` bytes, a few: they are collected in memory."""
        data = self._chunk[self._at : self._at + count]
        self._at += len(data)
        while len(data) < count:
            yield
            more = self._chunk[: count - len(data)]
            self._at += len(more)
            data += more
        return data

    def _skip(self, count: int, crc: int = 0, want_crc: bool = False) -> Generator[None, None, int]:
        """Pass over `count` bytes, any number, and return their CRC-32 (continued from `crc`) if it is wanted."""
        while True:
            step = min(count, len(self._chunk) - self._at)
            if want_crc:
                crc = zlib.crc32(memoryview(self._chunk)[self._at : self._at + step], crc)
            self._at += step
            count -= step
            if not count:
                return crc
            yield

    def _count_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadImage(f"more than {MAX_PARTS} chunks")

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

    def _parse_png(self) -> Step:
        previous = b""
        while previous != b"IEND":
            self._count_part()
            position = self._position
            header = yield from self._read(8)
            length, kind = int.from_bytes(header[:4], "big"), header[4:]
            if not (kind.isalpha() and length < 2**31):
                raise BadImage(f"no PNG chunk at byte {position}")
            self._check_png_order(kind, length, previous, position)
            if kind in (b"IHDR", b"eXIf", b"iCCP") and length <= PROFILE_LIMIT:
                body = yield from self._read(length)
                crc = zlib.crc32(kind + body)
            else:
                body = b""
                crc = yield from self._skip(length, zlib.crc32(kind), want_crc=True)
            if int.from_bytes((yield from self._read(4)), "big") != crc:
                raise BadImage(f"chunk {kind.decode('ascii')} at byte {position} has a wrong CRC")
            if kind not in PNG_KEPT:
                self._drop(position, self._position)
            self._learn_from_png(kind, body)
            previous = kind

    def _check_png_order(self, kind: bytes, length: int, previous: bytes, position: int) -> None:
        name = kind.decode("ascii")
        if (self._size is None) != (kind == b"IHDR"):
            raise BadImage(f"chunk {name} at byte {position}, where IHDR must come first and once")
        if kind == b"IHDR" and length != 13:
            raise BadImage(f"IHDR has {length} bytes, not 13")
        if kind == b"PLTE":
            if self._has_data or length % 3 or not 3 <= length <= 768:
                raise BadImage(f"chunk PLTE at byte {position} is no palette")
            self._lacks_palette = False
        elif kind == b"IDAT":
            if self._has_data and previous != b"IDAT":
                raise BadImage(f"chunk IDAT at byte {position} is apart from the others")
            if self._lacks_palette:
                raise BadImage("the palette (PLTE) is missing")
            self._has_data = self._has_data or length > 0
        elif kind == b"IEND" and not self._has_data:
            raise BadImage("no image data: IEND comes before any IDAT")

    def _learn_from_png(self, kind: bytes, body: bytes) -> None:
        if kind == b"IHDR":
            self._size = _png_size(body)
            depth, colour = body[8], body[9]
            self._converts, self._lacks_palette = depth > 8, colour == PNG_PALETTE
        elif kind == b"eXIf":
            self._oriented(body)
        elif kind == b"iCCP":
            self._converts = self._converts or not is_srgb(_unpacked_profile(body))

    def _parse_jpeg(self) -> Step:
        code = (yield from self._read(1))[0]  # the FF of the first marker was read with the signature
        begin, has_scan = 2, False
        while True:
            self._count_part()
            position = self._position - 2
            if position > begin:  # fill bytes, or junk, which decoders skip
                self._patch(begin, position, b"")
            if code == EOI:
                if not has_scan:
                    raise BadImage("no image data: EOI comes before any scan")
                return
            if code not in JPEG_STANDALONE:
                yield from self._segment(code, position)
            if code == SOS:
                code = yield from self._scan(position)
                has_scan = True
                begin = self._position - 2
                continue
            begin = self._position
            code, junk = yield from self._next_marker()
            self._metadata_bytes += junk

    def _next_marker(self) -> Generator[None, None, tuple[int, int]]:
        """Pass over whatever is before the next marker; return its code, and how many bytes of junk that were."""
        junk = 0
        pending = False  # the last chunk ended with FF
        while True:
            begin = self._at
            if pending and begin < len(self._chunk) and self._chunk[begin] not in (0x00, 0xFF):
                self._at += 1
                return self._chunk[begin], junk
            found = JPEG_MARKER.search(self._chunk, begin)
            end = found.start() if found else len(self._chunk)
            junk += end - begin - self._chunk.count(b"\xff", begin, end)
            if found:
                self._at = found.end()
                return self._chunk[self._at - 1], junk
            pending = self._chunk[-1] == 0xFF if begin < len(self._chunk) else pending
            self._at = len(self._chunk)
            yield

    def _segment(self, code: int, position: int) -> Step:
        """Pass over a JPEG segment from its length on; a frame header gives the size."""
        if code < 0xC0 or code == SOI:
            raise BadImage(f"marker FF{code:02X} at byte {position} has no place in a JPEG")
        length = int.from_bytes((yield from self._read(2)), "big")
        if length < 2:
            raise BadImage(f"segment FF{code:02X} at byte {position} has length {length}")
        unread = length - 2
        if code in JPEG_SOF:
            if self._size is not None:
                raise BadImage(f"a second frame header at byte {position}")
            if code not in JPEG_DECODED:
                raise BadImage(f"a kind of JPEG that no decoder reads (FF{code:02X} at byte {position})")
            if length < 11:
                raise BadImage(f"the frame header at byte {position} has length {length}")
            body = yield from self._read(6)
            self._size = _jpeg_size(body, length)
            self._converts = self._converts or code not in JPEG_COMMON or body[5] == 4  # CMYK
            unread -= 6
        elif code == SOS and self._size is None:
            raise BadImage(f"a scan at byte {position}, before any frame header")
        elif APP0 <= code <= APP15 or code == COM or JPG0 <= code <= JPG13:
            body = yield from self._read(unread)
            self._application_data(code, body, position)
            return
        yield from self._skip(unread)

    def _application_data(self, code: int, body: bytes, position: int) -> None:
        """Keep what decoders go by: JFIF and Adobe's marker, without their thumbnails."""
        end = self._position
        if code == APP0 and body[:5] == b"JFIF\0" and len(body) >= JFIF_BYTES:
            if len(body) > JFIF_BYTES:
                self._metadata_bytes += len(body) - JFIF_BYTES
                self._patch(position, end, b"\xff\xe0\0\x10" + body[:12] + b"\0\0")
            return
        if code == APP14 and body[:5] == b"Adobe" and len(body) >= ADOBE_BYTES:
            if len(body) > ADOBE_BYTES:
                self._metadata_bytes += len(body) - ADOBE_BYTES
                self._patch(position, end, b"\xff\xee\0\x0e" + body[:ADOBE_BYTES])
            return
        self._drop(position, end)
        if code == APP1 and body[:6] == b"Exif\0\0":
            self._oriented(body[6:])
        elif code == APP2 and body[:12] == b"ICC_PROFILE\0":
            # One of sRGB needs a single segment.
            self._converts = self._converts or body[13:14] != b"\x01" or not is_srgb(body[14:])

    def _scan(self, position: int) -> Generator[None, None, int]:
        """Pass over a scan's entropy-coded data and return the code of the marker that ends it."""
        start = self._position
        pending = False  # the last chunk ended with FF
        while True:
            if pending and self._at < len(self._chunk):
                code = self._chunk[self._at]
                if not (code in (0x00, 0xFF) or 0xD0 <= code <= 0xD7):
                    self._at += 1
                    break
            found = JPEG_SCAN_END.search(self._chunk, self._at)
            if found:
                self._at = found.end()
                code = self._chunk[self._at - 1]
                break
            pending = self._chunk[-1] == 0xFF if self._at < len(self._chunk) else pending
            self._at = len(self._chunk)
            yield
        if self._position - 2 == start:
            raise BadImage(f"the scan at byte {position} has no data")
        return code

    def _parse_webp(self, left: int) -> Step:
        """`left`: bytes that the RIFF length leaves after the word WEBP."""
        self._riff_bytes = left + 4
        extended, first = False, True
        while left:
            self._count_part()
            position = self._position
            if left < 8:
                raise BadImage(f"{left} bytes left at byte {position}: the chunks do not fill the RIFF length")
            header = yield from self._read(8)
            kind, length = header[:4], int.from_bytes(header[4:], "little")
            left -= 8
            if length > left:
                raise BadImage(f"chunk {_chunk_name(kind)} at byte {position} is longer than the RIFF length allows")
            if first and kind not in WEBP_HEADERS:
                raise BadImage(f"the first chunk is {_chunk_name(kind)}, not VP8, VP8L or VP8X")
            padded = min(length + length % 2, left)  # some writers leave out the padding of the last chunk
            body = b""
            if kind in WEBP_HEADERS and (first or extended):
                body = yield from self._read(min(length, WEBP_HEADERS[kind]))
                self._learn_size(kind, body, position)
            elif kind in (b"EXIF", b"ICCP"):
                body = yield from self._read(min(length, PROFILE_LIMIT))
                self._webp_metadata(kind, body)
            yield from self._skip(padded - len(body))
            extended, first = extended or kind == b"VP8X", False
            self._has_data = self._has_data or kind in (b"VP8 ", b"VP8L", b"ANMF")
            self._converts = self._converts or kind == b"ANMF"
            left -= padded
            if kind not in WEBP_KEPT:
                self._drop(position, self._position)
        if not self._has_data:
            raise BadImage("no image data: no VP8, VP8L or ANMF chunk")

    def _learn_size(self, kind: bytes, body: bytes, position: int) -> None:
        name = _chunk_name(kind)
        if len(body) < WEBP_HEADERS[kind]:
            raise BadImage(f"chunk {name} at byte {position} has {len(body)} bytes, fewer than its header")
        size = _webp_size(kind, body)
        if self._size not in (None, size):
            raise BadImage(f"chunk {name} at byte {position} is {size[0]}x{size[1]}, unlike its canvas")
        self._size = size
        if kind == b"VP8X" and body[0] & WEBP_METADATA_FLAGS:
            self._patch(position + 8, position + 9, bytes([body[0] & ~WEBP_METADATA_FLAGS]))

    def _webp_metadata(self, kind: bytes, body: bytes) -> None:
        if kind == b"EXIF":
            self._oriented(body.removeprefix(b"Exif\0\0"))  # some writers leave JPEG's prefix there
        else:
            self._converts = self._converts or not is_srgb(body)


def cleaned(data: bytes, patches: list[Patch]) -> bytes:
    """Return an image without what does not belong to the picture. `patches` are those of its check."""
    parts, position = [], 0
    for start, end, replacement in sorted(patches):
        parts += [data[position:start], replacement]
        position = end
    return b"".join([*parts, data[position:]])


def _unpacked_profile(body: bytes) -> bytes:
    """The colour profile in an iCCP chunk: a name, the compression's number, the packed profile."""
    try:
        return zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], PROFILE_LIMIT)
    except zlib.error:
        return b""


def _png_size(body: bytes) -> tuple[int, int]:
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    depth, colour, compression, filtering, interlace = body[8:]
    if not (1 <= width < 2**31 and 1 <= height < 2**31):
        raise BadImage(f"IHDR says {width}x{height} pixels")
    if depth not in PNG_BIT_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BadImage("IHDR names a pixel format that PNG does not have")
    return width, height


def _jpeg_size(body: bytes, length: int) -> tuple[int, int]:
    """`body`: precision, height, width, number of components; `length`: the segment's, its own two bytes included."""
    height, width, components = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
    if not width:
        raise BadImage("the frame header says a width of 0 pixels")
    if not height:
        raise BadImage("the frame header leaves the height to a later marker (DNL), which is not supported")
    if body[0] != 8:
        raise BadImage(f"a JPEG with {body[0]} bits a sample, which decoders do not read")
    if components not in (1, 3, 4) or length != 8 + 3 * components:
        raise BadImage(f"the frame header has {components} components in {length} bytes")
    return width, height


def _chunk_name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1").strip(" \0"))[1:-1]


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Dimensions from the first 10 bytes of a VP8, VP8L or VP8X chunk."""
    if kind == b"VP8 ":
        if body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
            raise BadImage("the VP8 data does not begin with a key frame")
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        if body[0] != 0x2F or bits >> 29:
            raise BadImage("the VP8L data has no signature")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
    if not width or not height:
        raise BadImage(f"the {kind.decode('ascii').strip()} chunk says {width}x{height} pixels")
    return width, height
