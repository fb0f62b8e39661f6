"""Jobs that must wait: how their messages come back, as SQS allows it, and what is looked at before they go on."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest

from posedrop.gate.breaker import Breaker
from posedrop.governor import Governor
from posedrop.pacing import DAY, Limits
from tests.integration.conftest import BUCKET, TABLE, Pipeline
from tests.integration.test_submit_errors import FACE, REFUSED, RUN, SIT, WALK, answer
from tests.support import Context

TAKEN = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})


@pytest.fixture
def walk(pipeline: Pipeline) -> dict[str, Any]:
    """The event of a pose whose face is there."""
    pipeline.put(*FACE)
    return pipeline.put(*WALK)


@pytest.fixture
def one_a_day(environment: object, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pipeline:
    """A pipeline that may submit one job a day, in the first minute of one."""
    monkeypatch.setenv("DAILY_JOB_LIMIT", "1")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.clock.now = pipeline.clock.now // DAY * DAY + DAY + 60
    return pipeline


def governor(per_minute: float = 600) -> Governor:
    return Governor(boto3.client("dynamodb"), TABLE, Limits(per_minute, "submits"))


def pause(pipeline: Pipeline) -> None:
    """Let the account be refused now."""
    governor().trip(lambda breaker: breaker.key_refused(pipeline.clock.now, "401", 900))


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


# ---- what SQS allows -------------------------------------------------------------------------------------------------


def test_a_message_is_hidden_for_less_than_the_twelve_hours_that_sqs_counts_from_its_receipt(
    one_a_day: Pipeline,
) -> None:
    one_a_day.upload(FACE, WALK, SIT)
    ((own, delay),) = one_a_day.later
    assert delay == 900
    assert not one_a_day.resume()
    ((_, hidden),) = one_a_day.later
    # The longest timeout of the function is 900 s (template.yaml), and the twelve hours began before it.
    assert hidden + 900 <= 12 * 3600
    assert json.loads(own).keys() == {"submit"}


@pytest.mark.parametrize("receive_count", [900, 950])
def test_a_healthy_message_is_renewed_before_it_would_be_a_dead_letter(
    pipeline: Pipeline, walk: object, receive_count: int
) -> None:
    pipeline.provider.submits = [REFUSED, REFUSED, TAKEN]
    assert pipeline.handle(walk)
    ((own, _),) = pipeline.later
    pipeline.later.clear()
    pipeline.clock.now += 60
    pipeline.receive_count = receive_count
    assert pipeline.handle(own)  # done, and it never was a failure
    assert pipeline.later == [(own, 30)]
    pipeline.receive_count = 1
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


def test_only_an_outage_of_the_provider_makes_a_job_wait_ever_longer(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [answer(429), answer(406), REFUSED, REFUSED, REFUSED, TAKEN]
    pipeline.handle(walk)
    waits = []
    while pipeline.record()["status"] == "QUEUED":
        pipeline.receive_count += 1
        waits.append(round(min(delay for _, delay in pipeline.later)))
        pipeline.resume()
    assert waits[-3:] == [15, 30, 60]


def test_a_503_is_waited_out_for_as_long_as_it_asks_for(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [answer(503, retry_after="70"), TAKEN]
    assert pipeline.handle(walk)
    assert [delay for _, delay in pipeline.later] == [70]


def test_a_message_whose_functions_die_becomes_a_dead_letter_with_its_reason(pipeline: Pipeline, walk: object) -> None:
    pipeline.receive_count = 951
    assert pipeline.handle(walk)
    (letter,) = pipeline.receive(pipeline.dead_letter_url)
    assert "951 times" in letter["MessageAttributes"]["reason"]["StringValue"]
    assert pipeline.provider.requests == []


# ---- one message a job -----------------------------------------------------------------------------------------------


def test_a_job_that_waits_has_one_message_however_often_its_uploads_are_told(pipeline: Pipeline, walk: object) -> None:
    pause(pipeline)
    for _ in range(3):
        assert pipeline.handle(walk)
    assert len(pipeline.later) == 1
    assert pipeline.provider.posts == []
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


def test_a_job_beyond_the_day_s_limit_has_one_message(one_a_day: Pipeline) -> None:
    one_a_day.upload(FACE, WALK)
    sit = one_a_day.put(*SIT)
    for _ in range(3):
        assert one_a_day.handle(sit)
    assert len(one_a_day.later) == 1


def test_own_events_go_before_what_other_files_tell_of_the_same_poses(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    face = {**pipeline.put(*FACE), "time": _time_of(pipeline, FACE[0])}
    for pose in (WALK, SIT, RUN):
        pipeline.put(*pose)
    assert pipeline.handle(face)
    assert pipeline.records() == {}
    assert [delay for _, delay in pipeline.later] == [60, 62, 64]
    assert [(line["poses"], line["later"]) for line in logs() if line["message"] == "expanded"] == [(3, 3)]
    # Their own events are lost: the net under them holds.
    for _ in range(3):
        assert pipeline.resume()
    assert {record["status"] for record in pipeline.records().values()} == {"SUBMITTED"}
    assert len(pipeline.provider.posts) == 3


@pytest.mark.parametrize("late", [5, 600, 3600])
def test_poses_that_are_older_than_the_file_are_handled_at_once(pipeline: Pipeline, late: float) -> None:
    pipeline.put(*FACE)
    for pose in (WALK, SIT):
        pipeline.put(*pose)
    told = {**pipeline.put("incoming/hero/job.json", {"prompt": "later"}), "time": _time_of(pipeline, FACE[0], late)}
    assert pipeline.handle(told)
    assert pipeline.later == []
    assert len(pipeline.provider.posts) == 2


def test_many_poses_are_spread_over_the_longest_delay(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    face = {**pipeline.put(*FACE), "time": _time_of(pipeline, FACE[0])}
    for number in range(30):
        pipeline.put(f"incoming/hero/poses/{number:02}.png", b"x")
    monkeypatch.setattr("posedrop.arrivals.NET_INTERVAL", 100.0)
    assert pipeline.handle(face)
    delays = [delay for _, delay in pipeline.later]
    assert (min(delays), len(delays), len(set(delays))) == (60, 30, 30)
    assert max(delays) < 900


def _time_of(pipeline: Pipeline, key: str, later: float = 0) -> str:
    """The time of an upload's event; the tests' clock stands at a minute after it."""
    modified = pipeline.s3.head_object(Bucket=BUCKET, Key=key)["LastModified"]
    pipeline.clock.now = modified.timestamp() + later + 6
    return str(modified.fromtimestamp(modified.timestamp() + later, modified.tzinfo).isoformat())


# ---- the slot --------------------------------------------------------------------------------------------------------


def test_what_taking_the_slot_takes_is_not_waited_for_once_more(pipeline: Pipeline, walk: object) -> None:
    now = pipeline.clock.now
    while governor().take(now, None).at < now + 2:  # type: ignore[union-attr]
        pass

    def slowly(**_: object) -> None:
        end()
        pipeline.clock.now += 1.5

    end = pipeline.hook("dynamodb", "UpdateItem", slowly)
    assert pipeline.handle(walk)
    (slept,) = pipeline.clock.slept
    assert slept == pytest.approx(2.1 - 1.5, abs=0.15)


def test_a_turn_that_is_waited_for_is_given_up_when_the_account_is_refused_meanwhile(
    pipeline: Pipeline, walk: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = pipeline.clock.now
    while governor().take(now, None).at < now + 3:  # type: ignore[union-attr]
        pass
    jobs = governor().read().day_jobs

    def sleep(seconds: float) -> None:
        pipeline.clock.now += seconds
        pause(pipeline)

    monkeypatch.setattr(pipeline.submit.time, "sleep", sleep)
    assert pipeline.handle(walk)
    assert pipeline.provider.requests == []
    record = pipeline.record()
    assert (record["status"], record["reason"]) == ("QUEUED", "401")
    assert governor().read().day_jobs == jobs
    assert len(pipeline.later) == 1


def test_a_schedule_that_is_too_busy_is_asked_again_soon(
    pipeline: Pipeline, walk: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posedrop.gate.shared_item.TRIES", 0)
    assert pipeline.handle(walk)
    assert [delay for _, delay in pipeline.later] == [15]
    assert "errors" not in pipeline.record()


# ---- before it goes on -----------------------------------------------------------------------------------------------


def test_a_version_that_has_expired_while_its_job_waited_is_not_paid_for(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [REFUSED, TAKEN]
    assert pipeline.handle(walk)
    ((own, _),) = pipeline.later
    version = pipeline.record()["inputs"]["face"]["version_id"]
    pipeline.s3.delete_object(Bucket=BUCKET, Key=FACE[0], VersionId=version)
    pipeline.later.clear()
    pipeline.clock.now += DAY
    assert pipeline.handle(own)
    assert len(pipeline.provider.posts) == 1
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InvalidInput")
    assert record["error"]["message"].startswith(f"{FACE[0]}: replaced or deleted")


def test_only_an_answer_to_a_submit_closes_the_breaker(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [TAKEN]
    pipeline.provider.statuses = [httpx.Response(200, json={"status": "PROCESSING"})]
    pipeline.upload(FACE, WALK)
    (execution,) = pipeline.executions().values()
    pipeline.deliver.handler(
        {**execution, "finished": True, "error": {"type": "TimedOut", "message": "late"}}, Context(300)
    )
    now = pipeline.clock.now
    pause(pipeline)
    assert pipeline.handle({"retry": pipeline.record()["job_id"]})
    assert pipeline.record()["status"] == "SUBMITTED"  # the old request goes on: that was a GET
    breaker: Breaker = governor().read_breaker()
    assert breaker.open_until == now + 900


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_a_job_that_was_taken_is_spent_though_its_execution_could_not_be_started(
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
    pipeline.provider.submits = [httpx.ReadTimeout("no answer")]
    pipeline.handle(walk)
    found = metrics(capsys.readouterr().out)
    assert (found["OutcomeUnknown"], found["EstimatedSpend"]) == (1, 0.0294)
    assert "Submitted" not in found


def test_uploads_that_wait_are_counted_once_however_often_they_are_looked_at(
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
