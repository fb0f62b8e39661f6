"""Is this a whole PNG, JPEG or WebP image? Answered from its container, chunk by chunk, without decoding a pixel.

The type comes from the bytes. An image is whole when its container says so: PNG chunks with their CRCs up to IEND,
JPEG markers up to EOI, WebP chunks that fill the RIFF length. Bytes after that end are accepted and counted, as all
decoders do: phones append a second picture or a film to their photographs. Nothing is kept but a few bytes of headers.
"""

import re
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

Format = Literal["png", "jpeg", "webp"]
Step = Generator[None, None, None]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC, which share the range
JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and the restart markers have no length
SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
# What ends a scan: a marker other than a stuffed FF00, a restart, or the first FF of a run of fill bytes.
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
MAX_PARTS = 250_000  # chunks or segments; real files have thousands, an attacker's 250 MB of empty ones cost minutes

EXTENSIONS: dict[Format, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
ENDS: dict[Format, str] = {"png": "IEND", "jpeg": "EOI", "webp": "the end of its RIFF length"}


class BadImage(ValueError):
    """The bytes are not a whole image; the message is one line for a person."""


@dataclass(frozen=True)
class ImageInfo:
    """What the container says. `bytes` counts everything that was fed, data after the image's end included."""

    format: Format
    content_type: str
    extension: str
    width: int
    height: int
    bytes: int


def check(data: bytes) -> ImageInfo:
    """Check an image that is held in memory. Raises BadImage."""
    checker = ImageChecker()
    checker.feed(data)
    return checker.close()


class ImageChecker:
    """Checks an image that arrives in chunks of any sizes; memory does not grow with them."""

    def __init__(self) -> None:
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
        return ImageInfo(
            self._format, f"image/{self._format}", EXTENSIONS[self._format], *self._size, bytes=self._before
        )

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
        data_bytes = 0
        while True:
            self._count_part()
            position = self._before + self._at
            header = yield from self._read(8)
            length, kind = int.from_bytes(header[:4], "big"), header[4:]
            if not (kind.isalpha() and length < 2**31):
                raise BadImage(f"no PNG chunk at byte {position}")
            name = kind.decode("ascii")
            if (self._size is None) != (kind == b"IHDR"):
                raise BadImage(f"chunk {name} at byte {position}, where IHDR must come first and once")
            if kind == b"IHDR":
                if length != 13:
                    raise BadImage(f"IHDR has {length} bytes, not 13")
                body = yield from self._read(13)
                self._size = _png_size(body)
                crc = zlib.crc32(kind + body)
            else:
                crc = yield from self._skip(length, zlib.crc32(kind), want_crc=True)
            if int.from_bytes((yield from self._read(4)), "big") != crc:
                raise BadImage(f"chunk {name} at byte {position} has a wrong CRC")
            if kind == b"IDAT":
                data_bytes += length
            if kind == b"IEND":
                if not data_bytes:
                    raise BadImage("no image data: IEND comes before any IDAT")
                return

    def _parse_jpeg(self) -> Step:
        code = (yield from self._read(1))[0]  # the FF of the first marker was read with the signature
        has_scan = False
        while True:
            self._count_part()
            while code == 0xFF:  # fill bytes before a marker
                code = (yield from self._read(1))[0]
            position = self._before + self._at - 2
            if code == EOI:
                if not has_scan:
                    raise BadImage("no image data: EOI comes before any scan")
                return
            if code not in JPEG_STANDALONE:
                yield from self._segment(code, position)
            if code == SOS:
                code = yield from self._scan(position)
                has_scan = True
                continue
            position = self._before + self._at
            if (yield from self._read(1)) != b"\xff":
                raise BadImage(f"no JPEG marker at byte {position}")
            code = (yield from self._read(1))[0]

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
            if length < 11:
                raise BadImage(f"the frame header at byte {position} has length {length}")
            self._size = _jpeg_size((yield from self._read(6)), length)
            unread -= 6
        elif code == SOS and self._size is None:
            raise BadImage(f"a scan at byte {position}, before any frame header")
        yield from self._skip(unread)

    def _scan(self, position: int) -> Generator[None, None, int]:
        """Pass over a scan's entropy-coded data and return the code of the marker that ends it."""
        start = self._before + self._at
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
        if self._before + self._at - 2 == start:
            raise BadImage(f"the scan at byte {position} has no data")
        return code

    def _parse_webp(self, left: int) -> Step:
        """`left`: bytes that the RIFF length leaves after the word WEBP."""
        extended = has_data = False
        first = True
        while left:
            self._count_part()
            position = self._before + self._at
            if left < 8:
                raise BadImage(f"{left} bytes left at byte {position}: the chunks do not fill the RIFF length")
            header = yield from self._read(8)
            kind, length = header[:4], int.from_bytes(header[4:], "little")
            left -= 8
            if not all(0x20 <= byte <= 0x7E for byte in kind):
                raise BadImage(f"no WebP chunk at byte {position}")
            name = kind.decode("ascii").strip()
            if length > left:
                raise BadImage(f"chunk {name} at byte {position} is longer than the RIFF length allows")
            if first and kind not in (b"VP8 ", b"VP8L", b"VP8X"):
                raise BadImage(f"the first chunk is {name}, not VP8, VP8L or VP8X")
            unread = length
            if kind in (b"VP8 ", b"VP8L", b"VP8X") and (first or extended):
                if length < 10:
                    raise BadImage(f"chunk {name} at byte {position} has {length} bytes, fewer than its header")
                size = _webp_size(kind, (yield from self._read(10)))
                unread -= 10
                if self._size not in (None, size):
                    raise BadImage(f"chunk {name} at byte {position} is {size[0]}x{size[1]}, unlike its canvas")
                self._size = size
            extended = extended or kind == b"VP8X"
            has_data = has_data or kind in (b"VP8 ", b"VP8L", b"ANMF")
            first = False
            padded = min(length + length % 2, left)  # some writers leave out the padding of the last chunk
            yield from self._skip(unread + padded - length)
            left -= padded
        if not has_data:
            raise BadImage("no image data: no VP8, VP8L or ANMF chunk")


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
    if not components or length != 8 + 3 * components:
        raise BadImage(f"the frame header has {components} components in {length} bytes")
    return width, height


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
