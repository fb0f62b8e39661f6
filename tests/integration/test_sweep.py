"""The sweep and the rule on failed executions: which jobs they resume, and which they do not change."""

import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from jsonschema import Draft7Validator

from bench.cost import load_prices
from posedrop.contract.times import epoch
from posedrop.segmind.client import Segmind
from tests.integration.conftest import Pipeline, clock_module, load
from tests.support import Context, image, load_event, schema

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
POSE = ("incoming/hero/pose.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.png", image("png", (12, 8), "gray"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
MINUTE, HOUR = 60, 3600
ALERT_HOURS = 24


class Swept:
    """The pipeline with the sweep, and what the sweep asked deliver to do."""

    def __init__(self, pipeline: Pipeline, module: Any) -> None:
        self.pipeline = pipeline
        self.module = module
        self.reported: list[dict[str, Any]] = []
        pipeline.hook("lambda", "Invoke", self._invoked)

    def _invoked(self, params: dict[str, Any], **_: Any) -> Any:
        self.reported.append(json.loads(params["body"]))
        return SimpleNamespace(status_code=202), {"StatusCode": 202}

    def __call__(self, after: float = 0, seconds: float = 300, **event: Any) -> dict[str, int]:
        """Let so much time pass, sweep, and handle all that came of it. Return what was done, by status."""
        self.pipeline.clock.now += after
        counts: dict[str, int] = self.module.handler(event, Context(seconds))
        self.pipeline.drain()
        for report in self.reported:
            self.pipeline.deliver.handler(report, Context(300))
        self.reported.clear()
        return {status: count for status, count in counts.items() if count}


@pytest.fixture
def sweep(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Swept:
    for name, value in (("DELIVER_FUNCTION", "deliver"), ("WAITING_ALERT_HOURS", str(ALERT_HOURS))):
        monkeypatch.setenv(name, value)
    module = load("sweep")
    monkeypatch.setattr(module, "time", clock_module(pipeline.clock))
    return Swept(pipeline, module)


def stop_execution(pipeline: Pipeline) -> None:
    """Abort the only execution."""
    machine = pipeline.sfn.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    (execution,) = pipeline.sfn.list_executions(stateMachineArn=machine)["executions"]
    pipeline.sfn.stop_execution(executionArn=execution["executionArn"])


# ---- uploads that wait -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "lost"), [(FACE, WALK), (WALK, FACE)], ids=["pose-lost", "face-lost"])
def test_a_lost_event_is_recovered(sweep: Swept, first: Any, lost: Any) -> None:
    sweep.pipeline.upload(first)
    sweep.pipeline.put(*lost)
    assert sweep(after=9 * MINUTE) == {}
    assert sweep(after=2 * MINUTE) == {"WAITING": 1}
    assert [record["status"] for record in sweep.pipeline.records().values()] == ["SUBMITTED"]


@pytest.mark.parametrize(
    ("files", "missing"), [([FACE], "pose missing"), ([WALK], "face missing"), ([FACE, WALK], "prompt missing")]
)
def test_uploads_that_wait_too_long_are_notified_once(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, files: list[Any], missing: str
) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv("DEFAULT_PROMPT_PARAMETER", "")
    sweep: Swept = request.getfixturevalue("sweep")
    sweep.pipeline.upload(*files)
    sweep(after=(ALERT_HOURS - 1) * HOUR)
    assert sweep.pipeline.notifications() == []
    assert sweep(after=2 * HOUR)["WAITING"] >= 1
    for _ in range(3):
        sweep(after=100 * HOUR)
    (notified,) = sweep.pipeline.notifications()
    Draft7Validator(schema("notification")).validate(notified)
    assert (notified["status"], notified["character"], notified["error"]["type"]) == (
        "INCOMPLETE",
        "hero",
        "Incomplete",
    )
    assert notified["pose"] == (None if files == [FACE] else "walk")
    assert missing in notified["error"]["message"]
    assert not sweep.pipeline.provider.posts


def test_waiting_uploads_are_checked_less_and_less_often(sweep: Swept) -> None:
    sweep.pipeline.clock.now = float(int(sweep.pipeline.clock.now))  # the ledger's times have milliseconds
    sweep.pipeline.upload(WALK)
    checks = [hour for hour in range(6, 1500, 6) if sweep(after=6 * HOUR)]
    assert checks == [6, 12, ALERT_HOURS, 48, 96, 192, 384, 768, 768 + 30 * 24]


def test_a_thousand_uploads_that_stay_incomplete_cost_cents_a_month(sweep: Swept) -> None:
    """At list prices, from the calls that the checks of one make, and twice the seconds that they take here."""
    pipeline, prices = sweep.pipeline, load_prices()
    price = {
        "ListObjectsV2": prices["s3_put"],
        "SendMessage": prices["sqs_request"],
        "Query": prices["dynamodb_read"],
        "GetItem": prices["dynamodb_read"],
        "UpdateItem": 3 * prices["dynamodb_write"],  # where it moves in an index: the item, the old entry, the new one
        "DeleteItem": prices["dynamodb_write"],
        "Publish": prices["sns_publish"] + prices["kms_request"],
        "ReceiveMessage": 0.0,  # the event source's, which come below: here it is the test that calls
        "DeleteMessage": 0.0,
    }
    beside = 2 * prices["sqs_request"] + prices["lambda_request"] + 2000 / 1e9 * prices["logs_gb"]
    beside += 0.5 * prices["lambda_gb_second"] * (1.0 + 0.25)  # `intake` has 1 GB, the sweep a quarter
    pipeline.upload(WALK)
    begin = pipeline.clock.now
    months = [0.0] * 13
    usd: list[float] = []
    for service in ("s3", "sqs", "dynamodb", "sns"):
        pipeline.hook(service, "*", lambda model, **_: usd.append(price[model.name]))
    while (now := epoch(str(pipeline.record()["unfinished_at"])) + HOUR) < begin + 13 * 30 * 24 * HOUR:
        pipeline.clock.now = now
        usd.clear()
        assert sweep() == {"WAITING": 1}
        months[int((now - begin) / (30 * 24 * HOUR))] += 1000 * (sum(usd) + beside)
    assert (months[0] < 0.5, max(months[1:]) < 0.05) == (True, True), months
    print(f"1,000 incomplete uploads: {months[0]:.2f} USD in the first month, then at most {max(months[1:]):.3f}")


def test_the_alert_can_be_filtered(sweep: Swept) -> None:
    sweep.pipeline.upload(FACE)
    sweep(after=25 * HOUR)
    (message,) = sweep.pipeline.receive(sweep.pipeline.notifications_url)
    attributes = {name: found["Value"] for name, found in json.loads(message["Body"])["MessageAttributes"].items()}
    assert attributes == {"status": "INCOMPLETE", "character": "hero", "error_type": "Incomplete"}


def test_an_incomplete_job_continues_when_the_rest_arrives(sweep: Swept) -> None:
    sweep.pipeline.upload(WALK)
    sweep(after=25 * HOUR)
    sweep.pipeline.upload(FACE)
    sweep.pipeline.run_all()
    assert [notified["status"] for notified in sweep.pipeline.notifications()] == ["INCOMPLETE", "SUCCEEDED"]


@pytest.mark.parametrize("files", [[FACE], [WALK]])
def test_uploads_that_were_deleted_are_forgotten(sweep: Swept, files: list[Any]) -> None:
    sweep.pipeline.upload(*files)
    for key, _ in files:
        sweep.pipeline.s3.delete_object(Bucket="posedrop-uploads", Key=key)
    sweep(after=HOUR)
    assert sweep.pipeline.records() == {}
    sweep(after=25 * HOUR)
    assert sweep.pipeline.notifications() == []


# ---- jobs whose message is lost --------------------------------------------------------------------------------------


def test_a_queued_job_is_left_to_dispatch(sweep: Swept) -> None:
    sweep.pipeline.provider.submits.insert(0, httpx.ConnectError("no connection"))
    sweep.pipeline.put(*FACE)
    sweep.pipeline.upload(WALK)
    assert sweep.pipeline.record()["status"] == "QUEUED"
    assert sweep(after=48 * HOUR) == {}
    assert sweep.pipeline.resume()
    assert sweep.pipeline.record()["status"] == "SUBMITTED"
    assert len(sweep.pipeline.provider.posts) == 2


def test_a_claim_whose_function_died_is_notified(sweep: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(Segmind, "submit", die)
    sweep.pipeline.put(*FACE)
    with pytest.raises(SystemExit):
        sweep.pipeline.upload(WALK)
    sweep.pipeline.messages.clear()
    assert sweep.pipeline.record()["status"] == "SUBMITTING"
    assert sweep(after=9 * MINUTE) == {}
    assert sweep(after=2 * MINUTE) == {"SUBMITTING": 1}
    sweep.pipeline.run_all()
    (notified,) = sweep.pipeline.notifications()
    assert notified["error"]["type"] == "SubmitOutcomeUnknown"
    assert not sweep.pipeline.provider.posts


# ---- jobs without a living execution ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "age"), [(None, "SUBMITTED", 10 * MINUTE), (httpx.Response(400), "FAILED", 15 * MINUTE)]
)
def test_an_execution_that_was_never_started_is_started(sweep: Swept, answer: Any, status: str, age: float) -> None:
    pipeline = sweep.pipeline
    pipeline.provider.submits = [answer] if answer else pipeline.provider.submits
    pipeline.break_call("stepfunctions", "StartExecution")
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    pipeline.hooks.pop()()
    pipeline.messages.clear()
    assert (pipeline.record()["status"], pipeline.executions()) == (status, {})
    assert sweep(after=age - MINUTE) == {}
    assert sweep(after=2 * MINUTE) == {status: 1}
    pipeline.run_all()
    assert [notified["status"] for notified in pipeline.notifications()] == [
        "SUCCEEDED" if answer is None else "FAILED"
    ]
    assert len(pipeline.provider.posts) == 1


def test_an_execution_that_ended_without_notifying_is_reported(sweep: Swept) -> None:
    sweep.pipeline.upload(FACE, WALK)
    stop_execution(sweep.pipeline)
    assert sweep(after=2 * HOUR) == {"SUBMITTED": 1}
    assert sweep(after=2 * HOUR) == {}
    (notified,) = sweep.pipeline.notifications()
    assert (notified["status"], notified["error"]["type"]) == ("FAILED", "InternalError")
    assert "ABORTED" in notified["error"]["message"]


def test_what_has_ended_but_was_not_notified_is_notified_as_it_ended(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    pipeline.upload(FACE, WALK)
    pipeline.break_call("sns", "Publish")
    with pytest.raises(Exception, match="AccessDenied"):
        pipeline.run_all()
    pipeline.hooks.pop()()
    stop_execution(pipeline)
    assert sweep(after=HOUR) == {"SUCCEEDED": 1}
    (notified,) = pipeline.notifications()
    assert (notified["status"], len(notified["outputs"])) == ("SUCCEEDED", 1)


# ---- what is well, and what cannot be healed -------------------------------------------------------------------------


def test_what_is_well_is_left_alone(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    pipeline.upload(FACE, WALK)
    assert sweep() == {}
    assert sweep(after=2 * HOUR) == {}  # long, but its execution runs
    pipeline.provider.statuses = [httpx.Response(200, json={"status": "COMPLETED"})]
    pipeline.run_all()
    before = pipeline.record()
    assert sweep(after=1000 * HOUR, ages={"submitted": 0, "ended": 0, "waiting": 0}) == {}
    assert pipeline.record() == before
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == len(pipeline.notifications()) == 1


def test_by_hand_with_other_ages(sweep: Swept) -> None:
    sweep.pipeline.upload(WALK)
    sweep.pipeline.put(*FACE)
    assert sweep(after=1) == {}
    assert sweep(after=1, ages={"waiting": 0}) == {"WAITING": 1}


def test_a_record_that_cannot_be_resumed_raises_and_stops_no_other(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    pipeline.upload(FACE, WALK)
    pipeline.upload(("incoming/other/poses/sit.png", WALK[1]))
    pipeline.put("incoming/other/face.png", FACE[1])
    for name in ("waiting/broken/a", "waiting/broken/b"):
        pipeline.dynamodb.put_item(
            Item={
                "job_id": name,
                "status": "WAITING",
                "unfinished": "waiting",
                "unfinished_at": "2020-01-01T00:00:00.000Z",
                "updated_at": "2020-01-01T00:00:00.000Z",
            }
        )
    pipeline.break_call("stepfunctions", "ListExecutions")
    with pytest.raises(Exception, match="3 records were not resumed"):
        sweep(after=2 * HOUR)
    pipeline.drain()
    assert {record["pose"] for record in pipeline.records().values() if record.get("pose")} == {"walk", "sit"}
    assert len(pipeline.provider.posts) == 2


def test_it_stops_when_its_time_is_up(sweep: Swept) -> None:
    sweep.pipeline.upload(WALK)
    assert sweep(after=HOUR, seconds=29) == {}
    assert sweep(seconds=31) == {"WAITING": 1}


class Countdown(Context):
    """The context of an invocation that has the time for so many records."""

    def get_remaining_time_in_millis(self) -> int:
        self.seconds -= 1
        return 100_000 if self.seconds >= 0 else 0


def test_each_run_continues_with_the_unchecked_records_paid_ones_first(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    pipeline.upload(("incoming/alone/poses/walk.png", WALK[1]))
    for number in range(3):
        pipeline.upload(*((f"incoming/{number}/{key.rpartition('/')[2]}", body) for key, body in (FACE, POSE)))
    for file in (f"incoming/{number}/pose.png" for number in "45"):
        pipeline.upload((file.replace("pose", "face"), FACE[1]), (file, FACE[1][:-20]))
    checked: list[str] = []
    pipeline.hook("dynamodb", "GetItem", lambda params, **_: checked.append(_character(params)))
    pipeline.clock.now += HOUR
    for _ in range(6):
        sweep.module.handler({}, Countdown(2))
    assert checked[:6] == ["0", "1", "2", "4", "5", "alone"]


def _character(params: dict[str, Any]) -> str:
    name: str = json.loads(params["body"])["Key"]["job_id"]["S"]
    return name.removeprefix("waiting/").split("-" if "-pose-" in name else "/")[0]


def test_executions_that_run_are_listed_not_described(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    calls: list[str] = []
    for name in ("DescribeExecution", "ListExecutions"):
        pipeline.hook("stepfunctions", name, lambda model, **_: calls.append(model.name))
    pipeline.upload(FACE, WALK, SIT)
    calls.clear()
    assert sweep(after=HOUR) == {}
    assert calls == ["ListExecutions"]


def test_what_fails_goes_behind_what_was_not_checked(sweep: Swept) -> None:
    pipeline = sweep.pipeline
    for name in ("a", "b"):
        pipeline.upload((f"incoming/{name}/face.png", FACE[1]), (f"incoming/{name}/pose.png", WALK[1]))
    pipeline.break_call("stepfunctions", "ListExecutions")
    pipeline.clock.now += HOUR
    for number in (1, 2):
        with pytest.raises(Exception, match="1 records were not resumed"):
            sweep.module.handler({}, Countdown(1))
        moved = [item for item in pipeline.records().values() if item["unfinished_at"] > item["updated_at"]]
        assert len(moved) == number


# ---- the rule on the executions' ends --------------------------------------------------------------------------------


def status_change(execution: dict[str, Any], status: str) -> dict[str, Any]:
    event: dict[str, Any] = load_event("deliver-execution-failed.json")
    event["detail"] |= {"status": status, "input": json.dumps(execution), "error": "States.Timeout", "cause": "it hung"}
    return event


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_an_execution_that_could_not_notify_its_end_is_notified(pipeline: Pipeline, status: str) -> None:
    pipeline.upload(FACE, WALK)
    (execution,) = pipeline.executions().values()
    for _ in range(2):
        assert pipeline.deliver.handler(status_change(execution, status), Context(300)) is None
    (notified,) = pipeline.notifications()
    Draft7Validator(schema("notification")).validate(notified)
    assert notified["error"] == {
        "type": "InternalError",
        "message": f"the execution ended as {status}: States.Timeout it hung",
    }


def test_an_execution_that_notified_its_end_is_not_reported(pipeline: Pipeline) -> None:
    pipeline.provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "blocked"})]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    before = pipeline.record()
    (execution,) = pipeline.executions().values()
    pipeline.deliver.handler(status_change(execution, "FAILED"), Context(300))
    assert pipeline.record() == before
    assert len(pipeline.notifications()) == 1


@pytest.mark.parametrize("text", ['{"job_id": "no-such-job-0123456789abcdef", "attempt": 1}', None, "[]", "{}"])
def test_what_cannot_be_reported_raises_so_that_it_is_kept(pipeline: Pipeline, text: str | None) -> None:
    event = status_change({}, "FAILED")
    event["detail"]["input"] = text
    with pytest.raises(Exception, match=r".+"):
        pipeline.deliver.handler(event, Context(300))
