"""Reading many records: by character, the line and what is unfinished through the indexes, else by a bounded scan."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter
from typing import Any

from ops.stack import Stack
from posedrop.clock import rfc3339
from posedrop.gate.reasons import ReasonCode
from posedrop.ledger import ENDED, ENDED_UNSENT, INCOMPLETE, PAID, UNFINISHED_INDEX, Record, Status
from posedrop.line.places import DUE, IN_LINE, LINE_INDEX
from posedrop.record import from_item, is_record

CHARACTER_INDEX = "by-character"
SCAN_BOUND = 20_000
"""Records that a scan reads at most: about 40 calls."""
ITEMS_A_JOB = 3
"""A job's record, the item of its attempts and that of its request: a scan reads them all."""
BATCH = 100
"""Keys that one BatchGetItem takes (DynamoDB API reference)."""
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
ALWAYS = rfc3339(0)
NEVER = "9999-12-31T23:59:59.999Z"

newest = attrgetter("updated_at", "job_id")


@dataclass(frozen=True)
class Wanted:
    """Which records to list; what is empty does not matter. Times are RFC 3339 and compared with the last change."""

    character: str = ""
    statuses: Sequence[Status] = ()
    since: str = ALWAYS
    until: str = NEVER

    def fits(self, record: Record) -> bool:
        """Whether a record is wanted."""
        return (
            (not self.character or record.character == self.character)
            and (not self.statuses or record.status in self.statuses)
            and self.since <= record.updated_at <= self.until
        )


@dataclass(frozen=True)
class Page:
    """Some records, the newest first. `cursor` leads to the next page; `cut`: the scan's bound was reached."""

    records: list[Record]
    cursor: str | None = None
    cut: bool = False


@dataclass(frozen=True)
class Counts:
    """How many records there are. `cut`: at least so many have ended, the scan's bound was reached.

    `refused`: queued jobs that the provider refused by themselves.
    """

    by_status: dict[str, int]
    failures: dict[str, int] = field(default_factory=dict)
    untold: int = 0
    refused: int = 0
    cut: bool = False


