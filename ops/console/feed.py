"""What changes, as it changes: the table in memory, and numbered events for every page that is open.

A whole look reads the newest records, so it is rare; between two of them the sparse indexes tell which records stand
elsewhere than before. Those that are paid for stand where they are until they are notified: they are read each time.
However many records there are, a look reads some thousands at most; the page asks the indexes for the older ones. While
no page is open nothing is read.
"""

import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import to_thread

from ops.console import cards
from ops.console.glance import glance
from ops.console.turns import turns
from ops.errors import TROUBLE, OpsError, sentence
from ops.inspect.health import depth
from ops.inspect.records import ALWAYS, MOST_PLACES, QUEUED, SENT, WAITING, WINDOW, Page, Records, Wanted
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.places import IN_LINE
from posedrop.aws.record import Record
from posedrop.aws.record_table import PAID
from posedrop.contract.times import rfc3339

LOOK_SECONDS = 1.0
WHOLE_SECONDS = 30.0
WHOLE_SHARE = 0.05
"""Of the time at most, spent on whole looks at a large table."""
GLANCE_SECONDS = 2.0
"""Between two glances that differ: some of it is nothing but the time."""
WATCH_SECONDS = 120.0
"""How long a character is watched after an upload: a job that is refused ends too soon for the index to show it."""
EXPECT_SECONDS = 600.0
"""How long the jobs of an upload are looked for by their ids: a large one takes as long."""
WATCHED = 100
"""Jobs of a watched character that are read, the newest."""
KEPT = 4000
"""Events for pages that come back."""
QUEUE_SECONDS = 5.0
"""Between two looks at how many messages the upload queue has."""
LOOK_DEADLINE = 8.0
"""Seconds after which a look is given up: the stack hangs."""
UNFINISHED = (*QUEUED, *SENT, *WAITING)
PATIENCE = 1.0
"""Seconds that a request waits for a new look before it is answered with what is known."""

log = logging.getLogger(__name__)


class Unreachable(OpsError):
    """The stack does not answer, and nothing was ever read of it."""


# ---- events ----------------------------------------------------------------------------------------------------------


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
        """Tell all pages."""
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


