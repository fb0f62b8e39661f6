"""Read many records through the indexes: of a character, of a day, in line, unfinished. Nothing is scanned.

A page's keys come from an index, the newest first, and its records are then read by their keys. A page reads at most
MOST_READ records. If that is not enough, the page says how far back it has read, and its cursor continues there.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from operator import attrgetter
from typing import Any

from ops.inspect.cursor import DATE, Cursor, cursor_after, day_of, parse_cursor
from ops.stack import Stack
from posedrop.aws.places import DUE, IN_LINE, LINE_INDEX
from posedrop.aws.record import ENDED, AnyRecord, Record, Status, only_jobs
from posedrop.aws.record_reader import BATCH, CHARACTER_INDEX, DAY_INDEX, SORTED_BY, Key, Place
from posedrop.aws.record_table import ENDED_UNSENT, INCOMPLETE, PAID, UNFINISHED_INDEX
from posedrop.contract.job import SLUG_LIMIT
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import epoch, rfc3339
from posedrop.contract.upload_layout import slug

MOST_READ = 2_000
"""The most records that one page reads: twenty calls."""
MOST_DAYS = 100
"""The most days that one page reads: one call each."""
WINDOW = 2_000
"""The number of newest records among which ended jobs are counted."""
SKEW = 3600.0
"""Seconds by which another clock may be ahead of this one."""
MOST_PLACES = 1_000
"""The most records that are read at each of the PLACES."""
QUEUED = ((LINE_INDEX, "stands", IN_LINE), (LINE_INDEX, "stands", DUE))
SENT = ((UNFINISHED_INDEX, "unfinished", PAID), (UNFINISHED_INDEX, "unfinished", ENDED_UNSENT))
WAITING = ((UNFINISHED_INDEX, "unfinished", INCOMPLETE),)
"""The index places of unfinished records: an index, the name of its key, and the key. SENT: claimed jobs, and failed
jobs that are not notified."""
PLACES: dict[str, tuple[tuple[str, str, str], ...]] = {
    **dict.fromkeys(Status, SENT),
    Status.WAITING: WAITING,
    Status.QUEUED: QUEUED,
}
"""The index places of unfinished records, by status."""
ALWAYS, NEVER = 0.0, math.inf

newest = attrgetter("updated_at", "job_id")


@dataclass(frozen=True)
class Wanted:
    """A filter for records; empty fields match all. Times are seconds since the epoch, compared with
    the last change.

    unfinished: only jobs that are not notified. also: a further condition.
    """

    character: str = ""
    statuses: Sequence[Status] = ()
    since: float = ALWAYS
    until: float = NEVER
    unfinished: bool = False
    also: Callable[[AnyRecord], bool] | None = None

    @property
    def places(self) -> list[tuple[str, str, str]] | None:
        """Return the index places of the matching records, in order.

        None: the records are read by days.
        """
        if self.character:
            return [(CHARACTER_INDEX, "character", self.character)]
        if not self.statuses or (not self.unfinished and set(self.statuses) & set(ENDED)):
            return None
        return [place for place in (*WAITING, *QUEUED, *SENT) if any(place in PLACES[each] for each in self.statuses)]

    @property
    def chooses(self) -> bool:
        """Return whether a record at those places may fail to match."""
        return bool(self.statuses or self.also) or (self.since, self.until) != (ALWAYS, NEVER)

    def fits(self, record: AnyRecord) -> bool:
        """Return whether a record matches."""
        return (
            (not self.character or record.character == self.character)
            and (not self.statuses or record.status in self.statuses)
            and self.since <= record.updated_at <= self.until
            and (self.also is None or self.also(record))
        )


@dataclass(frozen=True)
class Page:
    """Some records of both kinds, the newest first. `cursor` leads to the next page.

    back_to: how far back records were read (RFC 3339, by creation), if not all were.
    """

    records: list[AnyRecord]
    cursor: str | None = None
    back_to: str | None = None


@dataclass(frozen=True)
class Counts:
    """Numbers of records. `cut`: there may be more ended jobs than were counted.

    `refused`: queued jobs that the provider has refused.
    """

    by_status: dict[str, int]
    failures: dict[str, int] = field(default_factory=dict)
    not_notified: int = 0
    refused: int = 0
    cut: bool = False


class Records:
    """The records of one stack. Errors of DynamoDB pass as botocore's ClientError.

    `unreadable` is called with the id of a record that cannot be parsed, and the record is left out. Without it such a
    record is an error.
    """

    def __init__(self, stack: Stack, unreadable: Callable[[str], object] | None = None) -> None:
        self._stack = stack
        self._reader = stack.reader(unreadable)

    def page(self, wanted: Wanted, limit: int, cursor: str | None = None) -> Page:
        """Return one page of matching records after the previous page's `cursor`. Raises ValueError if it is none."""
        keys = self._newest_keys(wanted, parse_cursor(cursor) if cursor else None)
        step = BATCH if wanted.chooses else min(BATCH, limit + 1)
        found: list[AnyRecord] = []
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
                    return Page(found, cursor_after(wanted.places, last))
                found.append(record)
                last = key
            if stopped:
                return Page(found, cursor_after(wanted.places, batch[-1]), batch[-1]["day"]["S"])
            if len(batch) < step:
                return Page(found)
        return Page(found, cursor_after(wanted.places, batch[-1]), batch[-1].get("created_at", {}).get("S"))

    def newest(self, limit: int, before: float = NEVER) -> tuple[list[AnyRecord], bool]:
        """Return the newest `limit` records that were created before a time, and whether there may be more."""
        keys = list(islice(self._newest_keys(Wanted(until=before), None), limit + 1))
        more = len(keys) > limit or (bool(keys) and "job_id" not in keys[-1])
        ids = [key["job_id"]["S"] for key in keys[:limit] if "job_id" in key]
        found = self.get(ids)
        return [found[job_id] for job_id in ids if job_id in found], more

    def recent(self) -> tuple[list[AnyRecord], bool]:
        """Return the WINDOW newest records, and whether there are more.

        Behind a backlog, half of them are older than it.
        """
        head = next(self._walk(QUEUED[0], forward=True), None)
        found, more = self.newest(WINDOW)
        oldest = min((record.created_at for record in found), default=ALWAYS)
        queued_at = epoch(head["queued_at"]["S"]) if head else NEVER
        if more and queued_at < oldest:
            found = found[: WINDOW // 2] + self.newest(WINDOW // 2, queued_at)[0]
        return found, more

    def jobs(self, job_ids: Iterable[str]) -> dict[str, Record]:
        """Return the records of the jobs with these ids; deleted ones are left out."""
        return {record.job_id: record for record in only_jobs(self.get(job_ids).values())}

    def get(self, job_ids: Iterable[str]) -> dict[str, AnyRecord]:
        """Return the records with these ids, of jobs and of waiting uploads; deleted ones are left out."""
        found: dict[str, AnyRecord] = {}
        ids = iter(job_ids)
        while batch := list(islice(ids, BATCH)):
            records = self._reader.get(batch, consistent=True)
            found |= {record.job_id: record for record in records}
        return found

    def places(self, index: str, name: str, key: str) -> dict[str, str]:
        """Return the ids of the records at one of the PLACES, each with its sort key.

        At most MOST_PLACES: the last ones that were sent, or the next ones in line.
        """
        place = (index, name, key)
        items = islice(self._walk(place, forward=place not in SENT), MOST_PLACES)
        return {item["job_id"]["S"]: item["place" if index == LINE_INDEX else "unfinished_at"]["S"] for item in items}

    def unsent(self, character: str, statuses: Sequence[Status]) -> Iterator[AnyRecord]:
        """Yield the records with these statuses, QUEUED or WAITING, so that not all of them are in memory.

        A record has only the attributes that decide whether it may be cancelled. It may be yielded twice.
        """
        # The due jobs are read first and last, so that a job that moves meanwhile is not missed.
        places = [place for status in statuses for place in (*PLACES[status][::-1], *PLACES[status][1:])]
        keys = self._keys([(CHARACTER_INDEX, "character", character)] if character else places)
        attributes = ("job_id", "status", "bucket", "character", "pose", "created_at", "attempt", "requests")
        while batch := list(islice(keys, BATCH)):
            found = self._get(batch, attributes)
            yield from (record for record in found if record.status in statuses)

    def of_pose(self, character: str, pose: str) -> list[Record]:
        """Return all jobs of one pose, the newest first, without waiting uploads."""
        name = slug(f"{character}-{pose}", SLUG_LIMIT)
        keys = self._keys([(CHARACTER_INDEX, "character", character)])
        found = self.jobs(key["job_id"]["S"] for key in keys if key["job_id"]["S"].rpartition("-")[0] == name)
        return sorted((record for record in found.values() if record.pose == pose), key=newest, reverse=True)

    def ids_of(self, character: str) -> Iterator[str]:
        """Yield the ids of all records of a character, including waiting uploads, the newest first."""
        return self._reader.ids_of(character)

    def sent(self) -> list[Record]:
        """Return job_id, status and updated_at of each job that was claimed or has failed, and is not notified yet."""
        keys = self._keys(SENT)
        found: list[Record] = []
        while batch := list(islice(keys, BATCH)):
            found += only_jobs(self._get(batch, ("job_id", "status", "character", "pose", "updated_at")))
        return found

    def every(self) -> Iterator[Record]:
        """Yield the records of all jobs, without a limit.

        They have the requests and their costs, but not the outputs.
        """
        named = ("job_id", "status", "character", "pose", "attempt", "created_at", "request_id", "requests", "error")
        return only_jobs(self._reader.every(named))

    def counts(self, sent: Iterable[Record]) -> Counts:
        """Return the number of records with each status: the unfinished exactly, the ended among the newest.

        `sent` are the records that are not notified yet.
        """
        unfinished: Counter[Status] = Counter(record.status for record in sent)
        by_status = {
            **unfinished,
            Status.WAITING: self.count(WAITING),
            Status.QUEUED: self.count(QUEUED),
        }
        recent, cut = self.recent()
        jobs = list(only_jobs(recent))
        ended: Counter[Status] = Counter(record.status for record in jobs if record.ended)
        failures = Counter(record.error["type"] for record in jobs if record.error)
        return Counts(
            {str(status): ended[status] if status in ENDED else by_status.get(status, 0) for status in Status},
            dict(failures.most_common()),
            sum(unfinished[status] for status in ENDED),
            sum(map(is_refused, jobs)),
            cut,
        )

    def count(self, places: Iterable[tuple[str, str, str]]) -> int:
        """Return the number of records at some of the PLACES.

        One call counts a megabyte of an index, about 7,000 records.
        """
        return self._reader.count(places)

    # ---- the ways to read --------------------------------------------------------------------------------------------

    def _newest_keys(self, wanted: Wanted, start: Cursor | None) -> Iterator[dict[str, Any]]:
        """Yield the keys of records that may match, the newest first, after `start`.

        If too many days are empty, the last key has only a day. Raises ValueError if `start` is not one of these
        places.
        """
        places = wanted.places
        if places is None:
            yield from self._byday_of(wanted, start)
            return
        if start:
            keys = [key for _, _, key in places]
            if start.key not in keys:
                raise ValueError("the page's cursor belongs to other filters")
            places = places[keys.index(start.key) :]
        for place in places:
            yield from self._walk(place, start, wanted.until)
            start = None

    def _byday_of(self, wanted: Wanted, start: Cursor | None) -> Iterator[dict[str, Any]]:
        first = day_of(rfc3339(min(self._stack.clock() + SKEW, wanted.until)))
        last = day_of(rfc3339(self._stack.created_at - SKEW))
        if start:
            first = min(first, day_of(start.key))  # a cursor of other filters has no day
        for number in range(MOST_DAYS):
            day = first - timedelta(days=number)
            if day < last:
                return
            yield from self._walk((DAY_INDEX, "day", day.strftime(DATE)), start, wanted.until)
            start = None
        yield {"day": {"S": (first - timedelta(days=MOST_DAYS)).strftime(DATE)}}

    def _walk(
        self, place: Place, start: Cursor | None = None, until: float = NEVER, *, forward: bool = False
    ) -> Iterator[Key]:
        """Yield the keys at one place of an index, the last first, or `forward`."""
        index, name, key = place
        by_creation = SORTED_BY[index] == "created_at"  # a record that changed before a time was created before it
        after = {name: key, SORTED_BY[index]: start.sort, "job_id": start.job_id} if start and start.job_id else None
        latest = rfc3339(until) if until != NEVER and by_creation else ""
        return self._reader.newest_keys(place, until=latest, after=after, forward=forward)

    def _keys(self, places: Sequence[Place]) -> Iterator[Key]:
        for place in places:
            yield from self._reader.keys(place)

    def _get(self, keys: Sequence[Key], attributes: Sequence[str] = ()) -> list[AnyRecord]:
        """Return the records with up to a hundred keys; deleted ones are left out."""
        return self._reader.get((key["job_id"]["S"] for key in keys), attributes)


def is_refused(record: Record) -> bool:
    """Return whether the provider has refused this job, and it is not decided yet whether the job is at fault."""
    return record.status is Status.QUEUED and record.reason_code == ReasonCode.REFUSED
