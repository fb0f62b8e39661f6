"""`reconcile`: the ledger against what the provider's history has billed."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import boto3
import httpx
import pytest

from ops.inspect.reconcile import SETTLED, Kind, compare
from ops.stack import Stack
from posedrop.aws.ledger import Ledger
from posedrop.aws.places import in_line
from posedrop.aws.record import JobStatus, Record, Status
from posedrop.contract.errors import SubmitOutcomeUnknown
from posedrop.contract.job import Input, Job
from posedrop.contract.naming import execution_name
from posedrop.contract.times import rfc3339
from posedrop.segmind.history_rows import PastRequest
from posedrop.segmind.requests import Request, RequestStatus
from tests.integration.conftest import BASE_URL, TABLE, Pipeline, Provider
from tests.ops.conftest import Run
from tests.support import Context

HOUR, DAY = 3600.0, 86400.0
COST = 0.0294
HISTORY_HOST = "history.test"


# ---- the comparison --------------------------------------------------------------------------------------------------

NOW = 1_795_700_000.0


def record(job: str, *requests: Request, status: JobStatus = Status.SUCCEEDED, error: str | None = None) -> Record:
    ended = {"type": error, "message": ""} if error else None
    paid = next((request.request_id for request in requests if request.request_id), None)
    return Record(job, status, "hero", "walk", requests=list(requests), request_id=paid, error=ended)


def sent(request_id: str | None, status: RequestStatus = RequestStatus.ACCEPTED, cost: float | None = COST) -> Request:
    return Request(1, NOW - HOUR, status, request_id, cost_usd=cost)


def past(request_id: str, job: str | None = None, cost: float | None = COST, **changes: Any) -> PastRequest:
    names = frozenset({execution_name(job, 1)} if job else ())
    made = PastRequest(request_id, "COMPLETED", names=names, created_at=NOW - HOUR + 2, cost_usd=cost)
    return replace(made, **changes)


def kinds(records: list[Record], history: list[PastRequest], kept_since: float = 0.0) -> list[Kind]:
    found, _ = compare(records, history, NOW - 7 * DAY, NOW, kept_since)
    return [difference.kind for difference in found.differences]


UNKNOWN = record("late", sent(None, RequestStatus.UNRESOLVED, None), status=Status.FAILED, error="SubmitOutcomeUnknown")
CASES: dict[str, tuple[list[Record], list[PastRequest], list[Kind]]] = {
    "both agree": ([record("a", sent("1"))], [past("1", "a")], []),
    "billed by nobody here": ([], [past("1")], [Kind.FOREIGN]),
    "not billed": ([], [past("1", cost=0.0), past("2", cost=None, state="PENDING")], []),
    "billed, by its state": ([], [past("1", cost=None)], [Kind.FOREIGN]),
    "a record that is gone": ([], [past("1", "a")], [Kind.LOST_RECORD]),
    "billed twice": ([record("a", sent("1"))], [past("1", "a"), past("2", "a")], [Kind.BILLED_TWICE]),
    "a second one that was not billed": ([record("a", sent("1"))], [past("1", "a"), past("2", "a", 0.0)], []),
    "two that the record has": ([record("a", sent("1"), sent("2"))], [past("1", "a"), past("2", "a")], []),
    "not in the history": ([record("a", sent("1"))], [], [Kind.NOT_IN_HISTORY]),
    "turned up": ([UNKNOWN], [past("9", "late")], [Kind.KNOWN_NOW]),
    "turned up twice": ([UNKNOWN], [past("8", "late"), past("9", "late")], [Kind.BILLED_TWICE, Kind.KNOWN_NOW]),
    "turned up, and failed": ([UNKNOWN], [past("9", "late", 0.0, state="FAILED")], []),
    "still under way": ([replace(UNKNOWN, status=Status.SUBMITTING, error=None)], [past("9", "late")], []),
    "another cost": ([record("a", sent("1", cost=0.05))], [past("1", "a")], [Kind.COST]),
    "a cost that only one side has": ([record("a", sent("1", cost=None))], [past("1", "a")], []),
    "too young": ([], [past("1", created_at=NOW + 60)], []),
    "too old": ([], [past("1", created_at=NOW - 8 * DAY)], []),
    "of no age": ([], [past("1", created_at=None)], [Kind.FOREIGN]),
}


@pytest.mark.parametrize("case", CASES)
def test_how_the_sides_differ(case: str) -> None:
    records, history, expected = CASES[case]
    assert kinds(records, history) == expected


def test_a_record_that_has_expired_as_it_was_meant_to_is_not_lost() -> None:
    assert kinds([], [past("1", "a")], kept_since=NOW) == []
    assert kinds([], [past("1")], kept_since=NOW) == [Kind.FOREIGN]


def test_both_sides_are_summed_a_request_once() -> None:
    records = [record("a", sent("1"), sent(None, RequestStatus.ABSENT, None)), UNKNOWN]
    found, _ = compare(records, [past("1", "a")], NOW - 7 * DAY, NOW)
    assert (found.ledger.requests, found.ledger.usd, found.ledger.unknown) == (2, COST, 1)
    assert (found.history.requests, found.history.usd, found.history.unknown) == (1, COST, 0)


# ---- the command -----------------------------------------------------------------------------------------------------


class Billing(Provider):
    """A provider with a history in pages: a row for each output, each with the request's whole cost."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.fault: httpx.Response | None = None

    def bill(self, request_id: str, at: float, name: str | None = None, outputs: int = 1) -> None:
        """Add a request."""
        disposition = quote(f'inline; filename="{name}"')
        face = f"https://b.test/face.png?response-content-disposition={disposition}" if name else "https://b.test/f.png"
        row = {
            **{"request_id": request_id, "model_status": "COMPLETED", "credits_deduction": COST, "latency_ms": 31_000},
            **{"request_body": {"face_image": face, "prompt": "x"}, "model_created": rfc3339(at)},
        }
        urls = [f"{BASE_URL}/media/{request_id}-{number}.png" for number in range(1, outputs + 1)]
        self.rows += [{**row, "generation_url": url} for url in urls]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != HISTORY_HOST:
            return super().__call__(request)
        if self.fault:
            return self.fault
        if not request.url.path.endswith("/request-history"):
            found = [row for row in self.rows if request.url.path.endswith(f"/{row['request_id']}")]
            return httpx.Response(200, json=found[0]) if found else httpx.Response(404)
        page, size = int(request.url.params["page"]), int(request.url.params["per_page"])
        rows = sorted(self.rows, key=lambda row: str(row["model_created"]), reverse=True)
        return httpx.Response(200, json={"generations": rows[(page - 1) * size : page * size]})


