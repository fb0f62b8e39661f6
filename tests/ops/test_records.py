"""Paging through the indexes: what a page reads, however many records there are."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from ops.inspect import records as module
from ops.inspect.records import Records, Wanted
from ops.stack import Stack
from posedrop.aws.places import in_line
from posedrop.aws.record import AnyRecord, Status
from posedrop.contract.times import rfc3339
from tests.integration.conftest import Pipeline
from tests.ops.conftest import Run

JOBS = 405
EVERY = 480.0
"""Seconds between two jobs: they are of three days."""


class Reads(Counter[str]):
    """How often DynamoDB was called, and how many keys and records were read by that."""

    def note(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        """Count one call."""
        self[model.name] += 1
        self["keys"] += len(parsed.get("Items", []))
        self["records"] += sum(map(len, parsed.get("Responses", {}).values()))


@pytest.fixture
def reads(pipeline: Pipeline, stack: Stack) -> Iterator[Reads]:
    """What was read so far."""
    found = Reads()
    events = stack.client("dynamodb").meta.events
    events.register("after-call.dynamodb", found.note)
    yield found
    events.unregister("after-call.dynamodb", found.note)


@pytest.fixture
def jobs(pipeline: Pipeline) -> list[str]:
    """The ids of JOBS jobs, the newest first; the hundred newest stand in line, of the others each fiftieth failed."""
    pipeline.clock.now += 86400 - pipeline.clock.now % 86400 + 43200  # noon: 91 of them are of this day
    with pipeline.dynamodb.batch_writer() as batch:
        for number in range(JOBS):
            at = rfc3339(pipeline.clock() - EVERY * number)
            item = {"job_id": name(number), "character": f"c{number % 9}", "pose": "walk", "queued_at": at}
            status = Status.QUEUED if number < 100 else Status.FAILED if number % 50 == 0 else Status.SUCCEEDED
            place = in_line(JOBS - number, pipeline.clock() - EVERY * number) if status is Status.QUEUED else {}
            times = {"day": at[:10], "created_at": at, "updated_at": at}
            error = {"error": {"type": "Rejected", "message": "no"}} if status is Status.FAILED else {}
            batch.put_item({**item, **times, **place, **error, "status": status})
    return [name(number) for number in range(JOBS)]


def name(number: int) -> str:
    """The id of a job."""
    return f"c{number % 9}-walk-{number:016x}"


def ids(records: Sequence[AnyRecord]) -> list[str]:
    """The ids of records."""
    return [record.job_id for record in records]


def all_pages(stack: Stack, wanted: Wanted, limit: int) -> list[list[str]]:
    """The ids on all pages."""
    pages, cursor = [], None
    while True:
        page = Records(stack).page(wanted, limit, cursor)
        pages.append(ids(page.records))
        cursor = page.cursor
        if cursor is None:
            return pages


def test_the_first_page_reads_its_records_and_no_others(jobs: list[str], stack: Stack, reads: Reads) -> None:
    page = Records(stack).page(Wanted(), 20)
    assert ids(page.records) == jobs[:20]
    assert page.cursor
    assert page.back_to is None
    assert reads == {"Query": 1, "BatchGetItem": 1, "keys": 91, "records": 21}
    reads.clear()
    page = Records(stack).page(Wanted(), 20, page.cursor)
    assert ids(page.records) == jobs[20:40]
    assert reads == {"Query": 1, "BatchGetItem": 1, "keys": 71, "records": 21}


PAGES: list[tuple[Wanted, Callable[[int], bool]]] = [
    (Wanted(), lambda number: True),
    (Wanted("c3"), lambda number: number % 9 == 3),
    (Wanted("c3", [Status.QUEUED]), lambda number: number % 9 == 3 and number < 100),
    (Wanted(statuses=[Status.QUEUED]), lambda number: number < 100),
    (Wanted(statuses=[Status.FAILED]), lambda number: number >= 100 and number % 50 == 0),
    (Wanted(statuses=[Status.FAILED, Status.QUEUED]), lambda number: number < 100 or number % 50 == 0),
    (Wanted(statuses=[Status.WAITING]), lambda number: False),
]
"""What is asked for, and which of the jobs fit."""


def test_pages_have_each_job_once(jobs: list[str], stack: Stack, reads: Reads) -> None:
    for wanted, fits in PAGES:
        fitting = [job_id for number, job_id in enumerate(jobs) if fits(number)]
        for limit in (7 if len(fitting) < 200 else 53, 200):
            pages = all_pages(stack, wanted, limit)
            assert [job_id for page in pages for job_id in page] == fitting, wanted
            assert all(len(page) == limit for page in pages[:-1]), wanted
    assert "Scan" not in reads


def test_a_page_whose_filter_seldom_fits_is_bounded_and_goes_on(
    jobs: list[str], stack: Stack, reads: Reads, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(module, "MOST_READ", 300)
    wanted = Wanted(statuses=[Status.FAILED])
    page = Records(stack).page(wanted, 20)
    assert ids(page.records) == [jobs[100], jobs[150], jobs[200], jobs[250]]
    assert page.back_to == rfc3339(stack.clock() - EVERY * 299)
    assert (reads["BatchGetItem"], reads["records"]) == (3, 300)
    said = run("jobs", "--status", "FAILED").stderr
    assert f"only jobs created since {page.back_to}" in said
    assert f"--page {page.cursor}" in said
    assert [job_id for page in all_pages(stack, wanted, 20) for job_id in page] == [
        job_id for number, job_id in enumerate(jobs) if number >= 100 and number % 50 == 0
    ]


def test_days_without_jobs_are_bounded_too(
    pipeline: Pipeline, stack: Stack, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DAYS", 10)
    old = pipeline.clock() - 25 * 86400
    object.__setattr__(stack, "created_at", old - 86400)
    item = {"job_id": name(1), "character": "c1", "pose": "walk", "status": "FAILED", "updated_at": rfc3339(old)}
    pipeline.dynamodb.put_item(Item={**item, "created_at": rfc3339(old), "day": rfc3339(old)[:10]})
    page = Records(stack).page(Wanted(), 20)
    assert (page.records, reads["Query"]) == ([], 10)
    assert page.back_to
    assert page.back_to > rfc3339(old)[:10]
    assert all_pages(stack, Wanted(), 20) == [[], [], [name(1)]]


def test_a_cursor_of_other_filters_is_refused(jobs: list[str], stack: Stack) -> None:
    page = Records(stack).page(Wanted("c3"), 5)
    for wanted in (Wanted("c4"), Wanted(), Wanted(statuses=[Status.QUEUED])):
        with pytest.raises(ValueError, match="cursor"):
            Records(stack).page(wanted, 5, page.cursor)


def test_the_ended_are_counted_among_the_newest_and_behind_the_backlog(
    jobs: list[str], stack: Stack, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 80)  # fewer than stand in line
    found = Records(stack).counts([])
    assert found.cut
    assert found.by_status["QUEUED"] == 100
    assert found.by_status["SUCCEEDED"] + found.by_status["FAILED"] == 40 - 1
    assert found.failures == {"Rejected": 1}
    assert "Scan" not in reads
    assert reads["records"] == 120
    monkeypatch.setattr(module, "WINDOW", 2000)
    found = Records(stack).counts([])
    assert (found.cut, sum(found.by_status.values())) == (False, JOBS)


def test_jobs_of_a_pose_are_found_by_their_names(
    pipeline: Pipeline, stack: Stack, reads: Reads, jobs: list[str]
) -> None:
    pipeline.dynamodb.put_item(
        Item={
            "job_id": "c3-sit-0000000000000001",
            "character": "c3",
            "pose": "sit",
            "status": "FAILED",
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }
    )
    reads.clear()
    assert ids(Records(stack).of_pose("c3", "sit")) == ["c3-sit-0000000000000001"]
    assert reads["records"] == 1
    assert len(Records(stack).of_pose("c3", "walk")) == JOBS // 9


def test_an_empty_list_says_how_to_find_an_upload(stack: Stack, run: Run) -> None:
    found = run("jobs")
    assert found.stdout == "No jobs.\n"
    assert "explain KEY" in found.stderr
    assert run("jobs", "--json").stderr.count("\n") == 0
