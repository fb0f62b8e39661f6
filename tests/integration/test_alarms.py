"""Every alarm is provoked by its cause: the handlers run, their logs are read as metrics, and the alarm is judged.

The metrics of SQS are of moto's queues, or shaped as in the SQS developer guide (available CloudWatch metrics).
"""

import json
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest

from posedrop.aws.items import Items
from posedrop.gate.credits import CreditsStore
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.alarms import CloudWatch
from tests.cloudformation import Stack
from tests.integration.conftest import TABLE, Pipeline
from tests.support import FIRST_PRICE, Context, image

ALARMS = Stack().of_type("AWS::CloudWatch::Alarm")
MINUTE = 60.0
HOUR = 3600.0
FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))


class Watched:
    """The pipeline with CloudWatch beside it."""

    def __init__(self, pipeline: Pipeline, read: Callable[[], str]) -> None:
        self.pipeline = pipeline
        self.cloudwatch = CloudWatch()
        self._read = read

    @property
    def now(self) -> float:
        """The pipeline's time."""
        return self.pipeline.clock.now

    def alarms(self) -> set[str]:
        """The alarms that are on now."""
        self.collect()
        return {name for name, alarm in ALARMS.items() if self.cloudwatch.state(alarm, self.now) == "ALARM"}

    def collect(self) -> None:
        """Read what the handlers have logged."""
        self.cloudwatch.collect(self._read(), self.now)

    def live(self, seconds: float, step: float = MINUTE) -> None:
        """Let so much time pass, with a run of dispatch at each step, and every message handled."""
        end = self.now + seconds
        while self.now < end:
            self.pipeline.pass_time(step)
            self.pipeline.run_dispatch()
            self.pipeline.drain()
            due = [body for body, left in self.pipeline.messages if not left]
            self.pipeline.messages = [(body, left) for body, left in self.pipeline.messages if left]
            for body in due:
                self.pipeline.handle(body)
            self.collect()

    def pose(self, number: int) -> bool:
        """Upload one more pose."""
        return self.pipeline.upload((f"incoming/hero/poses/{number}.png", image("png", (8, 8 + number))))

    def sample(self, queue: str, **values: float) -> None:
        """Let SQS report a queue of the template."""
        for name, value in values.items():
            self.cloudwatch.put("AWS/SQS", name, {"QueueName": queue}, value, self.now)

    def sample_count(self, queue: str, url: str) -> None:
        """Let SQS report how many messages a queue of moto has."""
        found = self.pipeline.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        visible = float(found["ApproximateNumberOfMessages"])
        self.sample(queue, ApproximateNumberOfMessagesVisible=visible)


@pytest.fixture
def watched(
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Watched:
    """The pipeline, whose functions write the metrics of their own service, as in the stack.

    A test's parameter is the stack's daily budget (USD).
    """
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "posedrop/posedrop")
    monkeypatch.setenv("DAILY_BUDGET", str(getattr(request, "param", 0)))
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    for service in ("intake", "dispatch", "submit", "deliver", "poll"):
        module = getattr(pipeline, service)
        monkeypatch.setattr(module, "handler", _as_service(service, module.handler, monkeypatch))
    pipeline.put(*FACE)
    return Watched(pipeline, lambda: capsys.readouterr().out)


