"""poll on moto: the sample event through the handler, and its effects for the other functions."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import boto3
import httpx
import pytest

from posedrop.aws.items import Items
from posedrop.contract.times import epoch
from posedrop.gate.rate_limit import RateLimit, RateLimiter
from tests.integration.conftest import API_KEY, TABLE, Pipeline
from tests.support import Context, image, load_event

SUBMITTED_AT = epoch(load_event("poll.json")["submitted_at"])
RUNNING = httpx.Response(200, json={"status": "PROCESSING", "metrics": {}})


@pytest.fixture
def polling(pipeline: Pipeline) -> Pipeline:
    """The pipeline, 40 seconds after the sample job was submitted."""
    pipeline.clock.now = SUBMITTED_AT + 40
    pipeline.provider.statuses = [RUNNING]
    return pipeline


def poll(pipeline: Pipeline, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = pipeline.poll.handler({**load_event("poll.json"), **changes}, Context())
    assert json.loads(json.dumps(answer)) == {**answer, "tenths": list(answer["tenths"])}
    return answer


def pause(pipeline: Pipeline, seconds: float) -> None:
    pipeline.gate().limiter.pause(pipeline.clock(), seconds)


def lose_secret() -> None:
    boto3.client("secretsmanager").delete_secret(SecretId="segmind", ForceDeleteWithoutRecovery=True)


def take_permits(pipeline: Pipeline, requests_per_minute: float, count: int) -> None:
    """Let other functions make so many calls now, where all calls count."""
    limiter = RateLimiter(Items(boto3.client("dynamodb"), TABLE), RateLimit(requests_per_minute, "all"))
    for _ in range(count):
        limiter.permit_poll(pipeline.clock())


def test_one_request_a_call(polling: Pipeline) -> None:
    answer = poll(polling)
    (request,) = polling.provider.requests
    assert (request.method, request.url.path) == ("GET", f"/v2/requests/{answer['request_id']}/status")
    assert request.headers["x-api-key"] == API_KEY
    assert (answer["finished"], answer["polls"], answer["error"]) == (False, 1, None)
    assert isinstance(answer["wait_seconds"], int)


def test_the_response_is_what_the_samples_say(polling: Pipeline) -> None:
    assert set(poll(polling)) == set(load_event("deliver.json"))
    polling.provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "Blocked."})]
    failed = poll(polling)
    assert set(failed) == set(load_event("deliver-failed.json"))
    assert failed["error"] == {"type": "InferenceFailed", "message": "Blocked."}


def test_the_samples_are_what_an_execution_begins_with(pipeline: Pipeline) -> None:
    pipeline.put("incoming/hero/face.png", image("png")[:-20])
    pipeline.handle(pipeline.put("incoming/hero/poses/walk.png", image("png")[:-20]))
    (ended,) = pipeline.executions().values()
    assert set(ended) == set(load_event("deliver-ended-before.json"))


def test_completed_says_when_the_end_was_seen(polling: Pipeline) -> None:
    polling.provider.statuses = [httpx.Response(200, json={"status": "COMPLETED"})]
    answer = poll(polling, polls=2)
    assert (answer["finished"], answer["error"], answer["polls"]) == (True, None, 3)
    assert answer["elapsed_seconds"] == 40


def test_a_429_pauses_all_calls_and_the_next_poll_makes_none(polling: Pipeline) -> None:
    polling.provider.statuses = [httpx.Response(429, headers={"retry-after": "120"}), RUNNING]
    answer = poll(polling)
    assert answer["wait_seconds"] == 120
    assert polling.gate().limiter.read().paused_until == polling.clock() + 120
    polling.clock.now += 30
    held = poll(polling, **{**answer, "tenths": list(answer["tenths"])})
    assert held["wait_seconds"] == 90
    assert held["polls"] == answer["polls"]
    assert len(polling.provider.requests) == 1


def test_a_response_about_another_request_is_logged_and_polled_again(
    polling: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    another = httpx.Response(200, json={"status": "COMPLETED", "request_id": "request-2"})
    polling.provider.statuses = [another, httpx.Response(200, json={"status": "COMPLETED"})]
    assert not poll(polling)["finished"]
    assert any("about another request: request-2" in line.get("reason", "") for line in logs())
    assert poll(polling)["finished"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_date_40_s_ahead_waits_40_s(polling: Pipeline, status: int) -> None:
    until = format_datetime(datetime.fromtimestamp(polling.clock() + 40, UTC), usegmt=True)
    polling.provider.statuses = [httpx.Response(status, headers={"retry-after": until}), RUNNING]
    assert poll(polling)["wait_seconds"] == 40


def test_a_pause_does_not_outlast_the_deadline(polling: Pipeline) -> None:
    polling.clock.now = SUBMITTED_AT + 2990
    pause(polling, 300)
    assert poll(polling)["wait_seconds"] == 10
    polling.clock.now += 10
    answer = poll(polling)
    assert answer["finished"]
    assert answer["error"]["type"] == "TimedOut"


def test_a_401_makes_poll_read_a_rotated_key(polling: Pipeline) -> None:
    poll(polling)
    boto3.client("secretsmanager").put_secret_value(SecretId="segmind", SecretString="SG_rotated")
    polling.provider.statuses = [httpx.Response(401, json={"error": "invalid key"}), RUNNING]
    assert not poll(polling)["finished"]
    assert not poll(polling)["finished"]
    assert [request.headers["x-api-key"] for request in polling.provider.requests] == [API_KEY, API_KEY, "SG_rotated"]


@pytest.mark.parametrize("status", [401, 429])
def test_a_fault_of_our_own_is_not_the_jobs(polling: Pipeline, status: int) -> None:
    poll(polling)
    polling.provider.statuses = [httpx.Response(status)]
    polling.break_call("dynamodb", "UpdateItem")
    lose_secret()
    answer = poll(polling)
    assert (answer["finished"], answer["faults"]) == (False, 1)


def test_a_secret_that_cannot_be_read_is_asked_for_again(polling: Pipeline) -> None:
    lose_secret()
    assert not poll(polling)["finished"]
    assert polling.provider.requests == []


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.Response(502, html="<h1>Bad Gateway</h1>")])
def test_faults_wait_longer_until_the_deadline(polling: Pipeline, fault: httpx.Response | Exception) -> None:
    polling.provider.statuses = [fault]
    state, waits = poll(polling), []
    while not state["finished"]:
        waits.append(state["wait_seconds"])
        polling.clock.now += state["wait_seconds"]
        state = poll(polling, **state)
    assert state["error"]["type"] == "TimedOut"
    assert 3000 <= polling.clock() - SUBMITTED_AT < 3001
    assert waits[0] < max(waits)
    assert len(waits) < 100


def test_a_404_that_lasts_is_the_end(polling: Pipeline) -> None:
    polling.provider.statuses = [httpx.Response(404, json={"error": "unknown"})]
    first = poll(polling)
    polling.clock.now += first["wait_seconds"]
    assert poll(polling, **first)["error"]["type"] == "ResultExpired"


# ---- where all calls count -------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pipeline:
    """The polling of a plan of five requests a minute, of which each call takes one."""
    request.getfixturevalue("environment")
    monkeypatch.setenv("LIMIT_COUNTS", "all")
    monkeypatch.setenv("SEGMIND_REQUESTS_PER_MINUTE", "5")
    polling: Pipeline = request.getfixturevalue("polling")
    return polling


def test_a_poll_waits_in_its_function_for_a_permit_that_is_near(counted: Pipeline) -> None:
    take_permits(counted, 5, 1)
    poll(counted)
    assert sum(counted.clock.slept) == pytest.approx(12.37, abs=0.01)
    assert len(counted.provider.requests) == 1


def test_a_poll_is_deferred_if_its_permit_is_far(counted: Pipeline) -> None:
    take_permits(counted, 5, 2)  # the next one is 24.7 s away; a poll waits for 1.9 intervals of 12.4 s in its function
    answer = poll(counted)
    assert counted.provider.requests == []
    assert (answer["finished"], answer["polls"], answer["wait_seconds"]) == (False, 0, 2)
    counted.clock.now += 2
    assert poll(counted, **answer)["polls"] == 1


def test_where_the_result_waits_for_its_permit_the_poll_s_own_wait_is_kept(counted: Pipeline) -> None:
    take_permits(counted, 5, 1)
    counted.provider.statuses = [httpx.Response(200, json={"status": "COMPLETED"})]
    end = counted.hook("dynamodb", "UpdateItem", lambda **_: None)

    def others_call(**_: Any) -> None:
        end()
        take_permits(counted, 5, 2)

    end()
    end = counted.hook("secretsmanager", "GetSecretValue", others_call)
    completed = poll(counted, wait_seconds=40)
    assert (completed["finished"], completed["completed"]) == (False, True)
    assert completed["wait_seconds"] < 40
    counted.clock.now += completed["wait_seconds"]
    ended = poll(counted, **completed)
    # What deliver learns from: between the last two polls the job ended. This one waited 12 seconds for its permit.
    assert (ended["finished"], ended["wait_seconds"]) == (True, 52)
    assert len(counted.provider.requests) == 1


def test_a_poll_is_made_without_a_permit_where_the_gate_is_broken(counted: Pipeline) -> None:
    counted.break_call("dynamodb", "UpdateItem")
    answer = poll(counted)
    assert not answer["finished"]
    assert answer["wait_seconds"] >= 1
    assert len(counted.provider.requests) == 1


def test_each_poll_reserves_its_own_permit(counted: Pipeline) -> None:
    began = counted.clock.now
    for _ in range(3):
        poll(counted)
    assert counted.clock.now - began == pytest.approx(2 * 12.37, abs=0.01)
    assert len(counted.provider.requests) == 3
