"""Keeps what is known of the stack up to date, and publishes each change to all open pages.

While no page is open, nothing is read.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import anyio
from anyio import to_thread

from ops.console.events import Events
from ops.console.known import Known, TableReader, differences
from ops.errors import AWS_ERRORS, OpsError, sentence
from ops.inspect.records import Page, Wanted
from ops.stack import Stack
from posedrop.aws.record import AnyRecord

INDEX_PAGE = 200
"""How many records are read from an index at a time."""
READ_SECONDS = 1.0
"""From the start of one reading to the start of the next, while a page is open."""
REST_SECONDS = 0.2
"""The shortest pause between two readings."""
WHOLE_SECONDS = 30.0
"""The shortest time from one whole reading to the next."""
WHOLE_SHARE = 0.05
"""The largest share of the time that whole readings may take. With a large table they are therefore rarer."""
SUMMARY_SECONDS = 2.0
"""The shortest time between two summaries, because part of a summary changes with the clock alone."""
WATCH_SECONDS = 120.0
"""How long a character is watched after an upload. A refused job ends too soon to be seen in the sparse indexes."""
EXPECT_SECONDS = 600.0
"""How long the jobs of an upload are read by their ids: as long as a large upload takes."""
READ_DEADLINE = 8.0
"""Seconds after which a reading is abandoned because the stack hangs."""
PATIENCE = 1.0
"""Seconds that a request waits for a new reading. After that it gets what is known."""

log = logging.getLogger(__name__)


class Unreachable(OpsError):
    """The stack does not respond, and nothing of it was read yet."""


class Feed:
    """Reads a stack while a page is open, and publishes changes as events."""

    def __init__(self, stack: Stack, clock: Callable[[], float] = time.monotonic) -> None:
        self._stack = stack
        self._reader = TableReader(stack)
        self._clock = clock
        self._known: Known | None = None
        self._read_at = self._summarized_at = self._whole_due = -1e9
        self._took = 0.0  # duration of the last reading, in seconds
        self._reading = False
        self._wanted, self._done = anyio.Event(), anyio.Event()
        self._characters: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._last_summary: dict[str, Any] | None = None
        self.events = Events()
        self.events.on_open = self._want
        self.error: str | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Whether the stack responds, and the error if it does not."""
        return {"connected": self.error is None, "error": self.error}

    async def page(self, wanted: Wanted, limit: int, cursor: str | None) -> Page:
        """Return one page of records from the indexes.

        Raises ValueError if the cursor is malformed, and botocore's errors.
        """
        return await to_thread.run_sync(self._reader.page, wanted, limit, cursor)

    async def newest(self, wanted: Wanted, most: int) -> list[AnyRecord]:
        """Return the newest of the wanted records, at most `most`. Raises botocore's errors."""
        found: list[AnyRecord] = []
        cursor: str | None = None
        while len(found) < most:
            page = await self.page(wanted, INDEX_PAGE, cursor)
            found += page.records
            cursor = page.cursor
            if cursor is None:
                break
        return found[:most]

    def expect(self, job_ids: Iterable[str]) -> None:
        """Read these jobs by their ids for EXPECT_SECONDS, after an upload."""
        self._expected |= dict.fromkeys(job_ids, self._stack.clock())

    def watch(self, character: str) -> None:
        """Read a character's newest jobs for WATCH_SECONDS, after an upload."""
        self._characters[character] = self._stack.clock()

    async def run(self) -> None:
        """Read in a loop while a page is open, or when a request asks. Never ends: errors are published as events."""
        while True:
            self._reading, self._wanted = True, anyio.Event()
            began = self._clock()
            await self._refresh()
            self._reading, self._read_at = False, self._clock()
            self._done.set()
            self._done = anyio.Event()
            self._took = self._read_at - began
            rest = max(REST_SECONDS, READ_SECONDS - self._took)
            with anyio.move_on_after(rest if self.events.pages else None):
                await self._wanted.wait()

    async def known(self) -> Known:
        """Return what is known, at most two readings old if the stack responds. Raises Unreachable if it never did."""
        if self._clock() - self._read_at > 2 * max(READ_SECONDS, self._took):
            self._want()
            with anyio.move_on_after(PATIENCE if self._known else None):
                await self._done.wait()
        if self._known is None:
            raise Unreachable(self.error or "the stack was not read yet: try again")
        return self._known

    def _want(self) -> None:
        """Start a reading, unless one is running."""
        if not self._reading:
            self._wanted.set()

    async def _refresh(self) -> None:
        now = self._stack.clock()
        self._characters = {name: at for name, at in self._characters.items() if now - at < WATCH_SECONDS}
        self._expected = {name: at for name, at in self._expected.items() if now - at < EXPECT_SECONDS}
        try:
            with anyio.fail_after(READ_DEADLINE):
                known, whole_due = await to_thread.run_sync(self._read, abandon_on_cancel=True)
            self._publish(known)
            self._whole_due = whole_due
        except TimeoutError:
            self._publish_error(f"the stack did not respond within {READ_DEADLINE:g} seconds")
        except AWS_ERRORS as exc:
            self._publish_error(sentence(exc))
        except Exception as exc:
            # The content of one record must not end the feed.
            log.exception("the stack could not be read")
            self._publish_error(f"a fault of the console: {type(exc).__name__}; its terminal says more.")

    def _read(self) -> tuple[Known, float]:
        """Read, and return what is known and when the next whole reading is due."""
        began = self._clock()
        if self._known is None or began >= self._whole_due:
            known = self._reader.whole(self._known)
            return known, self._clock() + max(WHOLE_SECONDS, (self._clock() - began) / WHOLE_SHARE)
        return self._reader.changes(self._known, dict(self._characters), list(self._expected)), self._whole_due

    def _publish_error(self, what: str) -> None:
        # Jobs that end during the outage leave the sparse indexes, so only a whole reading finds them.
        self._whole_due = self._clock()
        self._publish_state(what)

    def _publish_state(self, error: str | None) -> None:
        changed = (error is None) != (self.error is None)
        self.error = error
        if changed:
            self.events.publish("state", self.state)

    def _publish(self, known: Known) -> None:
        # The events are made first: if that fails, nothing is published.
        news = (
            self._news(self._known, known) if self._known else []
        )  # after the first reading there is nothing to compare
        self._known = known
        self._publish_state(None)
        for name, data in news:
            self.events.publish(name, data)

    def _news(self, before: Known, known: Known) -> list[tuple[str, dict[str, Any]]]:
        changed, gone = differences(before, known)
        news = [("job", known.card(record)) for record in changed]
        news += [("gone", {"job_id": job_id}) for job_id in gone]
        if news or self._clock() - self._summarized_at >= SUMMARY_SECONDS:
            now = known.summary()
            if now != self._last_summary:
                self._last_summary = now
                self._summarized_at = self._clock()
                news.append(("summary", now))
        return news
