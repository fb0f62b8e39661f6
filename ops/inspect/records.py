"""Reading many records through the indexes: of a character, of a day, in line, unfinished. Nothing is scanned.

A page is found by its keys, the newest first, and its records are read by those. However many records there are, a page
reads MOST_READ of them at most; where that is not enough, it says how far back it has looked, and its cursor goes on.
"""

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import Any

from ops.stack import Stack
from posedrop.aws.places import DUE, IN_LINE, LINE_INDEX
from posedrop.aws.record import ENDED, Record, Status
from posedrop.aws.record_reader import BATCH, CHARACTER_INDEX, DAY_INDEX, SORTED_BY, Key, Place
from posedrop.aws.record_table import ENDED_UNSENT, INCOMPLETE, PAID, UNFINISHED_INDEX
from posedrop.contract.job import SLUG_LIMIT
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import epoch, rfc3339
from posedrop.contract.upload_layout import slug

MOST_READ = 2_000
"""Records that one page reads at most: twenty calls."""
MOST_DAYS = 100
"""Days that one page reads at most: one call each."""
WINDOW = 2_000
"""The newest records, which ended jobs are counted among."""
SKEW = 3600.0
"""Seconds by which another clock may be ahead of this one."""
MOST_PLACES = 1_000
"""Records that are read in each of the PLACES."""
QUEUED = ((LINE_INDEX, "stands", IN_LINE), (LINE_INDEX, "stands", DUE))
SENT = ((UNFINISHED_INDEX, "unfinished", PAID), (UNFINISHED_INDEX, "unfinished", ENDED_UNSENT))
WAITING = ((UNFINISHED_INDEX, "unfinished", INCOMPLETE),)
"""Where what is not finished stands: an index, the name of its key, and the key. SENT are those whose end is to be
notified: one that was claimed, or has failed without that."""
PLACES: dict[str, tuple[tuple[str, str, str], ...]] = {
    **dict.fromkeys(Status, SENT),
    Status.WAITING: WAITING,
    Status.QUEUED: QUEUED,
}
"""Where the records of a status stand while they are not finished."""
DATE = "%Y-%m-%d"
ALWAYS, NEVER = 0.0, math.inf

newest = attrgetter("updated_at", "job_id")


@dataclass(frozen=True)
class Wanted:
    """Which records to list; what is empty does not matter. Times are seconds since the epoch, and compared with
    the last change.

    `unfinished`: only those whose end is not notified. `also` is a further condition.
    """

    character: str = ""
    statuses: Sequence[Status] = ()
    since: float = ALWAYS
    until: float = NEVER
    unfinished: bool = False
    also: Callable[[Record], bool] | None = None

    @property
    def places(self) -> list[tuple[str, str, str]] | None:
        """The places of indexes where such records are, in the order in which they are listed; None: those of days."""
        if self.character:
            return [(CHARACTER_INDEX, "character", self.character)]
        if not self.statuses or (not self.unfinished and set(self.statuses) & set(ENDED)):
            return None
        return [place for place in (*WAITING, *QUEUED, *SENT) if any(place in PLACES[each] for each in self.statuses)]

    @property
    def chooses(self) -> bool:
        """Whether a record at those places may be none that is wanted."""
        return bool(self.statuses or self.also) or (self.since, self.until) != (ALWAYS, NEVER)

    def fits(self, record: Record) -> bool:
        """Whether a record is wanted."""
        return (
            (not self.character or record.character == self.character)
            and (not self.statuses or record.status in self.statuses)
            and self.since <= record.updated_at <= self.until
            and (self.also is None or self.also(record))
        )


@dataclass(frozen=True)
class Page:
    """Some records, the newest first. `cursor` leads to the next page.

    back_to: so far back (RFC 3339, when records were created) it was looked, where that is not to the end.
    """

    records: list[Record]
    cursor: str | None = None
    back_to: str | None = None


@dataclass(frozen=True)
class Counts:
    """How many records there are. `cut`: at least so many have ended, among the newest that were read.

    `refused`: queued jobs that the provider refused by themselves.
    """

    by_status: dict[str, int]
    failures: dict[str, int] = field(default_factory=dict)
    not_notified: int = 0
    refused: int = 0
    cut: bool = False


