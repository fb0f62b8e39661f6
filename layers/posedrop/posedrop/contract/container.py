"""The base of the image parsers: a cursor over chunks of bytes, and what was found so far."""

import zlib
from collections.abc import Generator
from typing import Literal

from posedrop.contract.exif import read_orientation

Format = Literal["png", "jpeg", "webp"]
Step = Generator[None, None, None]
Patch = tuple[int, int, bytes]
"""Start and end of a range of bytes, and the bytes that replace it."""

PROFILE_LIMIT = 64 * 1024
"""At most this many bytes of EXIF or of a colour profile are read. An sRGB profile has a few thousand."""
MAX_PARTS = 250_000  # chunks or segments; real files have thousands, an attacker's 250 MB of empty ones cost minutes


class BadImage(ValueError):
    """The bytes are not a whole image. The message is one line for people."""


class Container:
    """Reads an image file that arrives in chunks of any size.

    A parser is a generator: it yields when it needs the next chunk, and returns at the image's end.
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

    def _drop(self, start: int, end: int) -> None:
        """Record that these bytes are metadata, not picture."""
        self._metadata_bytes += end - start
        self._patch(start, end, b"")

    def _patch(self, start: int, end: int, replacement: bytes) -> None:
        if self._patches is not None:
            self._patches.append((start, end, replacement))

    def _oriented(self, exif: bytes) -> None:
        """Record the orientation. If there are several EXIF blocks, the first one counts."""
        self._orientation = self._orientation or read_orientation(exif)

    @property
    def _position(self) -> int:
        return self._before + self._at

    def _read(self, count: int) -> Generator[None, None, bytes]:
        """Return the next `count` bytes. They are collected in memory, so use it for a few bytes only."""
        data = self._chunk[self._at : self._at + count]
        self._at += len(data)
        while len(data) < count:
            yield
            more = self._chunk[: count - len(data)]
            self._at += len(more)
            data += more
        return data

    def _skip(self, count: int, crc: int = 0, want_crc: bool = False) -> Generator[None, None, int]:
        """Skip `count` bytes, any number. With `want_crc`, return their CRC-32, continued from `crc`."""
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
