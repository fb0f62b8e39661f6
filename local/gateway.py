"""MiniStack, with its loopback connections counted as TLS: `GATEWAY_PORT=4566 python -m local.gateway`.

The template's policies deny whatever does not come over TLS, and MiniStack evaluates them. Here, as behind a load
balancer that ends TLS, the connection itself is plain; so its scheme is told to be https, and the policies stay as they
are on AWS.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app  # type: ignore[import-untyped]

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]

_plain = ministack.app.app


async def app(scope: Scope, receive: Channel, send: Channel) -> None:
    """MiniStack's ASGI application behind a TLS that is not there."""
    if scope["type"] == "http":
        scope = {**scope, "scheme": "https"}
    await _plain(scope, receive, send)


if __name__ == "__main__":
    ministack.app.app = app
    ministack.app.main()
