"""Parse a WebP file: chunks that fill the RIFF length."""

from posedrop.contract.container import PROFILE_LIMIT, BadImage, Container, Step
from posedrop.contract.icc import is_srgb

WEBP_HEADERS = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}
"""The number of bytes at the start of each chunk that hold the dimensions."""
WEBP_KEPT = frozenset({*WEBP_HEADERS, b"ALPH", b"ANIM", b"ANMF"})
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04
"""The flags in VP8X for a colour profile, EXIF and XMP (WebP container specification)."""


class WebP(Container):
    """Parses WebPs."""

    def _parse_webp(self, left: int) -> Step:
        """Parse the chunks. `left` is the number of bytes after the word WEBP, by the RIFF length."""
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


def _chunk_name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1").strip(" \0"))[1:-1]


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Return width and height from the first 10 bytes of a VP8, VP8L or VP8X chunk."""
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
