"""Reading many records: by character and by what is unfinished through the indexes, otherwise by a bounded scan."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter
from typing import Any

from ops.stack import Stack
from posedrop.clock import rfc3339
from posedrop.gate.reasons import ReasonCode
from posedrop.ledger import ENDED, UNFINISHED_INDEX, Record, Status
from posedrop.record import from_item, is_record

CHARACTER_INDEX = "by-character"
SCAN_BOUND = 20_000
"""Records that a scan reads at most: about 40 calls."""
ITEMS_A_JOB = 3
"""A job's record, the item of its attempts and that of its request: a scan reads them all."""
BATCH = 100
"""Keys that one BatchGetItem takes (DynamoDB API reference)."""
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
        found: Iterable[Record]
        if wanted.character:
            found = self._of_character(wanted)
        elif wanted.statuses and not set(wanted.statuses) & set(ENDED):
            found = self._unfinished(wanted)
        else:
            scanned, cut = self._scan()
            found = sorted(scanned, key=newest, reverse=True)
        rest = (record for record in found if wanted.fits(record) and (before is None or newest(record) < before))
        records = _first(rest, limit + 1)
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

    def unfinished(self, status: Status) -> dict[str, str]:
        """The ids of the records with this status that are not told yet, each with the time of its last change."""
        items = self._items("query", **self._unfinished_query(Wanted(), status))
        return {item["job_id"]["S"]: item["updated_at"]["S"] for item in items}

    def of_pose(self, character: str, pose: str) -> list[Record]:
        """All jobs of one pose, the newest first; not what is only waited for."""
        found = self._of_character(Wanted(character))
        return [record for record in found if record.pose == pose and record.status is not Status.WAITING]

    def unchanged(self, status: Status, since: str) -> int:
        """How many records of this status, not told yet, nobody has changed since a time (RFC 3339)."""
        return self._count(self._unfinished_query(Wanted(until=since), status))

    def counts(self) -> Counts:
        """How many records there are of each status: the unfinished exactly, the ended by a bounded scan."""
        by_status = {
            str(status): self._count(self._unfinished_query(Wanted(), status))
            for status in Status
            if status not in ENDED
        }
        untold = sum(self._count(self._unfinished_query(Wanted(), status)) for status in ENDED)
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
            {**by_status, **{str(status): ended[status] for status in ENDED}},
            dict(failures.most_common()),
            untold,
            refused,
            cut,
        )

    # ---- the ways to read --------------------------------------------------------------------------------------------

    def _of_character(self, wanted: Wanted) -> Iterator[Record]:
        yield from self._read(
            self._items(
                "query",
                IndexName=CHARACTER_INDEX,
                ScanIndexForward=False,
                KeyConditionExpression="#key = :key AND updated_at BETWEEN :since AND :until",
                ExpressionAttributeNames={"#key": "character"},
                ExpressionAttributeValues={
                    ":key": {"S": wanted.character},
                    ":since": {"S": wanted.since},
                    ":until": {"S": wanted.until},
                },
            ),
        )

    def _unfinished(self, wanted: Wanted) -> Iterator[Record]:
        lists = [
            self._items("query", **self._unfinished_query(wanted, status), ScanIndexForward=False)
            for status in wanted.statuses
        ]
        keys = heapq.merge(*lists, key=lambda item: str(item["updated_at"]["S"]), reverse=True)
        while batch := list(islice(keys, BATCH)):
            yield from sorted(self._get(batch), key=newest, reverse=True)

    def _unfinished_query(self, wanted: Wanted, status: Status) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "IndexName": UNFINISHED_INDEX,
            "KeyConditionExpression": "unfinished = :status AND updated_at BETWEEN :since AND :until",
            "ExpressionAttributeValues": {
                ":status": {"S": status},
                ":since": {"S": wanted.since},
                ":until": {"S": wanted.until},
            },
        }

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
        asked = [{"job_id": key["job_id"]} for key in keys]
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

    def _count(self, query: dict[str, Any]) -> int:
        pages = self._dynamodb.get_paginator("query").paginate(**query, Select="COUNT")
        return sum(page["Count"] for page in pages)

    def _items(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        for page in self._pages(operation, **arguments):
            yield from page["Items"]

    def _pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield from self._dynamodb.get_paginator(operation).paginate(**{"TableName": self._table, **arguments})


def is_refused(record: Record) -> bool:
    """Whether the provider refused this job by itself, while it is not decided yet whose fault that is."""
    return record.status is Status.QUEUED and record.reason_code == ReasonCode.REFUSED


def _first(records: Iterable[Record], count: int) -> list[Record]:
    """The first records; those of one time are sorted by their ids, so that a cursor can lie between them."""
    found: list[Record] = []
    for record in records:
        if len(found) >= count and record.updated_at < found[-1].updated_at:
            break
        found.append(record)
    return sorted(found, key=newest, reverse=True)[:count]


def cursor_after(record: Record) -> str:
    """The cursor of the page that begins after a record."""
    return f"{record.updated_at}/{record.job_id}"


def parse_cursor(cursor: str) -> tuple[str, str]:
    """The time and the id of the record that a page begins after. Raises ValueError if it is no cursor."""
    updated_at, slash, job_id = cursor.partition("/")
    if not slash or not updated_at or not job_id:
        raise ValueError(f"no page begins at {cursor}")
    return updated_at, job_id
