"""Numbered events for every page that is open."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio

KEPT = 4000
"""Events for pages, also for those that reconnect."""


@dataclass(frozen=True)
class Event:
    """One event as the pages get it: `data` is JSON."""

    id: int
    name: str
    data: str


class Events:
    """Numbered events, the last ones kept, so that a page that was away gets what it missed. For one event loop."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Event] = deque(maxlen=kept)
        self._news = anyio.Event()
        self._closed = False
        self.last = 0
        self.pages = 0
        self.on_open: Callable[[], None] = lambda: None

    def publish(self, name: str, data: object) -> None:
        """Send an event to all pages."""
        self.last += 1
        self._kept.append(Event(self.last, name, json.dumps(data, ensure_ascii=False)))
        self._news.set()
        self._news = anyio.Event()

    def close(self) -> None:
        """Let all pages go."""
        self._closed = True
        self._news.set()

    async def follow(self, after: int | None = None) -> AsyncIterator[Event]:
        """All events after one, as they come, until it is closed; `reset` where some of them are not kept any more."""
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
