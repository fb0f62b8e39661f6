"""Reading an answer's body: of a bounded size, in a bounded time, however it is packed."""

import time
import zlib
from collections.abc import Iterable, Iterator

import httpx

from posedrop.errors import PosedropError

PACKED = ("gzip", "x-gzip", "deflate")
HEADER = 47
"""For zlib: a header of gzip or of zlib, whichever is there."""


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


PIECE = 256 * 1024
"""Bytes that are unpacked at once: memory does not grow with what they unfold to."""


def unpacked(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the bytes of a streamed body, whatever its Content-Encoding is: in pieces, so that the caller can count.

    Raises httpx.DecodingError where it is packed in another way than gzip or deflate, or ends too early.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in PACKED:
        raise httpx.DecodingError("the body is packed, though it was not asked to be")
    unpacker, ended = zlib.decompressobj(HEADER), False
    for chunk in chunks:
        data, more = chunk, bool(chunk)
        while more:
            if ended:  # a gzip body may have several members (RFC 1952)
                unpacker = zlib.decompressobj(HEADER)
            try:
                piece = unpacker.decompress(data, PIECE)
            except zlib.error as exc:
                raise httpx.DecodingError(f"the body cannot be unpacked: {exc}") from exc
            if piece:
                yield piece
            ended = unpacker.eof
            data = unpacker.unused_data if ended else unpacker.unconsumed_tail
            more = bool(data) or (len(piece) == PIECE and not ended)  # what is read may unfold to further pieces
    if not ended:
        raise httpx.DecodingError("the body ends too early")


def _unpack(content: bytearray, encoding: str, limit: int) -> bytes:
    if encoding not in PACKED:
        raise httpx.DecodingError("the answer is packed, though it was not asked to be")
    try:
        whole = zlib.decompressobj(HEADER).decompress(content, limit + 1)
    except zlib.error as exc:
        raise httpx.DecodingError(f"the answer cannot be unpacked: {exc}") from exc
    if len(whole) > limit:
        raise BodyTooLarge(f"the answer has more than {limit} bytes")
    return whole