@pytest.fixture
def provider() -> Billing:
    return Billing()


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", f"https://{HISTORY_HOST}")
    return environment


class Books:
    """Jobs in the ledger and requests in the history, and the deliver function behind the command."""

    def __init__(self, pipeline: Pipeline, provider: Billing) -> None:
        self.pipeline = pipeline
        self.provider = provider
        self.ledger = Ledger(boto3.client("dynamodb"), TABLE)
        self.made = 0
        self.invoked: list[dict[str, Any]] = []
        pipeline.hook("lambda", "Invoke", self._invoke)

    def _invoke(self, params: dict[str, Any], **_: Any) -> Any:
        event = json.loads(params["body"])
        self.invoked.append(event)
        answer = self.pipeline.deliver.handler(event, Context(300)) if "history" in event else {}
        body = json.dumps(answer).encode()
        return SimpleNamespace(status_code=200), {"Payload": SimpleNamespace(read=lambda: body)}

    def job(self, *, samples: int = 1, unknown: bool = False, billed: bool = True) -> Record:
        """Let one more job run to its end, a day ago."""
        self.made += 1
        name, at = f"hero-pose{self.made}-{self.made:016x}", self.pipeline.clock.now - DAY + self.made * 60
        face, pose = (
            Input("b", f"incoming/hero/{role}.png", None, "e", 1, "0" * 64, "image/png") for role in ("face", "pose")
        )
        parameters = {"prompt": "x", "samples": samples}
        job = Job(name, "b", "hero", f"pose{self.made}", {"face": face, "pose": pose}, parameters)
        record = self.ledger.claim(self.ledger.queue(job, in_line(1, at), at), "me", COST, at)
        request_id = f"request-of-{name}"
        if unknown:
            requests = record.with_status(record.claimed, RequestStatus.ABSENT, charged_usd=0.0)
            record = self.ledger.fail(record, SubmitOutcomeUnknown("no response"), at + 60, requests=requests)
        else:
            record = self.ledger.submitted(record, request_id, at + 1)
            requests = record.with_status(record.requests[0], RequestStatus.ACCEPTED, cost_usd=COST)
            outputs = [{"uri": f"s3://o/{name}", "bytes": 1}]
            record = self.ledger.succeed(record, outputs, {"total_seconds": 1.0}, at + 40, requests=requests)
        self.ledger.notified(record, at + 61)
        if billed:
            self.provider.bill(request_id, at + 0.5, execution_name(name, 1), samples)
        return record


@pytest.fixture
def books(pipeline: Pipeline, provider: Billing, stack: Stack) -> Books:
    return Books(pipeline, provider)


def test_an_honest_run_of_200_jobs_has_no_difference(books: Books, run: Run) -> None:
    for number in range(200):
        books.job(samples=number % 4 + 1)
    found = json.loads(run("reconcile", "--since", "7d", "--json").stdout)
    assert found["differences"] == []
    assert found["ledger"] == found["history"] == {"requests": 200, "usd": 5.88, "unknown": 0}
    assert "agree" in run("reconcile").output


