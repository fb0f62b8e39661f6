"""The first page of `jobs` and of the console's page with 100,000 records: what is read for it.

DynamoDB is a stand-in in the process that gives what the indexes give, page by page; its seconds are not AWS's.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ops.console import cards
from ops.console.known import TableReader
from ops.inspect.records import MOST_PLACES, MOST_READ, WINDOW, Records, Wanted
from ops.stack import Stack
from posedrop.aws.places import in_line
from posedrop.aws.record import Status
from posedrop.aws.record_items import to_item
from posedrop.aws.record_table import PAID
from posedrop.contract.times import rfc3339

RECORDS = 100_000
NOW = 1_795_000_000.0
INDEXES = {
    "by-character": ("character", "created_at"),
    "by-day": ("day", "created_at"),
    "line": ("stands", "place"),
    "unfinished": ("unfinished", "unfinished_at"),
}
MEGABYTE_OF_KEYS = 7_000

pytestmark = pytest.mark.large


class Table:
    """A table with its indexes, which counts calls, keys and records. There is no scan: whoever asks for one fails."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.indexes: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self.calls: Counter[str] = Counter()

    def put(self, values: dict[str, Any]) -> None:
        """Write one record."""
        item = to_item(values)
        self.items[values["job_id"]] = item
        for index, (partition, sort) in INDEXES.items():
            if partition in values:
                self.indexes[index, values[partition]].append((values[sort], values["job_id"]))

    def sort(self) -> None:
        """Put the indexes into their order."""
        for keys in self.indexes.values():
            keys.sort()

    def query(self, **request: Any) -> dict[str, Any]:
        """One page of an index."""
        index, partition = request["IndexName"], request["ExpressionAttributeValues"][":key"]["S"]
        name, sort = INDEXES[index]
        keys = self.indexes[index, partition]
        until = request["ExpressionAttributeValues"].get(":until", {"S": "\x7f"})["S"]
        last = bisect_left(keys, (until, "\x7f"))
        start = request.get("ExclusiveStartKey")
        if request.get("ScanIndexForward", True):
            first = bisect_left(keys, (start[sort]["S"], start["job_id"]["S"])) + 1 if start else 0
            found = keys[first : first + min(request.get("Limit", MEGABYTE_OF_KEYS), MEGABYTE_OF_KEYS)]
            more = first + len(found) < last
        else:
            last = min(last, bisect_left(keys, (start[sort]["S"], start["job_id"]["S"]))) if start else last
            found = keys[max(0, last - min(request.get("Limit", MEGABYTE_OF_KEYS), MEGABYTE_OF_KEYS)) : last][::-1]
            more = last > len(found)
        self.calls["Query"] += 1
        page: dict[str, Any] = {"Count": len(found)}
        if request.get("Select") != "COUNT":
            self.calls["keys"] += len(found)
            extra = {name: {"S": partition}}
            page["Items"] = [self._key(index, sort, at, job_id) | extra for at, job_id in found]
        if more and found:
            page["LastEvaluatedKey"] = {
                "job_id": {"S": found[-1][1]},
                sort: {"S": found[-1][0]},
                name: {"S": partition},
            }
        return page

    def _key(self, index: str, sort: str, at: str, job_id: str) -> dict[str, Any]:
        key = {"job_id": {"S": job_id}, sort: {"S": at}}
        return key | ({"queued_at": self.items[job_id]["queued_at"]} if index == "line" else {})

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        """Some items by their keys."""
        ((table, wanted),) = RequestItems.items()
        assert len(wanted["Keys"]) <= 100
        found = [self.items[key["job_id"]["S"]] for key in wanted["Keys"] if key["job_id"]["S"] in self.items]
        self.calls["BatchGetItem"] += 1
        self.calls["records"] += len(found)
        return {"Responses": {table: found}}

    def get_item(self, **_: Any) -> dict[str, Any]:
        """An item that is not there, as the latency of a stack that has delivered nothing."""
        return {}

    def get_paginator(self, operation: str) -> Any:
        """Pages of a query."""
        assert operation == "query"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, **request: Any) -> Iterator[dict[str, Any]]:
        request.pop("PaginationConfig", None)
        while True:
            page = self.query(**request)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def table(queued: int) -> Table:
    """RECORDS records of 30 days, the newest of them queued, 40 in the model, each hundredth of the others failed."""
    made = Table()
    for number in range(RECORDS):
        at = rfc3339(NOW - 26 * number)
        status = Status.QUEUED if number < queued else Status.SUBMITTED if number < queued + 40 else Status.SUCCEEDED
        values: dict[str, Any] = {"attempt": 1, "queued_at": at, "created_at": at, "updated_at": at, "day": at[:10]}
        if status is Status.QUEUED:
            values |= in_line(RECORDS - number, NOW - 26 * number)
        elif status is Status.SUBMITTED:
            values |= {"unfinished": PAID, "unfinished_at": at}
        elif number % 100 == 0:
            status = Status.FAILED
            values |= {"error": {"type": "Rejected", "message": "no"}}
        if status not in (Status.QUEUED, Status.SUBMITTED):
            values |= {"completed_at": at, "notified_at": at}
        character = f"hero-{number % 50}"
        made.put(
            {
                "job_id": f"{character}-walk-{number:016x}",
                "status": status,
                "character": character,
                "pose": "walk",
                **values,
            }
        )
    made.sort()
    return made


