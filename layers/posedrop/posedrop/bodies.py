"""Reading an answer's body: of a bounded size, in a bounded time, however it is packed."""

import time
import zlib

import httpx

from posedrop.errors import PosedropError


class BodyTooLarge(PosedropError):
    """A body exceeds its limit."""


def read_body(response: httpx.Response, limit: int, deadline: float) -> bytes:
    """The body of an answer that is streamed, at most `limit` bytes, before `deadline` (seconds, monotonic).

    Raises BodyTooLarge, httpx.ReadTimeout, and httpx's other errors.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    plain = encoding in ("", "identity")
    content = bytearray()
    # Unpacked by httpx, a chunk of a few KiB would be a thousand times as large at once.
    for chunk in response.iter_bytes() if plain else response.iter_raw():
        content += chunk
        if len(content) > limit:
            raise BodyTooLarge(f"the answer has more than {limit} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer took too long")
    return bytes(content) if plain else _unpack(content, encoding, limit)


def _unpack(content: bytearray, encoding: str, limit: int) -> bytes:
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError("the answer is packed, though it was not asked to be")
    try:
        # 47: with a header of gzip or of zlib, whichever is there.
        unpacked = zlib.decompressobj(47).decompress(content, limit + 1)
    except zlib.error as exc:
        raise httpx.DecodingError(f"the answer cannot be unpacked: {exc}") from exc
    if len(unpacked) > limit:
        raise BodyTooLarge(f"the answer has more than {limit} bytes")
    return unpacked
