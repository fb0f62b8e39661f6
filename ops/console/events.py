"""Numbered events, sent to all open pages."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio

KEPT = 4000
"""How many events are kept for pages that reconnect."""


@dataclass(frozen=True)
class Event:
    """One server-sent event. `data` is JSON."""

    id: int
    name: str
    data: str


class Events:
    """Publishes numbered events. The last ones are kept for pages that reconnect. Use it in one event loop."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Event] = deque(maxlen=kept)
        self._news = anyio.Event()
        self._closed = False
        self.last = 0
        self.pages = 0
        self.on_open: Callable[[], None] = lambda: None

    def publish(self, name: str, data: object) -> None:
        """Send an event to all open pages."""
        self.last += 1
        self._kept.append(Event(self.last, name, json.dumps(data, ensure_ascii=False)))
        self._news.set()
        self._news = anyio.Event()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._news.set()

    async def follow(self, after: int | None = None) -> AsyncIterator[Event]:
        """Yield all events after `after`, until `close`. Yield `reset` if some of them are no longer kept."""
        self.pages += 1
        self.on_open()
        try:
            if after is None:
                after = self.last
                yield Event(after, "hello", json.dumps({"id": after}))
            while not self._closed:
                oldest = self._kept[0].id if self._kept else self.last + 1
                if not oldest - 1 <= after <= self.last:
                    after = self.last
                    yield Event(after, "reset", "{}")
                for event in list(self._kept)[after - oldest + 1 :]:
                    yield event
                    after = event.id
                if after == self.last:
                    await self._news.wait()
        finally:
            self.pages -= 1
