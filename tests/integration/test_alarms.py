"""Every alarm, provoked by its cause: the handlers run, what they log is read as metrics, and the alarm is judged.

The metrics of SQS are of moto's queues, or shaped as the SQS developer guide tells (available CloudWatch metrics).
"""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.alarms import CloudWatch
from tests.cloudformation import Stack
from tests.integration.conftest import Pipeline
from tests.integration.test_sweep import Swept, sweep
from tests.support import Context, image

__all__ = ["sweep"]

ALARMS = Stack().of_type("AWS::CloudWatch::Alarm")
MINUTE = 60.0
HOUR = 3600.0
FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
COUNTS = {
    "ApproximateNumberOfMessages": "ApproximateNumberOfMessagesVisible",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}
"""What SQS calls a count as an attribute, and as a metric."""


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

    def pose(self, number: int) -> bool:
        """Upload one more pose."""
        return self.pipeline.upload((f"incoming/hero/poses/{number}.png", image("png", (8, 8 + number))))

    def sample(self, queue: str, **values: float) -> None:
        """Let SQS report a queue of the template."""
        for name, value in values.items():
            self.cloudwatch.put("AWS/SQS", name, {"QueueName": queue}, value, self.now)

    def sample_counts(self, queue: str, url: str) -> None:
        """Let SQS report how many messages a queue of moto has."""
        found = self.pipeline.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.sample(queue, **{metric: float(found[attribute]) for attribute, metric in COUNTS.items()})

    def sample_age(self, sent: float, received: int) -> None:
        """Let SQS report the age of its only message, as it does: not of one that was received three times."""
        if received < 3:
            self.sample("UploadQueue", ApproximateAgeOfOldestMessage=self.now - sent)

    def wait(self, seconds: float, state: str = "") -> None:
        """Pass the time, with a message in one state all the while: Visible, NotVisible, Delayed, or none."""
        self.collect()
        end = self.now + seconds
        while self.now < end:
            self.pipeline.clock.now += MINUTE
            counts = {metric: float(metric.endswith(f"Messages{state}")) for metric in COUNTS.values()}
            self.sample("UploadQueue", **counts)


