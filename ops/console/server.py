"""Serves the console on 127.0.0.1."""

import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress
from types import FrameType

import uvicorn

from ops.console.app import Console, create_app
from ops.stack import Stack


class Server(uvicorn.Server):
    """Serves a stack's console on a local port. There is no access log, because it would contain the token."""

    def __init__(self, stack: Stack, token: str, port: int, code: str = "") -> None:
        self.console = Console(stack)
        app = create_app(self.console, token, port, code)
        super().__init__(
            uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=1
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first Ctrl-C. Ignore a second one, which would make uvicorn skip the shutdown."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, which never end by themselves, then shut down."""
        self.console.feed.events.close()
        await super().shutdown(sockets)


def serve(stack: Stack, port: int = 0, *, open_browser: bool = True, say: Callable[[str], None] = print) -> None:
    """Serve the console on 127.0.0.1 until it is interrupted. Calls `say` with the URL. Raises OSError if it cannot."""
    token, code = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with closing(bind(port)) as listener:
        port = listener.getsockname()[1]
        address = f"http://127.0.0.1:{port}/"
        server = Server(stack, token, port, code)
        listener.listen()  # now, because the browser may connect before the server runs
        say(f"{address}?token={token}")
        if open_browser and _has_screen():
            webbrowser.open(f"{address}?code={code}")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def bind(port: int) -> socket.socket:
    """Return a socket that is bound to a port of 127.0.0.1, 0 for any free one. Raises OSError.

    The protocol is named because asyncio sets TCP_NODELAY only then. Without it each response that has a body waits
    for the browser's delayed acknowledgement, 40 ms on Linux.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _has_screen() -> bool:
    """Return whether a browser would open in a window. A text browser would block the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
