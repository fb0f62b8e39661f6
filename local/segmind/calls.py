"""Count the calls of the provider's routes, by status."""

import asyncio
import re
import time
from collections import Counter, deque
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_CALLS = 100_000
ROUTES = [
    (name, re.compile(pattern))
    for name, pattern in (
        ("status", r"GET /v2/requests/[^/]+/status"),
        ("result", r"GET /v2/requests/[^/]+"),
        ("poll", r"GET /v1/requests/[^/]+"),
        ("submit", r"POST /v2/[^/]+"),
        ("submit-sync", r"POST /v1/[^/]+"),
        ("history", r"GET /inference-request/request-history(/[^/]+)?"),
        ("media", r"GET /media/.+"),
        ("credits", r"GET /v1/get-user-credits"),
    )
]


@dataclass
class Call:
    """One call: its time (seconds since the epoch), route, status (None: no response) and fault."""

    time: float
    route: str
    status: int | None = None
    fault: str | None = None


class Calls:
    """An ASGI application that wraps another one and counts its calls."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.counts: Counter[tuple[str, str]] = Counter()
        self.latest: deque[Call] = deque(maxlen=KEPT_CALLS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the call, and record its response."""
        if scope["type"] != "http" or scope["path"].startswith("/_emulator/"):
            await self._app(scope, receive, send)
            return
        call = Call(time.time(), _route(scope))
        self.latest.append(call)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            pass  # the emulator stops, and the connection is closed already
        finally:
            call.fault = scope["state"].get("fault")
            self.counts[call.route, str(call.status or "none")] += 1

    def by_route(self) -> dict[str, dict[str, int]]:
        """Return the number of calls by route and status; "none" for calls without a response."""
        table: dict[str, dict[str, int]] = {}
        for (route, status), number in sorted(self.counts.items()):
            table.setdefault(route, {})[status] = number
        return table


def _route(scope: Scope) -> str:
    call = f"{scope['method']} {scope['path']}"
    return next((name for name, pattern in ROUTES if pattern.fullmatch(call)), "other")
