"""Parse a JPEG file: markers and segments, up to EOI."""

import re
from collections.abc import Generator

from posedrop.contract.container import BadImage, Container, Step
from posedrop.contract.icc import is_srgb

JPEG_COMMON = frozenset({0xC0, 0xC1, 0xC2})
"""The kinds of frames that every program reads: baseline, extended, progressive."""
JPEG_DECODED = JPEG_COMMON | {0xC3, 0xC9, 0xCA}
"""The kinds that common decoders read: also lossless, and extended and progressive with arithmetic coding."""
JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC, which share the range
JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and the restart markers have no length
SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
JPG0, JPG13 = 0xF0, 0xFD
JFIF_BYTES, ADOBE_BYTES = 14, 12
"""The length of an APP0 and of an APP14 segment without a thumbnail: the part that decoders use."""
# What ends a scan: a marker other than a stuffed FF00, a restart, or the first FF of a run of fill bytes.
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")


class Jpeg(Container):
    """Parses JPEGs."""

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
        """Skip to the next marker. Return its code, and how many bytes of junk were skipped."""
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
        """Read a segment, starting at its length field. A frame header gives the image's size."""
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
                raise BadImage(f"a kind of JPEG that decoders do not read (FF{code:02X} at byte {position})")
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
        """Keep JFIF and Adobe segments without their thumbnails, because decoders use them. Drop all others."""
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
            # An sRGB profile fits into a single segment.
            self._converts = self._converts or body[13:14] != b"\x01" or not is_srgb(body[14:])

    def _scan(self, position: int) -> Generator[None, None, int]:
        """Skip a scan's entropy-coded data. Return the code of the marker that ends it."""
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


def _jpeg_size(body: bytes, length: int) -> tuple[int, int]:
    """Return width and height from a frame header.

    `body` has the precision, height, width and number of components. `length` is the segment's length field.
    """
    height, width, components = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
    if not width:
        raise BadImage("the frame header has a width of 0 pixels")
    if not height:
        raise BadImage("the frame header leaves the height to a later marker (DNL), which is not supported")
    if body[0] != 8:
        raise BadImage(f"a JPEG with {body[0]} bits a sample, which decoders do not read")
    if components not in (1, 3, 4) or length != 8 + 3 * components:
        raise BadImage(f"the frame header has {components} components in {length} bytes")
    return width, height
