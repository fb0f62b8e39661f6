"""Serve outputs of any size and receive uploads in another process, so that the measured process has neither.

GET /<megabytes>.png streams a valid PNG. All other requests get S3's response to an upload, whose body is discarded.
"""

import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection

MEGABYTE = 1_000_000
START_SECONDS = 30


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


HEAD = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
TAIL = _chunk(b"IDAT", zlib.compress(b"\0\0")) + _chunk(b"IEND", b"")
FILLER = _chunk(b"noIs", bytes(MEGABYTE - 12))
"""A private chunk, which every PNG reader ignores."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = re.fullmatch(r"/(\d+)\.png", self.path)
        if not found:
            self.send_error(404)
            return
        megabytes = int(found[1])
        self._begin(len(HEAD) + megabytes * len(FILLER) + len(TAIL))
        self.wfile.write(HEAD)
        for _ in range(megabytes):
            self.wfile.write(FILLER)
        self.wfile.write(TAIL)

    def do_PUT(self) -> None:
        self._take()
        self._begin(0)

    def do_POST(self) -> None:
        self._take()
        kind = "InitiateMultipartUploadResult" if "uploads" in self.path else "CompleteMultipartUploadResult"
        body = f"<{kind}><UploadId>upload-1</UploadId><ETag>etag</ETag></{kind}>".encode()
        self._begin(len(body))
        self.wfile.write(body)

    def _begin(self, length: int) -> None:
        self.send_response(200)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _take(self) -> None:
        left = int(self.headers.get("Content-Length", "0"))
        while left:
            left -= len(self.rfile.read(min(left, 65536)))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _serve(connection: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection.send(server.server_port)
    connection.recv()
    server.shutdown()


@contextmanager
def output_server() -> Iterator[str]:
    """Yield the URL of a server in its own process, which ends with the context."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SECONDS):
            raise TimeoutError("the server of outputs did not start")
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.send(None)
        process.join(5)
        process.kill()