@pytest.fixture
def watched(pipeline: Pipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The pipeline, whose functions write the metrics of their own service, as in the stack."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "posedrop/posedrop")
    for service, module in (("submit", pipeline.submit), ("deliver", pipeline.deliver), ("poll", pipeline.poll)):
        monkeypatch.setattr(module, "handler", _as_service(service, module.handler, monkeypatch))
    pipeline.put(*FACE)
    return Watched(pipeline, lambda: capsys.readouterr().out)


@pytest.fixture(name="sweep")
def watched_sweep(sweep: Swept, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """The sweep, which writes the metrics of its own service too."""
    monkeypatch.setattr(sweep.module, "handler", _as_service("sweep", sweep.module.handler, monkeypatch))
    return sweep


def _as_service(service: str, handler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def handle(event: Any, context: Any) -> Any:
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
        return handler(event, context)

    return handle


def answer(status: int) -> httpx.Response:
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
    watched.pipeline.run_all()
    assert {record["status"] for record in watched.pipeline.records().values()} == {"SUCCEEDED"}
    watched.sample_counts("UploadQueue", watched.pipeline.queue_url)
    watched.sample_counts("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == set()


# ---- dead letters --------------------------------------------------------------------------------------------------


def test_dead_letters(watched: Watched) -> None:
    assert watched.pipeline.handle("no message of ours")
    watched.sample_counts("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == {"DeadLettersAlarm"}
    watched.pipeline.receive(watched.pipeline.dead_letter_url)
    watched.pipeline.clock.now += 5 * MINUTE
    watched.sample_counts("DeadLetterQueue", watched.pipeline.dead_letter_url)
    assert watched.alarms() == set()


def test_an_event_that_could_not_be_delivered(watched: Watched) -> None:
    watched.sample("EventDeadLetterQueue", ApproximateNumberOfMessagesVisible=1.0)
    assert watched.alarms() == {"DeadLettersAlarm"}


# ---- the oldest message --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "expected"), [(5.9, set()), (6.1, {"OldestMessageAlarm"})])
def test_an_upload_that_waits_for_six_hours_unread(watched: Watched, hours: float, expected: set[str]) -> None:
    queue = watched.pipeline.queue_url
    watched.pipeline.sqs.send_message(QueueUrl=queue, MessageBody="{}")
    (message,) = watched.pipeline.sqs.receive_message(QueueUrl=queue, AttributeNames=["All"])["Messages"]
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    watched.pipeline.clock.now = sent + hours * HOUR
    watched.sample_age(sent, int(message["Attributes"]["ApproximateReceiveCount"]))
    assert watched.alarms() == expected


def wait_for_the_provider(watched: Watched, sweep: Swept, hours: float) -> None:
    """Let one job wait, its message coming back whenever it does; the sweep comes every hour."""
    watched.pipeline.provider.submits = [NO_CONNECTION]
    sent, received, swept = watched.now, 1, watched.now
    watched.pose(1)
    while watched.now < sent + hours * HOUR:
        received += 1
        watched.pipeline.receive_count = received  # the later, the longer it is put off
        assert not watched.pipeline.resume()
        watched.sample_age(sent, received)
        if watched.now >= swept + HOUR:
            swept = watched.now
            sweep()
        watched.collect()
    assert received > 3


def test_a_job_that_waits_for_five_hours(watched: Watched, sweep: Swept) -> None:
    wait_for_the_provider(watched, sweep, 5)
    assert watched.pipeline.record()["status"] == "QUEUED"
    assert watched.alarms() == set()


def test_a_job_that_waits_for_six_hours_though_its_message_is_received_again_and_again(
    watched: Watched, sweep: Swept
) -> None:
    wait_for_the_provider(watched, sweep, 7.5)
    assert watched.pipeline.record()["status"] == "QUEUED"
    assert watched.alarms() == {"OldestMessageAlarm"}
    # There is no all clear between two sweeps, and there is one after the job.
    sweep()
    for _ in range(65):
        watched.alarms()
        watched.pipeline.clock.now += MINUTE
        assert watched.alarms() == {"OldestMessageAlarm"}
    watched.pipeline.provider.submits = [accepted(1)]
    watched.pipeline.later = [(body, 0.0) for body, _ in watched.pipeline.later]
    assert watched.pipeline.resume()
    sweep()
    watched.alarms()
    watched.pipeline.clock.now += 6 * MINUTE
    assert watched.alarms() == set()


def test_a_new_attempt_is_not_as_old_as_its_job(watched: Watched, sweep: Swept) -> None:
    watched.pipeline.provider.submits = [answer(400), NO_CONNECTION]
    watched.pose(1)
    watched.pipeline.run_all()
    watched.pipeline.clock.now += 100 * HOUR
    watched.pipeline.handle({"retry": watched.pipeline.record()["job_id"]})
    watched.pipeline.clock.now += MINUTE
    sweep()
    assert watched.pipeline.record()["attempt"] == 2
    assert watched.alarms() == set()


# ---- the account ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 406])
def test_a_refused_account(watched: Watched, status: int) -> None:
    watched.pipeline.provider.submits = [answer(status)]
    watched.pose(1)
    assert watched.alarms() == ({"AccountPausedAlarm"} if status == 401 else set())
    watched.pose(2)
    assert watched.alarms() == {"AccountPausedAlarm"}


def test_two_requests_without_an_answer_pause_as_well(watched: Watched) -> None:
    watched.pipeline.provider.submits = [httpx.ReadTimeout("no answer")]
    watched.pose(1)
    watched.pose(2)
    watched.pose(3)
    assert watched.alarms() == {"AccountPausedAlarm"}


def test_one_refused_job_is_no_pause(watched: Watched) -> None:
    watched.pipeline.provider.submits = [answer(400), accepted(1)]
    watched.pose(1)
    watched.pose(2)
    assert watched.alarms() == set()


def test_there_is_no_all_clear_between_two_looks_at_a_pause_and_there_is_one_after_it(watched: Watched) -> None:
    watched.pipeline.provider.submits = [answer(401)] * 5 + [accepted(1)]
    watched.pose(1)
    for _ in range(4):
        _, seconds = min(watched.pipeline.later, key=lambda found: found[1])
        for _ in range(int(seconds // MINUTE) - 1):
            watched.alarms()
            watched.pipeline.clock.now += MINUTE
            assert "AccountPausedAlarm" in watched.alarms()
            watched.pipeline.later = [(body, left - MINUTE) for body, left in watched.pipeline.later]
        watched.pipeline.resume()
    watched.alarms()
    watched.pipeline.clock.now += HOUR + 5 * MINUTE
    watched.pipeline.later = [(body, 0.0) for body, _ in watched.pipeline.later]
    assert watched.pipeline.resume()
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


def told_by_eventbridge(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """EventBridge's word on an execution that was stopped."""
    detail = {"name": name, "status": "ABORTED", "input": json.dumps(given), "error": None, "cause": None}
    return {"detail-type": "Step Functions Execution Status Change", "source": "aws.states", "detail": detail}


def test_an_execution_that_ended_without_telling(watched: Watched) -> None:
    assert watched.pose(1)
    ((name, given),) = watched.pipeline.executions().items()
    watched.pipeline.deliver.handler(told_by_eventbridge(name, given), Context(300))
    assert watched.pipeline.record()["error"]["type"] == "InternalError"
    assert watched.alarms() == {"ExecutionUntoldAlarm"}


def test_an_execution_that_failed_but_told(watched: Watched) -> None:
    watched.pipeline.provider.statuses = watched.pipeline.provider.results = [ended("FAILED")]
    assert watched.pose(1)
    ((name, given),) = watched.pipeline.executions().items()
    watched.pipeline.run(given)
    watched.pipeline.deliver.handler(told_by_eventbridge(name, given), Context(300))
    assert watched.alarms() == set()


# ---- no success ----------------------------------------------------------------------------------------------------


def stuck(watched: Watched) -> None:
    """One upload that the provider does not take for an hour: delayed first, then hidden, in between visible."""
    watched.pipeline.provider.submits = [NO_CONNECTION]
    watched.pose(1)
    state = "Delayed"  # the job's own message, sent with a delay
    for _ in range(5):
        watched.wait(11 * MINUTE, state)
        watched.wait(MINUTE, "Visible")
        watched.pipeline.later = [(body, 0.0) for body, _ in watched.pipeline.later]
        assert not watched.pipeline.resume()
        state = "NotVisible"  # the same message, put off


def test_a_backlog_of_one_without_success(watched: Watched) -> None:
    stuck(watched)
    assert watched.pipeline.record()["status"] == "QUEUED"
    assert watched.alarms() == {"NoSuccessAlarm"}


def test_a_backlog_with_a_success(watched: Watched) -> None:
    stuck(watched)
    watched.pipeline.provider.submits = [accepted(1)]
    watched.pipeline.later = [(body, 0.0) for body, _ in watched.pipeline.later]
    assert watched.pipeline.resume()
    watched.pipeline.run_all()
    watched.wait(MINUTE, "Visible")
    assert watched.alarms() == set()


def test_no_backlog_and_no_success(watched: Watched) -> None:
    watched.wait(2 * HOUR)
    assert watched.alarms() == set()


def test_a_backlog_of_less_than_an_hour(watched: Watched) -> None:
    watched.wait(54 * MINUTE, "Visible")
    assert watched.alarms() == set()