def test_each_of_ten_differences_is_found_and_no_other(books: Books, run: Run) -> None:
    at = books.pipeline.clock.now - DAY
    jobs = [books.job(samples=number % 2 + 1) for number in range(40)]
    names = [execution_name(job.job_id, 1) for job in jobs]
    for number in range(2):  # 1, 2: billed twice
        books.provider.bill(f"second-{number}", at + 30 + number, names[number], outputs=2)
    for number in range(3):  # 3 to 5: requests of somebody else
        books.provider.bill(f"foreign-{number}", at + 100 + number, outputs=number + 1)
    for job in jobs[10:12]:  # 6, 7: lost records
        books.pipeline.dynamodb.delete_item(Key={"job_id": job.job_id})
    late = [books.job(unknown=True) for _ in range(2)]  # 8, 9: late answers
    books.job(billed=False)  # 10: not in the history
    books.job(unknown=True, billed=False)  # was never there: no difference
    result = run("reconcile", "--json", code=5)
    found = json.loads(result.stdout)
    assert [(each["kind"], each["request_ids"][0]) for each in found["differences"]] == [
        *(("foreign", f"foreign-{number}") for number in range(3)),
        *(("lost record", f"request-of-{job.job_id}") for job in jobs[10:12]),
        *(("billed twice", f"request-of-{job.job_id}") for job in jobs[:2]),
        ("not in the history", f"request-of-hero-pose43-{43:016x}"),
        *(("known now", f"request-of-{job.job_id}") for job in late),
    ]
    assert "10 differences" in result.stderr
    shown = run("reconcile", code=5)
    assert "known now" in shown.stdout
    assert "reconcile --adopt" in shown.stderr
    assert [event for event in books.invoked if "history" not in event] == []


def test_without_adopt_nothing_is_written(books: Books, run: Run) -> None:
    books.job(unknown=True)
    before = books.pipeline.dynamodb.scan()["Items"]
    run("reconcile", code=5)
    assert books.pipeline.dynamodb.scan()["Items"] == before


def test_what_turned_up_is_adopted_and_delivered_as_an_attempt_that_cost_nothing(books: Books, run: Run) -> None:
    job = books.job(unknown=True)
    found = json.loads(run("reconcile", "--adopt", "--json", code=5).stdout)
    assert found["adopted"] == [job.job_id]
    assert any("ages" in event for event in books.invoked)
    (kept,) = books.pipeline.records().values()
    assert (kept["status"], kept["unfinished"]) == ("FAILED", "rescue")
    answer = books.pipeline.deliver.handler({"rescue": job.job_id, "attempt": 1}, Context(300))
    assert answer["rescued"] is True
    (notified,) = books.pipeline.notifications()
    assert (notified["status"], notified["attempt"], notified["request_id"]) == (
        "SUCCEEDED",
        2,
        f"request-of-{job.job_id}",
    )
    assert (notified["metrics"]["cost_usd"], notified["metrics"]["rescued"]) == (0, True)
    assert books.provider.posts == []
    assert books.pipeline.gate().budgets.read(books.pipeline.clock.now - DAY).month == pytest.approx(COST)
    assert "agree" in run("reconcile").stdout


def test_a_job_that_has_changed_meanwhile_is_not_adopted(
    books: Books, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = books.job(unknown=True)
    original = Ledger.own_request_id

    def retried_first(self: Ledger, record: Record, request_id: str, now: float) -> bool:
        self.new_attempt(record, "retry", now, place=in_line(1, now))
        return original(self, record, request_id, now)

    monkeypatch.setattr(Ledger, "own_request_id", retried_first)
    assert json.loads(run("reconcile", "--adopt", "--json", code=5).stdout)["adopted"] == []
    assert books.pipeline.records()[job.job_id]["status"] == "QUEUED"


FAULTS: dict[str, httpx.Response] = {
    "down": httpx.Response(503),
    "moved": httpx.Response(404),
    "another shape": httpx.Response(200, json={"a": 1}),
}


@pytest.mark.parametrize("why", FAULTS)
def test_a_history_that_cannot_say_is_no_difference_but_a_failure(books: Books, run: Run, why: str) -> None:
    books.job()
    books.provider.fault = FAULTS[why]
    assert "history" in run("reconcile", code=1).stderr


def test_what_is_under_way_is_left_out(books: Books, run: Run) -> None:
    books.provider.bill("young", books.pipeline.clock.now - SETTLED + 60)
    assert "agree" in run("reconcile").stdout


def test_a_long_history_is_read_in_parts(books: Books, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedrop.segmind.history.MOST_PAGES", 2)
    begin = books.pipeline.clock.now - DAY
    for number in range(950):
        books.provider.bill(f"foreign-{number:03}", begin + number)
    found = json.loads(run("reconcile", "--json", code=5).stdout)
    assert len(found["differences"]) == found["history"]["requests"] == 950
    assert len(books.invoked) == 5
