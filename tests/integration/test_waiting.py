"""Deferred jobs: how their messages are redelivered within the limits of SQS, and the checks before a job is sent."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from posedrop.gate.rate_limit import Permit
from tests.integration.conftest import BUCKET, Pipeline
from tests.integration.test_submit_errors import FACE, REFUSED, RUN, SIT, WALK, respond_with
from tests.support import Context

ACCEPTED = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})


@pytest.fixture
def walk(pipeline: Pipeline) -> dict[str, Any]:
    """The event of a pose whose face is there."""
    pipeline.put(*FACE)
    return pipeline.put(*WALK)


DAY = 86400.0


def pause(pipeline: Pipeline) -> None:
    """Let the account be refused now."""
    pipeline.gate().breaker.change(lambda breaker: (breaker.key_refused(pipeline.clock.now, "401", 900), None))


def metrics(text: str) -> dict[str, float]:
    """What the metric lines of a handler's output add up to."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if '"_aws"' in line:
            values = json.loads(line)
            for metric in values["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                value = values[metric["Name"]]
                sums[metric["Name"]] = sums.get(metric["Name"], 0) + (sum(value) if isinstance(value, list) else value)
    return sums


# ---- how long --------------------------------------------------------------------------------------------------------


def test_only_an_outage_of_the_provider_makes_a_job_wait_ever_longer(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [respond_with(429), respond_with(406), REFUSED, REFUSED, REFUSED, ACCEPTED]
    pipeline.handle(walk)
    waits = []
    while pipeline.record()["status"] == "QUEUED":
        pipeline.receive_count += 1
        waits.append(round(min(delay for _, delay in pipeline.later)))
        pipeline.resume()
    assert waits[-3:] == [15, 30, 60]


def test_a_503_is_waited_out_for_as_long_as_it_asks_for(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [respond_with(503, retry_after="70"), ACCEPTED]
    assert pipeline.handle(walk)
    assert [delay for _, delay in pipeline.later] == [70]


def test_a_message_whose_functions_die_becomes_a_dead_letter_with_its_reason(pipeline: Pipeline, walk: object) -> None:
    pipeline.receive_count = 951
    assert pipeline.handle(walk)
    (letter,) = pipeline.receive(pipeline.dead_letter_url)
    assert "951 times" in letter["MessageAttributes"]["reason"]["StringValue"]
    assert pipeline.provider.requests == []


# ---- one message a job -----------------------------------------------------------------------------------------------


def test_a_job_that_waits_has_no_message_however_often_its_uploads_are_sent(pipeline: Pipeline, walk: object) -> None:
    pause(pipeline)
    for _ in range(3):
        assert pipeline.handle(walk)
    assert pipeline.messages == []
    assert pipeline.provider.posts == []
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


def test_own_events_go_before_what_other_files_say_of_the_same_poses(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    face = {**pipeline.put(*FACE), "time": _time_of(pipeline, FACE[0])}
    for pose in (WALK, SIT, RUN):
        pipeline.put(*pose)
    assert pipeline.handle(face)
    assert pipeline.records() == {}
    assert [delay for _, delay in pipeline.later] == [60, 60, 60]
    assert [(line["poses"], line["later"]) for line in logs() if line["message"] == "expanded"] == [(3, 3)]
    # Their own events are lost, so the messages of the face are what reads them.
    for _ in range(3):
        assert pipeline.resume()
    assert {record["status"] for record in pipeline.records().values()} == {"SUBMITTED"}
    assert len(pipeline.provider.posts) == 3


@pytest.mark.parametrize("late", [5, 600, 3600])
def test_poses_that_are_older_than_the_file_are_handled_at_once(pipeline: Pipeline, late: float) -> None:
    pipeline.put(*FACE)
    for pose in (WALK, SIT):
        pipeline.put(*pose)
    event = {**pipeline.put("incoming/hero/job.json", {"prompt": "later"}), "time": _time_of(pipeline, FACE[0], late)}
    assert pipeline.handle(event)
    assert pipeline.later == []
    assert len(pipeline.provider.posts) == 2


def test_the_next_page_waits_with_poses_whose_own_events_are_to_come(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posedrop.intake.fan_out.PAGE", 2)
    face = {**pipeline.put(*FACE), "time": _time_of(pipeline, FACE[0])}
    for pose in (WALK, SIT, RUN):
        pipeline.put(*pose)
    assert pipeline.handle(face)
    assert [delay for _, delay in pipeline.later] == [60, 60, 60]
    while pipeline.later:
        pipeline.resume()
    assert len(pipeline.provider.posts) == 3


def _time_of(pipeline: Pipeline, key: str, later: float = 0) -> str:
    """The time of an upload's event; the tests' clock stands at a minute after it."""
    modified = pipeline.s3.head_object(Bucket=BUCKET, Key=key)["LastModified"]
    pipeline.clock.now = modified.timestamp() + later + 6
    return str(modified.fromtimestamp(modified.timestamp() + later, modified.tzinfo).isoformat())


# ---- the permit ------------------------------------------------------------------------------------------------------


def take_permits(pipeline: Pipeline, seconds: float) -> None:
    """Let other functions take the permits of the next so many seconds."""
    limiter = pipeline.gate().limiter
    while isinstance(taken := limiter.permit_submit(pipeline.clock.now), Permit):
        if taken.at >= pipeline.clock.now + seconds:
            return


def test_the_time_to_reserve_a_permit_is_not_waited_twice(pipeline: Pipeline, walk: object) -> None:
    take_permits(pipeline, 2)

    def slowly(params: dict[str, Any], **_: object) -> None:
        if b'"rate-limit"' in params["body"]:
            end()
            pipeline.clock.now += 1.5

    end = pipeline.hook("dynamodb", "UpdateItem", slowly)
    assert pipeline.handle(walk)
    (slept,) = pipeline.clock.slept
    assert slept == pytest.approx(2.1 - 1.5, abs=0.15)


def test_a_permit_is_given_up_if_the_account_is_refused_while_waiting(
    pipeline: Pipeline, walk: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_permits(pipeline, 3)

    def sleep(seconds: float) -> None:
        pipeline.clock.now += seconds
        pause(pipeline)

    monkeypatch.setattr(pipeline.submit.time, "sleep", sleep)
    assert pipeline.handle(walk)
    assert pipeline.provider.requests == []
    record = pipeline.record()
    assert (record["status"], record["reason"], record["stands"]) == ("QUEUED", "401", "in line")
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == 0
    assert len(pipeline.later) == 1


def test_a_permit_that_is_too_far_puts_the_job_back_in_line(pipeline: Pipeline, walk: object) -> None:
    take_permits(pipeline, 11)
    assert pipeline.handle(walk)
    assert pipeline.clock.slept == []
    record = pipeline.record()
    assert (record["status"], record["reason_code"], record["stands"]) == ("QUEUED", "RATE_LIMIT", "in line")


def test_a_breaker_that_is_too_busy_costs_no_job(
    pipeline: Pipeline, walk: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.provider.submits = [respond_with(403), ACCEPTED]
    monkeypatch.setattr("posedrop.gate.shared_item.TRIES", 0)
    assert not pipeline.handle(walk)
    assert pipeline.record()["reason_code"] == "REFUSED"
    assert "errors" not in pipeline.record()


# ---- the checks before a job is sent ---------------------------------------------------------------------------------


def test_a_version_that_has_expired_while_its_job_waited_is_not_paid_for(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    assert pipeline.handle(walk)
    version = pipeline.record()["inputs"]["face"]["version_id"]
    pipeline.s3.delete_object(Bucket=BUCKET, Key=FACE[0], VersionId=version)
    pipeline.messages.clear()
    pipeline.clock.now += DAY
    assert pipeline.resume()
    assert len(pipeline.provider.posts) == 1
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InvalidInput")
    assert record["error"]["message"].startswith(f"{FACE[0]}: replaced or deleted")


ARCHIVED = {"StorageClass": "GLACIER"}


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (ARCHIVED, "archived"),
        ({"StorageClass": "DEEP_ARCHIVE"}, "archived"),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, "archived"),
        ({**ARCHIVED, "Restore": 'ongoing-request="true"'}, "archived"),
        ({"Error": {"Code": "403", "Message": "Forbidden"}}, "may not read"),
    ],
)
def test_a_file_that_can_no_longer_be_read_when_its_job_s_turn_comes_is_not_paid_for(
    pipeline: Pipeline, walk: object, head: dict[str, Any], reason: str
) -> None:
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    assert pipeline.handle(walk)
    pipeline.clock.now += DAY
    pipeline.hook("s3", "HeadObject", _answer(head))
    assert pipeline.resume()
    assert len(pipeline.provider.posts) == 1
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InvalidInput")
    assert record["error"]["message"].startswith(f"{FACE[0]}: the ")
    assert reason in record["error"]["message"]


@pytest.mark.parametrize("head", [{"StorageClass": "GLACIER_IR"}, {**ARCHIVED, "Restore": 'ongoing-request="false"'}])
def test_a_file_that_can_be_read_although_its_class_is_of_archives_is_sent(
    pipeline: Pipeline, walk: object, head: dict[str, Any]
) -> None:
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    assert pipeline.handle(walk)
    pipeline.clock.now += DAY
    pipeline.hook("s3", "HeadObject", _answer(head))
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


def _answer(body: dict[str, Any]) -> Callable[..., Any]:
    status = 403 if "Error" in body else 200
    return lambda **_: (SimpleNamespace(status_code=status), body)


def test_only_a_response_to_a_submit_closes_the_breaker(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [ACCEPTED]
    pipeline.provider.statuses = [httpx.Response(200, json={"status": "PROCESSING"})]
    pipeline.upload(FACE, WALK)
    (execution,) = pipeline.executions().values()
    pipeline.deliver.handler(
        {**execution, "finished": True, "error": {"type": "TimedOut", "message": "late"}}, Context(300)
    )
    now = pipeline.clock.now
    pause(pipeline)
    assert pipeline.handle({"retry": pipeline.record()["job_id"]})
    assert pipeline.dispatch_one(pipeline.record()["job_id"])
    assert pipeline.record()["status"] == "SUBMITTED"  # the old request goes on: that was a GET
    assert pipeline.gate().breaker.read().open_until == now + 900


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_an_accepted_job_is_charged_although_its_execution_could_not_be_started(
    pipeline: Pipeline, walk: object, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.break_call("stepfunctions", "StartExecution", times=1)
    pipeline.handle(walk)
    assert len(pipeline.provider.posts) == 1
    found = metrics(capsys.readouterr().out)
    assert (found["Submitted"], found["EstimatedSpend"]) == (1, 0.0294)


def test_an_unknown_outcome_is_spent_as_far_as_one_knows(
    pipeline: Pipeline, walk: object, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.provider.submits = [httpx.ReadTimeout("no response")]
    pipeline.handle(walk)
    found = metrics(capsys.readouterr().out)
    assert (found["OutcomeUnknown"], found["EstimatedSpend"]) == (1, 0.0294)
    assert "Submitted" not in found


def test_waiting_uploads_are_counted_once_however_often_they_are_read(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    event = pipeline.put(*WALK)
    for _ in range(3):
        pipeline.handle(event)
        pipeline.clock.now += 3600
    assert metrics(capsys.readouterr().out)["Waiting"] == 1


def test_every_line_of_a_job_names_its_execution(
    pipeline: Pipeline, walk: object, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    pipeline.handle(walk)
    pipeline.handle(walk)
    name = f"{pipeline.record()['job_id']}-1"
    lines = [line for line in logs() if "job_id" in line]
    assert len(lines) >= 2
    assert {line.get("execution") for line in lines} == {name}