def _as_service(service: str, handler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def handle(event: Any, context: Any) -> Any:
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
        return handler(event, context)

    return handle


def respond_with(status: int) -> httpx.Response:
    """A refusal of the provider."""
    return httpx.Response(status, json={"error": "because"})


NO_CONNECTION = httpx.ConnectError("connection refused")


def accepted(number: int) -> httpx.Response:
    """A submit that the provider took."""
    return httpx.Response(200, json={"request_id": f"request-{number}", "status": "QUEUED"})


def ended(status: str) -> httpx.Response:
    """A result of the provider."""
    output = "http://segmind.test/media/1.png" if status == "COMPLETED" else None
    return httpx.Response(200, json={"status": status, "error": None, "metrics": {}, "output": output})


def test_a_good_day_is_quiet(watched: Watched) -> None:
    watched.pipeline.provider.submits = [accepted(number) for number in range(6)]
    for number in range(6):
        assert watched.pose(number)
    watched.live(5 * MINUTE)
    watched.pipeline.run_all()
    assert {record["status"] for record in watched.pipeline.records().values()} == {"SUCCEEDED"}
    watched.sample_count("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == set()
    watched.live(2 * HOUR, step=5 * MINUTE)
    assert watched.alarms() == set()


# ---- dead letters --------------------------------------------------------------------------------------------------


def test_dead_letters(watched: Watched) -> None:
    assert watched.pipeline.handle("no message of ours")
    watched.sample_count("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == {"DeadLettersAlarm"}
    watched.pipeline.receive(watched.pipeline.dead_letter_url)
    watched.pipeline.clock.now += 5 * MINUTE
    watched.sample_count("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == set()


def test_an_event_that_could_not_be_delivered(watched: Watched) -> None:
    watched.sample("EventDeadLetterQueue", ApproximateNumberOfMessagesVisible=1.0)
    assert watched.alarms() == {"UndeliveredEventsAlarm"}


# ---- what waits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "expected"), [(55, set()), (70, {"OldestUploadAlarm"})])
def test_an_upload_that_is_not_read(watched: Watched, minutes: float, expected: set[str]) -> None:
    queue = watched.pipeline.queue_url
    watched.pipeline.sqs.send_message(QueueUrl=queue, MessageBody="{}")
    (message,) = watched.pipeline.sqs.receive_message(QueueUrl=queue, AttributeNames=["All"])["Messages"]
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    watched.pipeline.clock.now = sent
    while watched.now < sent + minutes * MINUTE:
        watched.pipeline.clock.now += 5 * MINUTE
        watched.sample("UploadQueue", ApproximateAgeOfOldestMessage=watched.now - sent)
    assert watched.alarms() == expected


def test_a_job_that_waits_for_six_hours(watched: Watched) -> None:
    watched.pipeline.provider.submits = [NO_CONNECTION]
    watched.pose(1)
    watched.live(5.5 * HOUR, step=30 * MINUTE)
    watched.live(25 * MINUTE, step=5 * MINUTE)
    assert "OldestJobAlarm" not in watched.alarms()
    watched.live(20 * MINUTE, step=5 * MINUTE)
    assert watched.pipeline.record()["status"] == "QUEUED"
    assert "OldestJobAlarm" in watched.alarms()
    watched.pipeline.provider.submits = [accepted(1)]
    watched.live(30 * MINUTE, step=5 * MINUTE)
    assert watched.pipeline.record()["status"] == "SUBMITTED"
    assert "OldestJobAlarm" not in watched.alarms()


def test_a_new_attempt_is_not_as_old_as_its_job(watched: Watched) -> None:
    watched.pipeline.provider.submits = [respond_with(400), NO_CONNECTION]
    watched.pose(1)
    watched.pipeline.run_all()
    watched.pipeline.clock.now += 100 * HOUR
    watched.pipeline.handle({"retry": watched.pipeline.record()["job_id"]})
    watched.live(10 * MINUTE)
    assert watched.pipeline.record()["attempt"] == 2
    assert watched.alarms() == set()


def test_credits_that_pay_for_few_jobs(watched: Watched) -> None:
    store = CreditsStore(Items(boto3.client("dynamodb"), TABLE), CONSISTENT_CHARACTER)
    watched.live(5 * MINUTE)
    assert watched.alarms() == set()  # what is left is not known
    store.note(50 * FIRST_PRICE, watched.pipeline.clock())
    watched.live(5 * MINUTE)
    assert watched.alarms() == set()
    store.note(49.9 * FIRST_PRICE, watched.pipeline.clock())
    watched.live(MINUTE)
    assert watched.alarms() == {"CreditsLowAlarm"}
    store.note(100.0, watched.pipeline.clock())
    watched.live(6 * MINUTE)
    assert watched.alarms() == set()


@pytest.mark.parametrize("watched", [0.03], indirect=True)
def test_a_budget_that_is_spent(watched: Watched) -> None:
    watched.pipeline.clock.now = (watched.now // 86400 + 1.5) * 86400
    watched.pose(1)
    watched.live(5 * MINUTE)
    assert watched.alarms() == set()  # nobody waits for it
    watched.pose(2)
    watched.live(MINUTE)
    assert watched.alarms() == {"BudgetSpentAlarm"}
    watched.live(12 * HOUR, step=HOUR)
    watched.live(10 * MINUTE)
    assert {record["status"] for record in watched.pipeline.records().values()} == {"SUBMITTED"}
    assert watched.alarms() == set()


# ---- the account ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 406])
def test_a_refused_account(watched: Watched, status: int) -> None:
    watched.pipeline.provider.submits = [respond_with(status)]
    watched.pose(1)
    watched.live(MINUTE)
    assert watched.alarms() == ({"AccountPausedAlarm"} if status == 401 else set())
    watched.pose(2)
    watched.live(MINUTE)
    assert watched.alarms() == {"AccountPausedAlarm"}


def test_two_requests_without_a_response_pause_as_well(watched: Watched) -> None:
    watched.pipeline.provider.submits = [httpx.ReadTimeout("no response")]
    watched.pose(1)
    watched.pose(2)
    watched.live(MINUTE)
    assert watched.alarms() == {"AccountPausedAlarm"}


def test_one_refused_job_is_no_pause(watched: Watched) -> None:
    watched.pipeline.provider.submits = [respond_with(400), accepted(1)]
    watched.pose(1)
    watched.pose(2)
    watched.live(MINUTE)
    assert watched.alarms() == set()


def test_a_pause_is_alarming_until_it_is_over(watched: Watched) -> None:
    watched.pipeline.provider.submits = [*[respond_with(401)] * 3, accepted(1)]
    watched.pose(1)
    for _ in range(35):  # a pause of 15 minutes, and a longer one
        watched.live(MINUTE)
        assert watched.alarms() == {"AccountPausedAlarm"}
    watched.live(2 * HOUR)
    assert watched.pipeline.record()["status"] == "SUBMITTED"
    assert watched.alarms() == set()


# ---- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "succeeded", "expected"),
    [
        (2, 3, {"FailureShareAlarm"}),
        (1, 3, set()),  # a quarter, but of four jobs
        (1, 4, set()),  # a fifth, and no more
        (5, 0, {"FailureShareAlarm"}),
        (4, 0, set()),
        (0, 5, set()),
    ],
)
def test_the_share_of_failures(watched: Watched, failed: int, succeeded: int, expected: set[str]) -> None:
    provider = watched.pipeline.provider
    provider.submits = [accepted(number) for number in range(failed + succeeded)]
    for number in range(failed + succeeded):
        assert watched.pose(number)
    outcomes = ["FAILED"] * failed + ["COMPLETED"] * succeeded
    for outcome, execution in zip(outcomes, watched.pipeline.executions().values(), strict=True):
        provider.statuses = provider.results = [ended(outcome)]
        watched.pipeline.run(execution)
    ends = sorted(record["status"] for record in watched.pipeline.records().values())
    assert ends == ["FAILED"] * failed + ["SUCCEEDED"] * succeeded
    assert watched.alarms() == expected
    watched.pipeline.clock.now += HOUR + MINUTE
    assert watched.alarms() == set()


# ---- executions ----------------------------------------------------------------------------------------------------


def sent_by_eventbridge(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """EventBridge's word on an execution that was stopped."""
    detail = {"name": name, "status": "ABORTED", "input": json.dumps(given), "error": None, "cause": None}
    return {"detail-type": "Step Functions Execution Status Change", "source": "aws.states", "detail": detail}


def test_an_execution_that_ended_without_notifying(watched: Watched) -> None:
    assert watched.pose(1)
    ((name, given),) = watched.pipeline.executions().items()
    watched.pipeline.deliver.handler(sent_by_eventbridge(name, given), Context(300))
    assert watched.pipeline.record()["error"]["type"] == "InternalError"
    assert watched.alarms() == {"ExecutionWithoutNotificationAlarm"}


def test_an_execution_that_failed_but_notified(watched: Watched) -> None:
    watched.pipeline.provider.statuses = watched.pipeline.provider.results = [ended("FAILED")]
    assert watched.pose(1)
    ((name, given),) = watched.pipeline.executions().items()
    watched.pipeline.run(given)
    watched.pipeline.deliver.handler(sent_by_eventbridge(name, given), Context(300))
    assert watched.alarms() == set()


# ---- no success ----------------------------------------------------------------------------------------------------


def test_a_job_that_waits_without_any_success(watched: Watched) -> None:
    watched.pipeline.provider.submits = [NO_CONNECTION]
    watched.pose(1)
    watched.live(55 * MINUTE, step=5 * MINUTE)
    assert watched.alarms() == set()
    watched.live(25 * MINUTE, step=5 * MINUTE)
    assert watched.pipeline.record()["status"] == "QUEUED"
    assert watched.alarms() == {"NoSuccessAlarm"}
    watched.pipeline.provider.submits = [accepted(1)]
    watched.live(30 * MINUTE, step=5 * MINUTE)
    watched.pipeline.run_all()
    watched.live(20 * MINUTE, step=5 * MINUTE)
    assert watched.alarms() == set()


def test_a_job_that_waits_while_others_succeed(watched: Watched) -> None:
    watched.pipeline.provider.submits = [respond_with(403), accepted(1), respond_with(403)]
    watched.pose(1)
    watched.pose(2)
    watched.live(10 * MINUTE, step=5 * MINUTE)
    watched.pipeline.run_all()
    watched.live(50 * MINUTE, step=5 * MINUTE)
    assert watched.alarms() == set()


def test_a_closed_gate_is_no_lack_of_success(watched: Watched) -> None:
    watched.pipeline.provider.submits = [respond_with(401)]
    watched.pose(1)
    watched.live(3 * HOUR, step=5 * MINUTE)
    assert "NoSuccessAlarm" not in watched.alarms()


def test_nothing_waits_and_nothing_succeeds(watched: Watched) -> None:
    watched.live(2 * HOUR, step=5 * MINUTE)
    assert watched.alarms() == set()
