"""Parse a PNG file: chunks with their CRCs, up to IEND."""

import zlib

from posedrop.contract.container import PROFILE_LIMIT, BadImage, Container, Step
from posedrop.contract.icc import is_srgb

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
"""The chunks that decide how a picture looks. Cleaning removes all others: texts, EXIF, times, further frames."""


class Png(Container):
    """Parses PNGs."""

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


def _unpacked_profile(body: bytes) -> bytes:
    """Return the colour profile of an iCCP chunk, which has a name, a compression method and the compressed profile."""
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
