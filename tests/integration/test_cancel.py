"""Cancelling: a job that was not sent ends, is notified and costs nothing; a job that was sent is not changed."""

from typing import Any

import boto3
import httpx
import pytest

from posedrop.aws.items import Items
from posedrop.aws.places import Entry
from posedrop.line.line import Line
from tests.integration.conftest import TABLE, Pipeline
from tests.integration.test_sweep import Swept, sweep
from tests.support import image

__all__ = ["sweep"]

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))


@pytest.fixture
def spent(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no money for a job."""
    monkeypatch.setenv("DAILY_BUDGET", "0.01")


@pytest.fixture
def queued(spent: None, pipeline: Pipeline) -> str:
    """The id of a job that waits in line, because the budget is spent."""
    assert pipeline.upload(FACE, WALK)
    record = pipeline.record()
    assert (record["status"], record["stands"]) == ("QUEUED", "in line")
    return str(record["job_id"])


def cancel(pipeline: Pipeline, job_id: str, attempt: int = 1) -> bool:
    """Ask for it as the operator's command does."""
    return pipeline.handle({"cancel": job_id, "attempt": attempt})


def dispatch(pipeline: Pipeline, job_id: str) -> dict[str, Any]:
    """Dispatch a job, and return its message."""
    number = Line(Items(boto3.client("dynamodb"), TABLE)).dispatch(Entry.of(pipeline.item(job_id)), pipeline.clock())
    return {"submit": job_id, "number": number}


def test_a_cancelled_job_fails_is_notified_and_costs_nothing(pipeline: Pipeline, queued: str) -> None:
    assert cancel(pipeline, queued)
    record = pipeline.record()
    assert (record["status"], record["cancelled"], record["unfinished"]) == ("FAILED", True, "ended")
    assert not {"stands", "place", "reason", "reason_code", "deferred_until", "send_at"} & record.keys()
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert (notified["status"], notified["attempt"], notified["request_id"]) == ("FAILED", 1, None)
    assert notified["error"] == {"type": "InvalidInput", "message": "cancelled"}
    assert "unfinished" not in pipeline.record()
    assert pipeline.gate().budgets.read(pipeline.clock()).day == 0
    assert pipeline.run_dispatch() == {"sent": 0, "returned": 0}
    assert not pipeline.provider.posts


def test_the_message_of_a_cancelled_job_does_nothing(pipeline: Pipeline, queued: str) -> None:
    message = dispatch(pipeline, queued)
    assert cancel(pipeline, queued)
    before = pipeline.record()
    pipeline.break_call("stepfunctions", "StartExecution")
    assert pipeline.handle(message)
    assert pipeline.record() == before
    assert not pipeline.provider.posts


def test_a_job_that_moves_meanwhile_is_cancelled_a_moment_later(pipeline: Pipeline, queued: str) -> None:
    messages: list[dict[str, Any]] = []

    def move(**_: Any) -> None:
        end()
        messages.append(dispatch(pipeline, queued))

    end = pipeline.hook("dynamodb", "UpdateItem", move)
    assert not cancel(pipeline, queued)
    assert pipeline.record()["status"] == "QUEUED"
    pipeline.messages.clear()
    assert cancel(pipeline, queued)  # redelivered
    assert pipeline.record()["cancelled"]
    assert pipeline.handle(messages[0])
    assert not pipeline.provider.posts


def test_a_job_that_is_claimed_meanwhile_is_left_alone(pipeline: Pipeline, queued: str) -> None:
    """The function has read the job as queued; before it writes, submit claims it."""
    claimed = {"status": "SUBMITTING", "owner": "someone"}

    def claim(**_: Any) -> None:
        end()
        pipeline.dynamodb.put_item(Item={**pipeline.record(), **claimed})

    end = pipeline.hook("dynamodb", "UpdateItem", claim)
    assert not cancel(pipeline, queued)
    pipeline.messages.clear()
    assert cancel(pipeline, queued)  # redelivered
    assert pipeline.record().items() >= claimed.items()
    assert not pipeline.executions()


@pytest.mark.parametrize("end", [False, True])
def test_a_job_that_was_sent_is_left_alone(pipeline: Pipeline, end: bool) -> None:
    pipeline.upload(FACE, WALK)
    if end:
        pipeline.run_all()
    before, started = pipeline.record(), pipeline.executions()
    assert cancel(pipeline, str(before["job_id"]))
    assert (pipeline.record(), pipeline.executions()) == (before, started)


def test_a_job_whose_request_may_be_paid_is_left_alone(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.Response(503)]
    pipeline.upload(FACE, WALK)
    before = pipeline.record()
    assert before["status"] == "QUEUED"
    assert cancel(pipeline, str(before["job_id"]))
    assert pipeline.record() == before


def test_a_lost_execution_is_started_when_the_message_is_redelivered(pipeline: Pipeline, queued: str) -> None:
    """The function dies between the write and the start of the execution that notifies."""
    pipeline.break_call("stepfunctions", "StartExecution", "InternalError", times=1)
    assert not cancel(pipeline, queued)
    assert pipeline.record()["cancelled"]
    assert not pipeline.executions()
    assert pipeline.resume()
    pipeline.run_all()
    assert [notified["error"]["message"] for notified in pipeline.notifications()] == ["cancelled"]


def test_the_sweep_notifies_ends_that_were_not_notified(pipeline: Pipeline, queued: str, sweep: Swept) -> None:
    pipeline.break_call("stepfunctions", "StartExecution", "InternalError", times=1)
    cancel(pipeline, queued)
    pipeline.messages.clear()  # it is lost
    pipeline.clock.now += 3600
    assert sweep()["FAILED"] == 1
    pipeline.run_all()
    assert [notified["error"]["message"] for notified in pipeline.notifications()] == ["cancelled"]


def test_the_message_once_more_cancels_no_later_attempt(pipeline: Pipeline, queued: str) -> None:
    assert cancel(pipeline, queued)
    assert cancel(pipeline, queued)
    pipeline.run_all()
    assert len(pipeline.notifications()) == 1
    assert pipeline.handle({"retry": queued})
    again = pipeline.record()
    assert (again["status"], again["attempt"], again["stands"]) == ("QUEUED", 2, "in line")
    assert not {"cancelled", "error", "completed_at"} & again.keys()
    assert cancel(pipeline, queued, attempt=1)
    assert pipeline.record() == again
    assert cancel(pipeline, queued, attempt=2)
    assert pipeline.record()["cancelled"]


def test_a_cancelled_job_is_made_by_a_retry(pipeline: Pipeline, queued: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel(pipeline, queued)
    pipeline.run_all()
    monkeypatch.setenv("DAILY_BUDGET", "0")
    pipeline = pipeline.restarted()
    assert pipeline.handle({"retry": queued})
    assert list(pipeline.executions()) == [f"{queued}-1", f"{queued}-2"]
    pipeline.run(list(pipeline.executions().values())[-1])
    first, second = pipeline.notifications()
    assert (first["status"], second["status"], second["attempt"]) == ("FAILED", "SUCCEEDED", 2)


def test_uploads_that_are_no_job_yet_are_cancelled(pipeline: Pipeline) -> None:
    pipeline.upload(WALK)
    waiting = pipeline.record()["job_id"]
    pipeline.break_call("dynamodb", "DeleteItem", "InternalServerError", times=1)
    assert not cancel(pipeline, waiting)  # its function dies halfway
    assert len(pipeline.records()) == 2
    assert pipeline.resume()
    record = pipeline.record()
    assert (record["status"], record["cancelled"], record["pose"]) == ("FAILED", True, "walk")
    pipeline.run_all()
    assert [notified["error"]["message"] for notified in pipeline.notifications()] == ["cancelled"]
    pipeline.upload(FACE)  # then it is a job after all
    assert sorted(record["status"] for record in pipeline.records().values()) == ["FAILED", "SUBMITTED"]


def test_nothing_is_no_message(pipeline: Pipeline) -> None:
    assert cancel(pipeline, "hero-walk-0123456789abcdef")
    assert cancel(pipeline, "waiting/hero/walk")
    assert not pipeline.records()
    assert pipeline.handle({"cancel": "hero-walk-0123456789abcdef"})
    (message,) = pipeline.receive(pipeline.dead_letter_url)
    assert "attempt" in message["MessageAttributes"]["reason"]["StringValue"]


def test_a_cancelled_job_is_no_fault_for_the_alarm(
    pipeline: Pipeline, queued: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cancel(pipeline, queued)
    capsys.readouterr()
    pipeline.run_all()
    written = capsys.readouterr().out
    assert '"Failed":' in written
    assert "EndedBadly" not in written