class Records:
    """The records of one stack. Errors of DynamoDB pass as botocore's ClientError.

    `unreadable` is told the id of a record that is of no known form, which is left out; without it that is an error.
    """

    def __init__(
        self, stack: Stack, scan_bound: int = SCAN_BOUND, unreadable: Callable[[str], object] | None = None
    ) -> None:
        self._dynamodb = stack.client("dynamodb")
        self._table = stack.output("JobsTableName")
        self._scan_bound = scan_bound
        self._unreadable = unreadable

    def page(self, wanted: Wanted, limit: int, cursor: str | None = None) -> Page:
        """One page of the records that are wanted. `cursor` is the last page's. Raises ValueError if it is none."""
        before = parse_cursor(cursor) if cursor else None
        if before:
            wanted = replace(wanted, until=min(wanted.until, before[0]))
        cut = False
        if wanted.character:
            found = self._of_character(wanted)
        elif wanted.statuses and not set(wanted.statuses) & set(ENDED):
            found = self._unfinished(wanted)
        else:
            found, cut = self._scan()
            found.sort(key=newest, reverse=True)
        rest = (record for record in found if wanted.fits(record) and (before is None or newest(record) < before))
        records = list(islice(rest, limit + 1))
        more = cursor_after(records[limit - 1]) if len(records) > limit else None
        return Page(records[:limit], more, cut)

    def all(self) -> tuple[list[Record], bool]:
        """All records as they are now, up to the scan's bound, and whether there are more."""
        return self._scan(ConsistentRead=True)

    def get(self, job_ids: Iterable[str]) -> dict[str, Record]:
        """These records as they are now, by their ids; one that is gone is left out."""
        found: dict[str, Record] = {}
        ids = iter(job_ids)
        while batch := list(islice(ids, BATCH)):
            records = self._get([{"job_id": {"S": job_id}} for job_id in batch], ConsistentRead=True)
            found |= {record.job_id: record for record in records}
        return found

    def places(self, index: str, name: str, key: str) -> dict[str, str]:
        """The ids of the records that stand at one of the PLACES, each with what says where there."""
        items = self._items("query", **_query(index, name, key))
        return {item["job_id"]["S"]: item["place" if index == LINE_INDEX else "unfinished_at"]["S"] for item in items}

    def unsent(self, character: str, statuses: Sequence[Status]) -> Iterator[Record]:
        """The records of these statuses, QUEUED or WAITING, one after another, so that not all of them are in memory.

        Of a record there is only what says whether it may be cancelled. One may come twice.
        """
        # The jobs that are due come first and last, so that none is missed that moves while it is read.
        places = [place for status in statuses for place in (*PLACES[status][::-1], *PLACES[status][1:])]
        keys = self._of(CHARACTER_INDEX, "character", character) if character else self._keys(places)
        names = {f"#{name}": name for name in ("status", "character", "bucket")}
        projection = "job_id, #status, #bucket, #character, pose, created_at, attempt, requests"
        while batch := list(islice(keys, BATCH)):
            found = self._get(batch, ProjectionExpression=projection, ExpressionAttributeNames=names)
            yield from (record for record in found if record.status in statuses)

    def of_pose(self, character: str, pose: str) -> list[Record]:
        """All jobs of one pose, the newest first; not what is only waited for."""
        found = self._of_character(Wanted(character))
        return [record for record in found if record.pose == pose and record.status is not Status.WAITING]

    def sent(self) -> list[Record]:
        """What was claimed or has failed, and is not notified yet: job_id, status and updated_at of each."""
        names = {f"#{name}": name for name in ("status", "character")}
        projection = "job_id, #status, #character, pose, updated_at"
        keys = self._keys(SENT)
        found: list[Record] = []
        while batch := list(islice(keys, BATCH)):
            found += self._get(batch, ProjectionExpression=projection, ExpressionAttributeNames=names)
        return found

    def counts(self, sent: Iterable[Record]) -> Counts:
        """How many records there are of each status: the unfinished exactly, the ended by a bounded scan.

        `sent` are those that are not notified yet.
        """
        unfinished = Counter(record.status for record in sent)
        by_status = {
            **unfinished,
            Status.WAITING: self._count(WAITING),
            Status.QUEUED: self._count(QUEUED),
        }
        ended: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        refused = 0
        scanned, cut = self._scan(
            ProjectionExpression="job_id, #status, #character, pose, #error.#type, reason_code",
            ExpressionAttributeNames={f"#{name}": name for name in ("status", "character", "error", "type")},
        )
        for record in scanned:
            if record.ended:
                ended[record.status] += 1
            if record.error:
                failures[record.error["type"]] += 1
            refused += is_refused(record)
        return Counts(
            {str(status): ended[status] if status in ENDED else by_status.get(status, 0) for status in Status},
            dict(failures.most_common()),
            sum(unfinished[status] for status in ENDED),
            refused,
            cut,
        )

    # ---- the ways to read --------------------------------------------------------------------------------------------

    def _of_character(self, wanted: Wanted) -> list[Record]:
        """The records of a character, the newest change first."""
        keys = self._items("query", **_query(CHARACTER_INDEX, "character", wanted.character))
        return self._sorted(keys)

    def _unfinished(self, wanted: Wanted) -> list[Record]:
        """What is not finished and may have one of the wanted statuses, the newest change first."""
        return self._sorted(self._keys(tuple({place: 0 for status in wanted.statuses for place in PLACES[status]})))

    def _sorted(self, keys: Iterator[dict[str, Any]]) -> list[Record]:
        found: list[Record] = []
        while batch := list(islice(keys, BATCH)):
            found += self._get(batch)
        return sorted(found, key=newest, reverse=True)

    def _of(self, index: str, name: str, key: str) -> Iterator[dict[str, Any]]:
        return self._items("query", **_query(index, name, key))

    def _keys(self, places: Sequence[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
        for place in places:
            yield from self._items("query", **_query(*place))

    def _scan(self, **projection: Any) -> tuple[list[Record], bool]:
        """The records of the table, up to the bound, and whether there are more."""
        found: list[Record] = []
        read = 0
        for page in self._pages("scan", **projection):
            found += self._read(item for item in page["Items"] if is_record(item))
            read += page["ScannedCount"]
            bound = len(found) >= self._scan_bound or read >= self._scan_bound * ITEMS_A_JOB
            if bound and "LastEvaluatedKey" in page:
                return found, True
        return found, False

    def _get(self, keys: Sequence[dict[str, Any]], **options: Any) -> list[Record]:
        """The records of up to a hundred keys; one that is gone is left out."""
        found: list[Record] = []
        asked = [{"job_id": {"S": job_id}} for job_id in dict.fromkeys(key["job_id"]["S"] for key in keys)]
        while asked:
            answer = self._dynamodb.batch_get_item(RequestItems={self._table: {"Keys": asked, **options}})
            found += self._read(answer["Responses"].get(self._table, []))
            asked = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return found

    def _read(self, items: Iterable[dict[str, Any]]) -> Iterator[Record]:
        for item in items:
            try:
                yield from_item(item)
            except (ValueError, TypeError, KeyError):
                if self._unreadable is None:
                    raise
                self._unreadable(item["job_id"]["S"])

    def _count(self, places: Sequence[tuple[str, str, str]]) -> int:
        queries = (self._pages("query", **_query(*place), Select="COUNT") for place in places)
        return sum(page["Count"] for pages in queries for page in pages)

    def _items(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        for page in self._pages(operation, **arguments):
            yield from page["Items"]

    def _pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield from self._dynamodb.get_paginator(operation).paginate(**{"TableName": self._table, **arguments})


def _query(index: str, name: str, key: str) -> dict[str, Any]:
    """What asks an index for all that have a key."""
    return {
        "IndexName": index,
        "KeyConditionExpression": "#key = :key",
        "ExpressionAttributeNames": {"#key": name},
        "ExpressionAttributeValues": {":key": {"S": key}},
    }


def is_refused(record: Record) -> bool:
    """Whether the provider refused this job by itself, while it is not decided yet whose fault that is."""
    return record.status is Status.QUEUED and record.reason_code == ReasonCode.REFUSED


def cursor_after(record: Record) -> str:
    """The cursor of the page that begins after a record."""
    return f"{record.updated_at}/{record.job_id}"


def parse_cursor(cursor: str) -> tuple[str, str]:
    """The time and the id of the record that a page begins after. Raises ValueError if it is no cursor."""
    updated_at, slash, job_id = cursor.partition("/")
    if not slash or not updated_at or not job_id:
        raise ValueError(f"no page begins at {cursor}")
    return updated_at, job_id