class Records:
    """The records of one stack. Errors of DynamoDB pass as botocore's ClientError.

    `unreadable` is called with the id of a record of no known form, which is left out; without it that is an error.
    """

    def __init__(self, stack: Stack, unreadable: Callable[[str], object] | None = None) -> None:
        self._stack = stack
        self._reader = stack.reader(unreadable)

    def page(self, wanted: Wanted, limit: int, cursor: str | None = None) -> Page:
        """One page of the records that are wanted. `cursor` is the last page's. Raises ValueError if it is none."""
        keys = self._newest_keys(wanted, parse_cursor(cursor) if cursor else None)
        step = BATCH if wanted.chooses else min(BATCH, limit + 1)
        found: list[Record] = []
        last = None
        for _ in range(MOST_READ // step):
            batch = list(islice(keys, step))
            stopped = bool(batch) and "job_id" not in batch[-1]
            records = {record.job_id: record for record in self._get(batch[:-1] if stopped else batch)}
            for key in batch[:-1] if stopped else batch:
                record = records.get(key["job_id"]["S"])
                if record is None or not wanted.fits(record):
                    continue
                if len(found) == limit and last:
                    return Page(found, cursor_after(wanted, last))
                found.append(record)
                last = key
            if stopped:
                return Page(found, cursor_after(wanted, batch[-1]), batch[-1]["day"]["S"])
            if len(batch) < step:
                return Page(found)
        return Page(found, cursor_after(wanted, batch[-1]), batch[-1].get("created_at", {}).get("S"))

    def newest(self, limit: int, before: float = NEVER) -> tuple[list[Record], bool]:
        """The newest `limit` records that were created before a time, and whether there may be more."""
        keys = list(islice(self._newest_keys(Wanted(until=before), None), limit + 1))
        more = len(keys) > limit or (bool(keys) and "job_id" not in keys[-1])
        ids = [key["job_id"]["S"] for key in keys[:limit] if "job_id" in key]
        found = self.get(ids)
        return [found[job_id] for job_id in ids if job_id in found], more

    def recent(self) -> tuple[list[Record], bool]:
        """The WINDOW newest records, and whether there are more. Behind a backlog, half of them are older than it."""
        head = next(self._walk(QUEUED[0], forward=True), None)
        found, more = self.newest(WINDOW)
        oldest = min((record.created_at for record in found), default=ALWAYS)
        queued_at = epoch(head["queued_at"]["S"]) if head else NEVER
        if more and queued_at < oldest:
            found = found[: WINDOW // 2] + self.newest(WINDOW // 2, queued_at)[0]
        return found, more

    def get(self, job_ids: Iterable[str]) -> dict[str, Record]:
        """These records as they are now, by their ids; one that is gone is left out."""
        found: dict[str, Record] = {}
        ids = iter(job_ids)
        while batch := list(islice(ids, BATCH)):
            records = self._reader.get(batch, consistent=True)
            found |= {record.job_id: record for record in records}
        return found

    def places(self, index: str, name: str, key: str) -> dict[str, str]:
        """The ids of the records that stand at one of the PLACES, each with what says where there.

        There are MOST_PLACES at most: what was sent last, and what goes next.
        """
        place = (index, name, key)
        items = islice(self._walk(place, forward=place not in SENT), MOST_PLACES)
        return {item["job_id"]["S"]: item["place" if index == LINE_INDEX else "unfinished_at"]["S"] for item in items}

    def unsent(self, character: str, statuses: Sequence[Status]) -> Iterator[Record]:
        """The records of these statuses, QUEUED or WAITING, one after another, so that not all of them are in memory.

        Of a record there is only what says whether it may be cancelled. One may come twice.
        """
        # The jobs that are due come first and last, so that none is missed that moves while it is read.
        places = [place for status in statuses for place in (*PLACES[status][::-1], *PLACES[status][1:])]
        keys = self._keys([(CHARACTER_INDEX, "character", character)] if character else places)
        attributes = ("job_id", "status", "bucket", "character", "pose", "created_at", "attempt", "requests")
        while batch := list(islice(keys, BATCH)):
            found = self._get(batch, attributes)
            yield from (record for record in found if record.status in statuses)

    def of_pose(self, character: str, pose: str) -> list[Record]:
        """All jobs of one pose, the newest first; not what is only waited for."""
        name = slug(f"{character}-{pose}", SLUG_LIMIT)
        keys = self._keys([(CHARACTER_INDEX, "character", character)])
        found = self.get(key["job_id"]["S"] for key in keys if key["job_id"]["S"].rpartition("-")[0] == name)
        return sorted((record for record in found.values() if record.pose == pose), key=newest, reverse=True)

    def ids_of(self, character: str) -> Iterator[str]:
        """The ids of all records of a character, those of waiting uploads among them, the newest first."""
        return self._reader.ids_of(character)

    def sent(self) -> list[Record]:
        """What was claimed or has failed, and is not notified yet: job_id, status and updated_at of each."""
        keys = self._keys(SENT)
        found: list[Record] = []
        while batch := list(islice(keys, BATCH)):
            found += self._get(batch, ("job_id", "status", "character", "pose", "updated_at"))
        return found

    def every(self) -> Iterator[Record]:
        """All records one after another, without a bound: what was requested and what it cost, not what came of it."""
        named = ("job_id", "status", "character", "pose", "attempt", "created_at", "request_id", "requests", "error")
        return self._reader.every(named)

    def counts(self, sent: Iterable[Record]) -> Counts:
        """How many records there are of each status: the unfinished exactly, the ended among the newest.

        `sent` are those that are not notified yet.
        """
        unfinished = Counter(record.status for record in sent)
        by_status = {
            **unfinished,
            Status.WAITING: self.count(WAITING),
            Status.QUEUED: self.count(QUEUED),
        }
        recent, cut = self.recent()
        ended = Counter(record.status for record in recent if record.ended)
        failures = Counter(record.error["type"] for record in recent if record.error)
        return Counts(
            {str(status): ended[status] if status in ENDED else by_status.get(status, 0) for status in Status},
            dict(failures.most_common()),
            sum(unfinished[status] for status in ENDED),
            sum(map(is_refused, recent)),
            cut,
        )

    def count(self, places: Iterable[tuple[str, str, str]]) -> int:
        """How many records stand at some of the PLACES. A megabyte of an index, about 7,000 of them, is one call."""
        return self._reader.count(places)

    # ---- the ways to read --------------------------------------------------------------------------------------------

    def _newest_keys(self, wanted: Wanted, start: "Cursor | None") -> Iterator[dict[str, Any]]:
        """The keys of the records that may be wanted, the newest first, from after `start` on.

        Where too many days are empty the last one is a day alone. Raises ValueError if `start` is no place of theirs.
        """
        places = wanted.places
        if places is None:
            yield from self._by_day(wanted, start)
            return
        if start:
            keys = [key for _, _, key in places]
            if start.key not in keys:
                raise ValueError("the page's cursor is of other filters")
            places = places[keys.index(start.key) :]
        for place in places:
            yield from self._walk(place, start, wanted.until)
            start = None

    def _by_day(self, wanted: Wanted, start: "Cursor | None") -> Iterator[dict[str, Any]]:
        first = _day(rfc3339(min(self._stack.clock() + SKEW, wanted.until)))
        last = _day(rfc3339(self._stack.created_at - SKEW))
        if start:
            first = min(first, _day(start.key))  # a cursor of other filters has none
        for number in range(MOST_DAYS):
            day = first - timedelta(days=number)
            if day < last:
                return
            yield from self._walk((DAY_INDEX, "day", day.strftime(DATE)), start, wanted.until)
            start = None
        yield {"day": {"S": (first - timedelta(days=MOST_DAYS)).strftime(DATE)}}

    def _walk(
        self, place: Place, start: "Cursor | None" = None, until: float = NEVER, *, forward: bool = False
    ) -> Iterator[Key]:
        """The keys at one place of an index, the last first, or `forward`."""
        index, name, key = place
        by_creation = SORTED_BY[index] == "created_at"  # what changed before a time was created before it
        after = {name: key, SORTED_BY[index]: start.sort, "job_id": start.job_id} if start and start.job_id else None
        latest = rfc3339(until) if until != NEVER and by_creation else ""
        return self._reader.newest_keys(place, until=latest, after=after, forward=forward)

    def _keys(self, places: Sequence[Place]) -> Iterator[Key]:
        for place in places:
            yield from self._reader.keys(place)

    def _get(self, keys: Sequence[Key], attributes: Sequence[str] = ()) -> list[Record]:
        """The records of up to a hundred keys; one that is gone is left out."""
        return self._reader.get((key["job_id"]["S"] for key in keys), attributes)


def is_refused(record: Record) -> bool:
    """Whether the provider refused this job by itself, while it is not decided yet whose fault that is."""
    return record.status is Status.QUEUED and record.reason_code == ReasonCode.REFUSED


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after a record at a place of an index, or, without a job id, at that place's first one."""

    key: str
    sort: str = ""
    job_id: str = ""


def cursor_after(wanted: Wanted, key: dict[str, Any]) -> str:
    """The cursor of the page that begins after a key of an index."""
    places = wanted.places
    index, name, _ = places[0] if places else (DAY_INDEX, "day", "")
    if places:
        index, name, _ = next(place for place in places if key.get(place[1], {}).get("S") == place[2])
    parts = [key[part].get("S", "") for part in (name, SORTED_BY[index], "job_id") if part in key]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> Cursor:
    """Where a page begins. Raises ValueError if it is no cursor."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not all(isinstance(part, str) for part in parts):
            raise TypeError
        return Cursor(*parts)
    except (ValueError, TypeError):
        raise ValueError(f"no page begins at {cursor}") from None


def _day(time: str) -> datetime:
    """The day of a time (RFC 3339). Raises ValueError if it is none."""
    try:
        return datetime.strptime(time[:10], DATE).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("the page's cursor is of other filters") from None
