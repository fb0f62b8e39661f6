"""What grows with the work grows in proportion: 50,000 poses of one face, 100,000 records that nobody finishes."""

import json
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError

from posedrop.aws.channels import Channels
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import PoseMessage, SourceUpload, SubmitMessage, parse_message
from posedrop.aws.read_images import ReadImages
from posedrop.aws.record import Status
from posedrop.aws.record_items import to_item
from posedrop.aws.record_table import ENDED_UNSENT, INCOMPLETE, PAID
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.contract.delivery_requests import ExecutionEnd, parse_request
from posedrop.contract.times import rfc3339
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.budget import Budget
from posedrop.gate.gate import Gate
from posedrop.gate.rate_limit import RateLimit
from posedrop.intake.fan_out import PAGE, FanOut
from posedrop.intake.job_reader import JobReader
from posedrop.intake.job_recorder import JobRecorder
from posedrop.intake.upload_intake import UploadIntake
from posedrop.intake.waiting import Waiting
from posedrop.line.entrance import Entrance
from posedrop.line.line import Line
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.sweep.sweeper import Ages, Sweep
from posedrop.sweep.waiting_uploads import WaitingSweep
from tests.bucket import MemoryBucket
from tests.items import MemoryItems
from tests.support import image
from tests.table import Table

pytestmark = pytest.mark.large

NOW = 1_700_000_000.0
FACE = "incoming/hero/face.png"
TIMEOUT = 900.0
"""Seconds that the sweep's function may run (template.yaml)."""
POSES = 50_000
RECORDS = 100_000


# ---- 50,000 poses ----------------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process ends."""


