"""Wrong responses and broken connections. `faults.py` documents the faults."""

import asyncio
import gzip
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from local.segmind.faults import FIREWALL, Fault

TEXTS = {
    400: "Invalid parameters",
    401: "Unauthorized: missing or invalid API key",
    403: "Forbidden: insufficient permissions",
    404: "Not found",
    406: "Not enough credits",
    429: "Too many requests",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Gateway timed out",
}
HTML = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"
PNG_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
PNG_CHUNK_BYTES = 256 * 1024
SIGNATURE_BYTES = 12  # kept from an image with garbage in it: it still begins like one
DRIPS = 20


class Reset(Response):
    """Resets the connection (TCP RST) without a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Break the connection, and wait until it is gone."""
        transport: asyncio.Transport = scope["state"]["transport"]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await _gone(receive)


class Hangup(Response):
    """Closes the connection cleanly, but without a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the connection, and wait until it is gone."""
        scope["state"]["transport"].close()
        await _gone(receive)


class Cut(Response):
    """Sends half of the body that Content-Length announces, then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first half."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"]["transport"].close()
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def status_response(fault: Fault) -> Response:
    """Return the response of a fault that is an HTTP status, or the firewall's."""
    if fault.fault == FIREWALL:
        return Response(HTML.format("403 Forbidden"), 403, media_type="text/html")
    status = int(fault.fault)
    headers = {"retry-after": fault.retry_after} if fault.retry_after is not None and status in (429, 503) else {}
    if status == 502:
        return Response(HTML.format("502 Bad Gateway"), status, headers, "text/html")
    return JSONResponse({"error": TEXTS[status]}, status, headers)


def bad_media(fault: Fault, image: bytes, media_type: str) -> Response:
    """Return the response of a fault that spoils an image; for `huge`, `image` must be a PNG."""
    match fault.fault:
        case "broken":
            garbage = random.Random(len(image)).randbytes(len(image) - SIGNATURE_BYTES)  # nosec B311 # not secret
            return Response(image[:SIGNATURE_BYTES] + garbage, media_type=media_type)
        case "truncated":
            return Response(image[: len(image) // 2], media_type=media_type)
        case "cut":
            return Cut(image, media_type=media_type)
        case "slow":
            headers = {"content-length": str(len(image))}
            return StreamingResponse(_dripping(image, fault.seconds), 200, headers, media_type)
        case "packed":
            return Response(gzip.compress(image), 200, {"content-encoding": "gzip"}, media_type)
        case "wrong-type":
            return Response(HTML.format("Welcome"), media_type="text/html")
        case "huge":
            size = max(fault.bytes, len(image) + len(PNG_END))
            return StreamingResponse(
                _in_turns(padded_png(image, size)), 200, {"content-length": str(size)}, "image/png"
            )
        case "redirect":
            return Response(status_code=302, headers={"location": fault.url})
        case _:
            return Response(b"", media_type=media_type)


async def _dripping(image: bytes, seconds: float) -> AsyncIterator[bytes]:
    step = max(1, -(-len(image) // DRIPS))
    for start in range(0, len(image), step):
        await asyncio.sleep(seconds / DRIPS)
        yield image[start : start + step]


async def _in_turns(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


def padded_png(image: bytes, size: int) -> Iterator[bytes]:
    """Yield a PNG of exactly `size` bytes: `image` with private chunks before its end. At least 12 bytes are added."""
    yield image[: -len(PNG_END)]
    room = size - len(image)
    overhead = len(PNG_END)  # of any chunk: length, type, CRC
    full = _private_chunk(PNG_CHUNK_BYTES)
    while room >= len(full) + overhead:
        yield full
        room -= len(full)
    if room > PNG_CHUNK_BYTES + overhead:
        yield _private_chunk(0)
        room -= overhead
    yield _private_chunk(room - overhead)
    yield PNG_END


def _private_chunk(length: int) -> bytes:
    body = b"juNk" + bytes(length)
    return struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
