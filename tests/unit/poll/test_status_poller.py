"""Tests of poll: its decision after every response and every fault of the provider, with a fixed clock."""

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import cycle
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from posedrop.contract.errors import AccountRefused
from posedrop.contract.execution import ExecutionState
from posedrop.gate.poll_schedule import Latency
from posedrop.poll.status import LONGEST_WAIT, check
from posedrop.segmind.client import Segmind
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.support import load_event

SUBMITTED_AT = 1_000_000.0
TIMEOUT = 3000.0
STATE = ExecutionState("hero-walk-0123456789abcdef", 1, "hero", "walk", "request-1", SUBMITTED_AT, 0)
NOT_FOUND = httpx.Response(404, json={"error": "unknown request"})
RUNNING = httpx.Response(200, json={"status": "PROCESSING", "metrics": {}})


class PassedOn:
    """What a poll passed on of the provider's responses; `fault` is raised by whoever receives it."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.rate_limits: list[float | None] = []
        self.refused_keys = 0
        self.fault = fault

    def rate_limit(self, seconds: float | None) -> None:
        self.rate_limits.append(seconds)
        self._fail()

    def refused_key(self) -> None:
        self.refused_keys += 1
        self._fail()

    def _fail(self) -> None:
        if self.fault:
            raise self.fault


def poll_once(
    answer: httpx.Response | Exception,
    *,
    after: float = 40.0,
    state: ExecutionState = STATE,
    passed_on: PassedOn | None = None,
) -> ExecutionState:
    """Check once, `after` seconds since the submission."""
    passed_on = passed_on or PassedOn()

    def provider(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return check(
        state,
        Segmind("https://segmind.test", lambda: "SG_key", CONSISTENT_CHARACTER, httpx.MockTransport(provider)),
        latency=Latency.typical(31),
        timeout_seconds=TIMEOUT,
        clock=lambda: SUBMITTED_AT + after,
        on_rate_limit=passed_on.rate_limit,
        on_refused_key=passed_on.refused_key,
    )


def respond_with(status: int, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize("state", ["QUEUED", "PROCESSING", "queued", "WARMING_UP"])
@pytest.mark.parametrize("after", [0.1, 20.7, 31.0, 300.0, 2999.5])
def test_unfinished_waits_whole_seconds(state: str, after: float) -> None:
    found = poll_once(respond_with(200, {"status": state}), after=after)
    assert not found.finished
    assert found.error is None
    assert isinstance(found.wait_seconds, int)
    assert 1 <= found.wait_seconds <= LONGEST_WAIT
    assert found.polls == 1


def test_completed_goes_to_deliver_without_an_error() -> None:
    found = poll_once(
        respond_with(200, {"status": "COMPLETED", "metrics": {}}), state=replace(STATE, polls=4, faults=2)
    )
    assert (found.finished, found.error, found.polls, found.faults) == (True, None, 5, 0)


def test_completed_after_the_deadline_is_still_a_success() -> None:
    assert poll_once(respond_with(200, {"status": "COMPLETED"}), after=TIMEOUT + 100).error is None


@pytest.mark.parametrize("status", [200, 422])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"status": "FAILED", "error": "Content was blocked."}, "Content was blocked."),
        ({"status": "FAILED", "error": {"message": "No face found."}}, "No face found."),
        ({"status": "FAILED"}, "the provider gave no reason"),
    ],
)
def test_failed_ends_the_job_with_the_providers_text(status: int, body: dict[str, Any], message: str) -> None:
    found = poll_once(respond_with(status, body))
    assert found.finished
    assert found.error == {"type": "InferenceFailed", "message": message}


FAULTS = [
    *(
        httpx.Response(status, text="no")
        for status in (204, 301, 400, 401, 403, 406, 408, 422, 429, 500, 502, 503, 504)
    ),
    httpx.Response(502, text="<html><body>Bad gateway</body></html>"),
    httpx.Response(200, text="{"),
    httpx.Response(200, json=[]),
    httpx.Response(200, json={"status": None}),
    httpx.Response(503, json={"status": "QUEUED"}),
    *(
        httpx.Response(status, json={"status": state, "error": "why"})
        for status in (201, 400, 401, 403, 404, 409, 410, 429, 500, 502)
        for state in ("failed", "COMPLETED")
    ),
    *(
        httpx.Response(status, json={"status": state, "request_id": "request-2"})
        for status, state in ((200, "COMPLETED"), (200, "FAILED"), (422, "FAILED"), (200, "PROCESSING"))
    ),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("reset"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_no_error_of_a_get_is_the_end_before_the_deadline(fault: httpx.Response | Exception) -> None:
    found = poll_once(fault, after=TIMEOUT - 0.5)
    assert (found.finished, found.error, found.faults) == (False, None, 1)


@pytest.mark.parametrize("answer", [*FAULTS, RUNNING, NOT_FOUND], ids=str)
def test_the_deadline_ends_it(answer: httpx.Response | Exception) -> None:
    found = poll_once(answer, after=TIMEOUT)
    assert found.finished
    assert found.error
    assert found.error["type"] == "TimedOut"
    assert "3000 s" in found.error["message"]


@pytest.mark.parametrize(
    "answer", [RUNNING, NOT_FOUND, respond_with(429, retry_after="300"), respond_with(500)], ids=str
)
@pytest.mark.parametrize("left", [0.2, 1.0, 3.5])
def test_no_wait_goes_beyond_the_deadline(answer: httpx.Response, left: float) -> None:
    found = poll_once(answer, after=TIMEOUT - left, state=replace(STATE, faults=20))
    assert left <= found.wait_seconds < left + 1


def test_faults_in_a_row_wait_longer_and_longer() -> None:
    state, waits = STATE, []
    for _ in range(9):
        state = poll_once(respond_with(503), after=5, state=state)
        waits.append(state.wait_seconds)
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] == LONGEST_WAIT
    assert poll_once(RUNNING, state=state).faults == 0


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("17", 17, 60), ("120.5", 121, 121), ("86400", 300, 300), ("soon", 1, 60), ("-5", 1, 60), ("nan", 1, 60)],
)
def test_retry_after_is_honoured_and_capped(header: str, least: int, most: int) -> None:
    assert least <= poll_once(respond_with(429, retry_after=header)).wait_seconds <= most
    assert least <= poll_once(respond_with(503, retry_after=header)).wait_seconds <= most


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_a_date_40_s_ahead_waits_40_s(status: int, skew: float) -> None:
    sent, until = (format_datetime(datetime.fromtimestamp(1.8e9 + skew + s, UTC), usegmt=True) for s in (0, 40))
    assert poll_once(respond_with(status, date=sent, retry_after=until), after=5).wait_seconds == 40


@pytest.mark.parametrize(("header", "seconds"), [({"retry_after": "7"}, 7.0), ({}, None)])
def test_a_429_says_the_limiter(header: dict[str, str], seconds: float | None) -> None:
    passed_on = PassedOn()
    poll_once(respond_with(429, **header), passed_on=passed_on)
    assert (passed_on.rate_limits, passed_on.refused_keys) == ([seconds], 0)


@pytest.mark.parametrize(("status", "renewed"), [(401, 1), (403, 0), (500, 0), (404, 0)])
def test_only_a_401_renews_the_key(status: int, renewed: int) -> None:
    passed_on = PassedOn()
    poll_once(respond_with(status), passed_on=passed_on)
    assert (passed_on.refused_keys, passed_on.rate_limits) == (renewed, [])


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize(
    "fault", [AccountRefused("no secret", 0), ClientError({"Error": {"Code": "Throttling"}}, "PutItem")], ids=str
)
def test_a_fault_of_the_receiver_is_not_the_jobs(status: int, fault: Exception) -> None:
    found = poll_once(respond_with(status), passed_on=PassedOn(fault))
    assert (found.finished, found.faults) == (False, 1)


# ---- 404 and 410 -----------------------------------------------------------------------------------------------------


GONE = httpx.Response(410, json={"error": "expired"})


def follow(times: int, *answers: httpx.Response, after: float) -> tuple[ExecutionState, float]:
    """Give these responses in turn, each after the wait; return the last state and its time."""
    turns = cycle(answers)
    state = poll_once(next(turns), after=after)
    for _ in range(times):
        if state.finished:
            break
        after += state.wait_seconds
        state = poll_once(next(turns), after=after, state=state)
    return state, after


@pytest.mark.parametrize("found", [[NOT_FOUND], [GONE], [NOT_FOUND, GONE], [GONE, NOT_FOUND]])
@pytest.mark.parametrize("first", [0.0, 5.0, 29.9, 31.0, 200.0])
def test_a_lasting_404_or_410_ends_as_result_expired_soon_after_it_may(
    first: float, found: list[httpx.Response]
) -> None:
    state, after = follow(5, *found, after=first)
    assert state.error
    assert state.error["type"] == "ResultExpired"
    assert max(first + 30, 60) <= after <= max(first + 30, 60) + 10


@pytest.mark.parametrize(("first", "second"), [(40.0, 69.9), (0.0, 59.9)])
def test_404_twice_too_early_is_not_the_end(first: float, second: float) -> None:
    state = poll_once(NOT_FOUND, after=second, state=poll_once(NOT_FOUND, after=first))
    assert not state.finished
    assert state.not_found_at == SUBMITTED_AT + first


def test_found_again_forgets_the_404() -> None:
    state = poll_once(NOT_FOUND, after=100)
    state = poll_once(RUNNING, after=120, state=state)
    assert state.not_found_at is None
    assert not poll_once(NOT_FOUND, after=200, state=state).finished


def test_another_fault_between_two_404_does_not_forget_the_first() -> None:
    state = poll_once(respond_with(502), after=120, state=poll_once(NOT_FOUND, after=100))
    assert poll_once(NOT_FOUND, after=131, state=state).error


# ---- the state -------------------------------------------------------------------------------------------------------


def test_state_is_read_from_its_own_event() -> None:
    state = ExecutionState.of(load_event("poll.json"))
    assert (state.request_id, state.polls, state.faults) == ("2c7f59ea-4b5e-4a7c-9a35-8d5f0f6f1c11", 0, 0)
    assert ExecutionState.of(state.to_dict()) == state
    assert ExecutionState.of({**state.to_dict(), "unknown": 1}) == state