# ---- what is read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What was read, all of it at one time. `turns` are those of queued jobs.

    `aspects`: what of the cards may change by itself. `queue`: how many messages the upload queue has. `cut`: there are
    more records than were read. `unreadable`: the ids of those that this version cannot read. `counted`: how many there
    are in states of which not all were read. `forgotten`: ids that are not known any more, though they are there.
    """

    situation: Situation
    records: Mapping[str, Record] = field(default_factory=dict)
    unfinished: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, float] = field(default_factory=dict)
    aspects: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    queue: int = 0
    cut: bool = False
    unreadable: frozenset[str] = frozenset()
    counted: Mapping[str, int] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()

    def card(self, record: Record) -> dict[str, Any]:
        """The card of a record."""
        return cards.card(record, self.situation, self.turns.get(record.job_id))

    def glance(self) -> dict[str, Any]:
        """All of them at a glance."""
        return {
            **glance(self.records.values(), self.situation, self.queue, self.counted),
            "cut": len(self.records) if self.cut else None,
            "unreadable": sorted(self.unreadable),
        }


class Looker:
    """Reads a stack's table. Its methods wait for AWS: they belong in a thread. AWS's errors pass."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._unreadable: set[str] = set()
        self._records = Records(stack, self._unreadable.add)
        self._counted: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(len(UNFINISHED), "look")
        self._queue, self._queue_due = 0, 0.0

    def page(self, wanted: Wanted, limit: int, cursor: str | None) -> Page:
        """One page of the records that are wanted, of all that there are. Raises ValueError if the cursor is none."""
        return self._records.page(wanted, limit, cursor)

    def whole(self, known: Known | None) -> Known:
        """Read the newest records, and what is unfinished."""
        unfinished = self._unfinished()  # before the records: what changes in between is seen by the next look
        self._unreadable.clear()
        found, cut = self._records.recent()
        records = {record.job_id: record for record in found}
        records |= self._records.get(unfinished.keys() - records.keys())
        self._count(unfinished)
        forgotten: frozenset[str] = frozenset()
        if known and cut:
            # What was removed from the newest ones is gone; what is older is not known any more.
            oldest = found[WINDOW // 2 - 1].created_at if len(found) >= WINDOW // 2 else ALWAYS
            lost = {job_id for job_id in known.records if job_id not in records}
            forgotten = frozenset(job_id for job_id in lost if known.records[job_id].created_at < oldest)
            records |= self._records.get(lost - forgotten)
        return self._known(records, unfinished, cut, forgotten)

    def _count(self, unfinished: Mapping[str, str]) -> None:
        """Count what is too many to be read."""
        self._counted = {
            state: self._records.count(places)
            for state, places in (("queued", QUEUED), ("waiting", WAITING))
            if any(_number(unfinished, key) >= MOST_PLACES for _, _, key in places)
        }

    def changes(self, known: Known, characters: Mapping[str, float], expected: Iterable[str] = ()) -> Known:
        """Read what changed. `characters` are watched beside the index, each since a time (seconds).

        `expected` are jobs that an upload will make: they are read by their ids.
        """
        unfinished = self._unfinished()
        changed = {
            job_id
            for job_id in unfinished.keys() | known.unfinished.keys()
            if unfinished.get(job_id) != known.unfinished.get(job_id) or unfinished[job_id].startswith(PAID)
        }
        changed |= {job_id for job_id in expected if not _is_over(known.records.get(job_id))}
        read = self._records.get(changed)
        records = {job_id: record for job_id, record in known.records.items() if job_id not in changed} | read
        for character, since in characters.items():
            for record in self._records.page(Wanted(character), WATCHED).records:
                # This index may be behind the table.
                before = records.get(record.job_id)
                if record.updated_at >= rfc3339(since) and (before is None or before.updated_at < record.updated_at):
                    records[record.job_id] = record
        return self._known(records, unfinished, known.cut)

    def _unfinished(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for (_, _, key), places in zip(
            UNFINISHED, self._pool.map(lambda place: self._records.places(*place), UNFINISHED), strict=True
        ):
            found |= {job_id: f"{key} {place}" for job_id, place in places.items()}
        return found

    def _known(
        self,
        records: Mapping[str, Record],
        unfinished: Mapping[str, str],
        cut: bool,
        forgotten: frozenset[str] = frozenset(),
    ) -> Known:
        situation = Situation.of(self._stack)
        if situation.now >= self._queue_due:
            self._queue = depth(self._stack, self._stack.output("UploadQueueUrl"))
            self._queue_due = situation.now + QUEUE_SECONDS
        moving = [record for record in records.values() if not record.ended]
        line = [place.removeprefix(f"{IN_LINE} ") for place in unfinished.values() if place.startswith(f"{IN_LINE} ")]
        places = turns(moving, situation, line, whole=len(line) < MOST_PLACES)
        aspects = {record.job_id: cards.aspect(record, situation, places.get(record.job_id)) for record in moving}
        unreadable = frozenset(self._unreadable)
        return Known(
            situation,
            records,
            unfinished,
            places,
            aspects,
            self._queue,
            cut,
            unreadable,
            self._counted,
            forgotten,
        )


def _is_over(record: Record | None) -> bool:
    """Whether nothing more happens to a job by itself."""
    return record is not None and record.ended and record.notified_at is not None


def _number(unfinished: Mapping[str, str], key: str) -> int:
    """How many stand at a place."""
    return sum(place.startswith(f"{key} ") for place in unfinished.values())


def differences(before: Known, after: Known) -> tuple[list[Record], list[str]]:
    """The records whose cards are other ones now, the oldest change first, and the ids of those that are gone."""
    changed = [
        record
        for job_id, record in after.records.items()
        if ((known := before.records.get(job_id)) is not record and known != record)
        or before.aspects.get(job_id) != after.aspects.get(job_id)
    ]
    gone = [job_id for job_id in before.records if job_id not in after.records and job_id not in after.forgotten]
    return sorted(changed, key=lambda record: record.updated_at), gone


# ---- the feed --------------------------------------------------------------------------------------------------------


class Feed:
    """Keeps what is known of a stack up to date while a page is open, and tells the pages what changes."""

    def __init__(self, stack: Stack, clock: Callable[[], float] = time.monotonic) -> None:
        self._stack = stack
        self._looker = Looker(stack)
        self._clock = clock
        self._known: Known | None = None
        self._looked = self._glanced = self._whole_due = -1e9
        self._looking = False
        self._wanted, self._done = anyio.Event(), anyio.Event()
        self._characters: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._last_glance: dict[str, Any] | None = None
        self.events = Events()
        self.events.on_open = self._want
        self.trouble: str | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Whether the stack answers."""
        return {"connected": self.trouble is None, "error": self.trouble}

    async def page(self, wanted: Wanted, limit: int, cursor: str | None) -> Page:
        """One page of all records that there are. Raises ValueError if the cursor is none; errors of AWS pass."""
        return await to_thread.run_sync(self._looker.page, wanted, limit, cursor)

    def expect(self, job_ids: Iterable[str]) -> None:
        """Look for these jobs by their ids for a while: they were uploaded."""
        self._expected |= dict.fromkeys(job_ids, self._stack.clock())

    def watch(self, character: str) -> None:
        """Look at a character's jobs more closely for a while: something was uploaded."""
        self._characters[character] = self._stack.clock()

    async def run(self) -> None:
        """Look while a page is open, and when somebody asks. Endless: whatever goes wrong is told."""
        while True:
            self._looking, self._wanted = True, anyio.Event()
            await self._look()
            self._looking, self._looked = False, self._clock()
            self._done.set()
            self._done = anyio.Event()
            with anyio.move_on_after(LOOK_SECONDS if self.events.pages else None):
                await self._wanted.wait()

    async def known(self) -> Known:
        """What is known, not older than two looks if the stack answers. Raises Unreachable if nothing ever was."""
        if self._clock() - self._looked > 2 * LOOK_SECONDS:
            self._want()
            with anyio.move_on_after(PATIENCE if self._known else None):
                await self._done.wait()
        if self._known is None:
            raise Unreachable(self.trouble or "the stack was not read yet")
        return self._known

    def _want(self) -> None:
        """Look now; one that is under way is new enough."""
        if not self._looking:
            self._wanted.set()

    async def _look(self) -> None:
        now = self._stack.clock()
        self._characters = {name: at for name, at in self._characters.items() if now - at < WATCH_SECONDS}
        self._expected = {name: at for name, at in self._expected.items() if now - at < EXPECT_SECONDS}
        try:
            with anyio.fail_after(LOOK_DEADLINE):
                known, whole_due = await to_thread.run_sync(self._read, abandon_on_cancel=True)
            self._tell(known)
            self._whole_due = whole_due
        except TimeoutError:
            self._tell_trouble(f"the stack did not answer within {LOOK_DEADLINE:g} seconds")
        except TROUBLE as exc:
            self._tell_trouble(sentence(exc))
        except Exception as exc:
            # Nothing that one record holds may end the feed.
            log.exception("a look at the stack failed")
            self._tell_trouble(f"a fault of the console: {type(exc).__name__}; its terminal says more.")

    def _read(self) -> tuple[Known, float]:
        """What is known now, and when to read everything anew."""
        began = self._clock()
        if self._known is None or began >= self._whole_due:
            known = self._looker.whole(self._known)
            return known, self._clock() + max(WHOLE_SECONDS, (self._clock() - began) / WHOLE_SHARE)
        return self._looker.changes(self._known, dict(self._characters), list(self._expected)), self._whole_due

    def _tell_trouble(self, what: str) -> None:
        # What happens in the meantime is in no index any more.
        self._whole_due = self._clock()
        self._tell_state(what)

    def _tell_state(self, trouble: str | None) -> None:
        news = (trouble is None) != (self.trouble is None)
        self.trouble = trouble
        if news:
            self.events.publish("state", self.state)

    def _tell(self, known: Known) -> None:
        # All that may go wrong is done before anything is told.
        news = self._news(self._known, known) if self._known else []  # at first no page can have seen anything
        self._known = known
        self._tell_state(None)
        for name, data in news:
            self.events.publish(name, data)

    def _news(self, before: Known, known: Known) -> list[tuple[str, dict[str, Any]]]:
        changed, gone = differences(before, known)
        news = [("job", known.card(record)) for record in changed]
        news += [("gone", {"job_id": job_id}) for job_id in gone]
        if news or self._clock() - self._glanced >= GLANCE_SECONDS:
            now = known.glance()
            if now != self._last_glance:
                self._last_glance = now
                self._glanced = self._clock()
                news.append(("glance", now))
        return news