@pytest.mark.parametrize("queued", [0, 60_000])
def test_the_first_page_of_a_hundred_thousand_records(queued: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(queued)
    parameters = {
        "SegmindRequestsPerMinute": "600",
        "LimitCounts": "submits",
        "UploadPrefix": "incoming/",
        "DailyBudget": "0",
        "MonthlyBudget": "0",
        "TypicalInferenceSeconds": "31",
        "JobTimeoutSeconds": "3000",
        "SubmitTimeoutSeconds": "60",
    }
    stack = Stack(
        name="posedrop",
        region="eu-central-1",
        outputs={"JobsTableName": "jobs", "UploadQueueUrl": "uploads"},
        parameters=parameters,
        client=lambda service: made,
        clock=lambda: NOW,
        created_at=NOW - 60 * 86400,
    )
    monkeypatch.setattr("ops.console.known.depth", lambda *_: 0)

    def measured(what: str, action: Any) -> Any:
        made.calls.clear()
        begin = time.perf_counter()
        found = action()
        taken = time.perf_counter() - begin
        print(f"{queued:6,} queued, {what}: {taken * 1000:.0f} ms in the process, {dict(made.calls)}")
        return found

    page = measured("jobs", lambda: Records(stack).page(Wanted(), 20))
    assert len(page.records) == 20
    assert (made.calls["Query"], made.calls["BatchGetItem"], made.calls["records"]) == (1, 1, 21)

    page = measured("jobs --status FAILED", lambda: Records(stack).page(Wanted(statuses=[Status.FAILED]), 20))
    assert made.calls["records"] <= MOST_READ
    assert len(page.records) == (0 if queued else 19)  # and its cursor goes on
    assert page.cursor

    page = measured("jobs --status QUEUED", lambda: Records(stack).page(Wanted(statuses=[Status.QUEUED]), 20))
    assert len(page.records) == min(queued, 20)
    assert made.calls["records"] <= 100

    page = measured("jobs --character", lambda: Records(stack).page(Wanted("hero-7"), 20))
    assert (made.calls["Query"], made.calls["records"]) == (1, 21)

    reader = TableReader(stack)
    known = measured("the page's first look", lambda: reader.whole(None))
    assert made.calls["records"] <= 2 * WINDOW + MOST_PLACES + 100
    assert made.calls["Query"] + made.calls["BatchGetItem"] <= 80
    summary = known.summary()
    assert (summary["backlog"], summary["running"]) == (queued, 40)
    assert summary["cut"] == len(known.records)
    assert summary["done"] >= 900
    assert len(known.send_times) == min(queued, MOST_PLACES)

    wanted = cards.Filter().wanted()
    page = measured("the page's first sixty cards", lambda: reader.page(wanted, 60, None))
    assert len([known.card(record) for record in page.records]) == 60
    assert (made.calls["Query"], made.calls["BatchGetItem"], made.calls["records"]) == (1, 1, 61)

    measured("the page's next look", lambda: reader.changes(known, {}))
    assert made.calls["records"] <= 100
    assert made.calls["keys"] <= 2 * MOST_PLACES
