"""Read the body of a response within a limit of bytes and time, also if it is compressed."""

import time
import zlib
from collections.abc import Iterable, Iterator

import httpx

from posedrop.contract.errors import BodyTooLarge

PACKED = ("gzip", "x-gzip", "deflate")
HEADER = 47
"""zlib's code for: expect a gzip or a zlib header."""


def read_body(response: httpx.Response, limit: int, deadline: float) -> bytes:
    """Return the body of a streamed response: at most `limit` bytes, before `deadline` (seconds, monotonic).

    Raises BodyTooLarge, httpx.ReadTimeout, and httpx's other errors.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    plain = encoding in ("", "identity")
    content = bytearray()
    # If httpx decompressed it, a chunk of a few KiB could suddenly become a thousand times as large.
    for chunk in response.iter_bytes() if plain else response.iter_raw():
        content += chunk
        if len(content) > limit:
            raise BodyTooLarge(f"the response has more than {limit} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the response took too long")
    return bytes(content) if plain else _unpack(content, encoding, limit)


PIECE = 256 * 1024
"""The most bytes that are decompressed at once. It bounds the memory, however well the body is compressed."""


def unpacked(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the decompressed bytes of a streamed body in pieces, so that the caller can count them.

    `encoding` is its Content-Encoding. Raises httpx.DecodingError if that is neither gzip nor deflate, or if the body
    ends too early.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in PACKED:
        raise httpx.DecodingError("the body is compressed, although the request asked for an uncompressed one")
    unpacker, ended = zlib.decompressobj(HEADER), False
    for chunk in chunks:
        data, more = chunk, bool(chunk)
        while more:
            if ended:  # a gzip body may have several members (RFC 1952)
                unpacker = zlib.decompressobj(HEADER)
            try:
                piece = unpacker.decompress(data, PIECE)
            except zlib.error as exc:
                raise httpx.DecodingError(f"the body cannot be decompressed: {exc}") from exc
            if piece:
                yield piece
            ended = unpacker.eof
            data = unpacker.unused_data if ended else unpacker.unconsumed_tail
            more = bool(data) or (len(piece) == PIECE and not ended)  # the same input may give further pieces
    if not ended:
        raise httpx.DecodingError("the body ends too early")


def _unpack(content: bytearray, encoding: str, limit: int) -> bytes:
    if encoding not in PACKED:
        raise httpx.DecodingError("the response is compressed, although the request asked for an uncompressed one")
    try:
        whole = zlib.decompressobj(HEADER).decompress(content, limit + 1)
    except zlib.error as exc:
        raise httpx.DecodingError(f"the response cannot be decompressed: {exc}") from exc
    if len(whole) > limit:
        raise BodyTooLarge(f"the response has more than {limit} bytes")
    return whole