class Queues:
    """A client of SQS: the upload queue, in its order, and how much is sent to the other. `dies`: before a batch?"""

    def __init__(self, dies: Callable[[], bool]) -> None:
        self.uploads: deque[str] = deque()
        self.submits = 0
        self.calls = 0
        self._dies = dies

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        if request["QueueUrl"] == "submits":
            self.submits += len(request["Entries"])
            return {}
        if self._dies():
            raise Death
        self.calls += 1
        self.uploads.extend(entry["MessageBody"] for entry in request["Entries"])
        return {}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let the package log errors only: a hundred thousand lines take longer than what they are about."""
    Logger()
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("rate", [0, 1 / 500])
def test_fifty_thousand_poses_become_a_job_each(rate: float) -> None:
    """At such a rate a process dies before a batch, and its message comes again behind all that it had sent."""
    chance = random.Random(14)
    files = {f"incoming/hero/poses/{number:05}.png": image("png", (8, 6)) for number in range(POSES)}
    s3: Any = MemoryBucket({**files, FACE: image("png", (9, 9))}, NOW - 3600)
    sqs: Any = Queues(lambda: chance.random() < rate)
    table, items = Table(), MemoryItems()
    settings: Any = SimpleNamespace(
        upload_prefix="incoming/", settle_seconds=5.0, prepare_images=True, model=CONSISTENT_CHARACTER
    )
    gate = Gate(items, RateLimit(50, "submits"), Budget(0, 0), CONSISTENT_CHARACTER)
    ledger, layout = Ledger(table, "jobs"), UploadLayout()  # type: ignore[arg-type]
    waiting, images = Waiting(ledger, sqs, "uploads", lambda: NOW), ReadImages(items, lambda: NOW)
    entrance = Entrance(gate, Line(items), SubmitQueue(sqs, "submits"), lambda: NOW)
    upload_intake = UploadIntake(
        layout,
        reader=JobReader(settings, lambda: "a walk in the rain", s3, images, waiting, lambda: NOW),
        fan_out=FanOut(s3, layout, waiting, settle_seconds=5.0),
        recorder=JobRecorder(ledger, entrance, lambda: NOW),
    )
    upload = SourceUpload(FACE, s3.etag(FACE).strip('"'))
    sqs.uploads.append(PoseMessage("bucket", "hero", "", upload).to_json())
    deaths = deepest = 0
    handled: Counter[str] = Counter()
    while sqs.uploads:
        deepest = max(deepest, len(sqs.uploads))
        body = sqs.uploads.popleft()
        message = parse_message(body)
        assert isinstance(message, PoseMessage)
        handled[message.pose] += 1
        try:
            upload_intake.pose(message)
        except Death:
            deaths += 1
            sqs.uploads.append(body)
    pages, of_poses = handled.pop(""), handled.total()
    records = [item for item in table.items.values() if "status" in item]
    lists = sum(number for (call, _), number in s3.calls.items() if call == "list")
    print(
        f"{POSES:,} poses: {pages} runs for pages, {deaths} of which died; {of_poses:,} messages about poses, "
        f"at most {deepest:,} at once, in {sqs.calls:,} calls; {lists:,} LISTs, "
        f"{s3.calls['get', FACE]} read of the face"
    )
    assert Counter(record["pose"]["S"] for record in records) == Counter(f"{number:05}" for number in range(POSES))
    assert {record["status"]["S"] for record in records} == {"QUEUED"}
    assert len({record["place"]["S"] for record in records if record["stands"]["S"] == "in line"}) > POSES - 100
    assert (deaths > 0, pages - deaths) == (rate > 0, POSES // PAGE)
    assert of_poses <= POSES + deaths * PAGE
    assert deaths or sqs.calls == POSES // 10 + pages - 1
    assert deepest <= PAGE * 2 + 1
    assert s3.calls["get", FACE] == 1
    assert lists == 2 * of_poses + 2 * pages  # the folder, for the spelling of poses/, and a page of that


# ---- 100,000 records -------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[int, str, Status, str]] = {
    "claimed": (10_000, PAID, Status.SUBMITTING, ""),
    "never started": (15_000, PAID, Status.SUBMITTED, ""),
    "runs": (15_000, PAID, Status.SUBMITTED, "RUNNING"),
    "died": (10_000, PAID, Status.SUBMITTED, "FAILED"),
    "not notified": (10_000, PAID, Status.SUCCEEDED, "FAILED"),
    "refused": (10_000, ENDED_UNSENT, Status.FAILED, ""),
    "uploads": (30_000, INCOMPLETE, Status.WAITING, ""),
}
"""The records: how many, their place in the index, their status, and the status of their execution if there is one."""


class Account(Table):
    """All clients of the sweep, the table's too. Each call takes its time on the simulated clock, `now`.

    done: the records that were resumed.
    """

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
        self.done: list[str] = []
        self.calls: Counter[str] = Counter()

    def take(self, call: str, seconds: float) -> None:
        self.calls[call] += 1
        self.now += seconds

    def get_item(self, **request: Any) -> dict[str, Any]:
        self.take("GetItem", 0.005)
        return super().get_item(**request)

    def update_item(self, **request: Any) -> dict[str, Any]:
        self.take("UpdateItem", 0.01)
        return super().update_item(**request)

    def send_message(self, **request: Any) -> None:
        self.take("SendMessage", 0.01)
        message = parse_message(request["MessageBody"])
        assert isinstance(message, SubmitMessage | PoseMessage)
        self.done.append(message.job_id if isinstance(message, SubmitMessage) else f"waiting/{message.character}/")

    def invoke(self, **request: Any) -> None:
        self.take("Invoke", 0.02)
        event = parse_request(json.loads(request["Payload"]))
        if isinstance(event, ExecutionEnd):  # the other asks for the credits
            self.done.append(event.name.removesuffix("-1"))

    def publish(self, **_: Any) -> None:
        self.take("Publish", 0.02)

    def describe_execution(self, **request: Any) -> dict[str, Any]:
        self.take("DescribeExecution", 0.1)  # AWS allows ten a second, however fast it is
        name = request["executionArn"].rpartition(":")[2]
        status = KINDS[kind_of(name)][3]
        if not status:
            raise ClientError({"Error": {"Code": "ExecutionDoesNotExist"}}, "DescribeExecution")
        return {"status": status, "input": json.dumps({"job_id": name.removesuffix("-1"), "attempt": 1})}

    def get_paginator(self, call: str) -> Any:
        return SimpleNamespace(paginate=self._unfinished if call == "query" else self._running)

    def _unfinished(self, **request: Any) -> Iterator[dict[str, Any]]:
        assert request["KeyConditionExpression"] == "unfinished = :kind AND unfinished_at <= :before"
        kind, before = (request["ExpressionAttributeValues"][name]["S"] for name in (":kind", ":before"))
        found = [item for item in self.items.values() if item.get("unfinished") == {"S": kind}]
        due = sorted((item["unfinished_at"]["S"], item["job_id"]["S"]) for item in found)
        keys = [{"job_id": {"S": job_id}} for at, job_id in due if at <= before]
        for start in range(0, max(1, len(keys)), 5000):  # a page of DynamoDB has a megabyte
            self.take("Query", 0.05)
            yield {"Items": keys[start : start + 5000]}

    def _running(self, **_: Any) -> Iterator[dict[str, Any]]:
        names = [f"{job_id}-1" for job_id in job_ids("runs")]
        for start in range(0, len(names), 1000):
            self.take("ListExecutions", 0.2)
            yield {"executions": [{"name": name} for name in names[start : start + 1000]]}


def job_ids(kind: str) -> list[str]:
    """The ids of the records of a kind."""
    slug = kind.replace(" ", "_")
    name = f"waiting/{slug}-%s/" if kind == "uploads" else f"{slug}-%s"
    return [name % f"{number:016x}" for number in range(KINDS[kind][0])]


def kind_of(name: str) -> str:
    """The kind of a record or an execution by its name."""
    return name.removeprefix("waiting/").partition("-")[0].replace("_", " ")


def put_records(account: Account) -> None:
    """Write the records: nothing has happened to them for two days."""
    for kind, (_, place, status, _) in KINDS.items():
        for number, job_id in enumerate(job_ids(kind)):
            since = rfc3339(account.now - 2 * 86400 + number)
            values = {"job_id": job_id, "status": status, "unfinished": place, "unfinished_at": since}
            times = {"created_at": since, "updated_at": since}
            named = {"bucket": "bucket", "character": job_id.split("/")[1] if "/" in job_id else kind, "pose": ""}
            account.put_item(Item=to_item({**values, **times, **named, "attempt": 1, "alerted_at": since}))


def test_the_sweep_gets_through_a_hundred_thousand_records_the_paid_ones_first() -> None:
    account: Any = Account(NOW)
    put_records(account)
    ledger, channels = Ledger(account, "jobs"), Channels(account, "topic")
    sweep = Sweep(
        ledger=ledger,
        sqs=account,
        sfn=account,
        waiting=WaitingSweep(ledger, account, "uploads", channels, 24, lambda: account.now),
        invoker=account,
        submit_queue_url="submits",
        state_machine_arn="arn:aws:states:eu-central-1:123456789012:stateMachine:job",
        deliver_function="deliver",
        clock=lambda: account.now,
    )
    seconds: list[float] = []
    runs: list[Counter[str]] = []
    while sum(map(Counter.total, runs)) < RECORDS - KINDS["runs"][0]:
        begin = account.now
        sweep.run(Ages(), lambda begin=begin: begin + TIMEOUT - account.now)  # type: ignore[misc]
        seconds.append(account.now - begin)
        runs.append(Counter(map(kind_of, account.done)))
        assert len(account.done) == len(set(account.done))
        for job_id in account.done:
            if not job_id.startswith("waiting/"):
                del account.items[job_id]  # it goes on, and has left the index when the next sweep comes
        account.done.clear()
        account.now = begin + 3600
    print(f"{RECORDS:,} records: {len(runs)} runs of {', '.join(f'{taken:.0f}' for taken in seconds)} s")
    print(", ".join(f"{name} {number:,}" for name, number in account.calls.items()))
    total = sum(runs, Counter[str]())
    assert total == Counter({kind: number for kind, (number, *_) in KINDS.items() if kind != "runs"})
    first = {kind: next(number for number, run in enumerate(runs) if run[kind]) for kind in total}
    last = {kind: max(number for number, run in enumerate(runs) if run[kind]) for kind in total}
    paid = max(last[kind] for kind, (_, place, _, _) in KINDS.items() if place == PAID and kind != "runs")
    assert paid <= first["refused"]
    assert last["refused"] <= first["uploads"]
    assert max(seconds) < TIMEOUT
    assert len(runs) <= 10
