"""When each queued job is probably sent."""

from dataclasses import replace
from typing import Any

import pytest

from ops.console.cards import card
from ops.console.send_times import send_times
from ops.console.summary import late_seconds
from ops.inspect.situation import Situation
from posedrop.aws.places import dispatched, due, in_line
from posedrop.aws.record import Record, Status
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Budget, Spending
from posedrop.gate.gate import Gate
from posedrop.gate.poll_schedule import Latency
from posedrop.gate.rate_limit import RateLimit, RateLimitState
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.items import MemoryItems
from tests.support import FIRST_PRICE

NOW = 1_800_000_000.0
LIMIT = RateLimit(50, "submits")
NO_BUDGET = Budget()
JOBS = 60


def situation(budget: Budget = NO_BUDGET, now: float = NOW, **state: Any) -> Situation:
    """The situation of a stack whose gate's state differs from an unused one in this."""
    gate = Gate(MemoryItems(), LIMIT, budget, CONSISTENT_CHARACTER)
    found = replace(gate.read(now), **state)
    return Situation(found, gate.opening(found, now), LIMIT, Latency.typical(31), 3000, 60, now)


def job(number: int, **where: Any) -> Record:
    """A queued job."""
    at = NOW + number / 1000
    return Record(f"job-{number:03}", Status.QUEUED, "hero", f"pose-{number}", created_at=at, queued_at=at, **where)


IN_LINE = [job(number, **in_line(number // 7, NOW + number / 1000)) for number in range(JOBS)]


def test_a_dispatched_job_has_its_time() -> None:
    assert send_times([job(1, **dispatched(NOW + 40))], situation(until=NOW + 90)) == {"job-001": NOW + 40}


def test_jobs_in_line_follow_one_after_the_other_in_their_order() -> None:
    found = send_times(reversed(IN_LINE), situation(until=NOW + 90))
    expected = {record.job_id: NOW + 90 + LIMIT.interval * number for number, record in enumerate(IN_LINE)}
    assert found == pytest.approx(expected)
    later = send_times(IN_LINE, situation(until=NOW + 90, now=NOW + 30))
    assert later == pytest.approx(found), "time alone changes nothing"


def test_a_pause_moves_the_line_to_its_end() -> None:
    found = send_times(IN_LINE, situation(until=NOW + 20, limit=RateLimitState(paused_until=NOW + 30)))
    assert found["job-000"] == NOW + 30
    assert sorted(found, key=found.__getitem__) == [record.job_id for record in IN_LINE]


def test_while_the_breaker_is_open_only_the_probe_has_a_turn() -> None:
    breaker = Breaker().key_refused(NOW, "the provider answered 401", 600)
    assert send_times(IN_LINE, situation(breaker=breaker)) == {"job-000": NOW + 600}


def test_what_the_budget_does_not_pay_for_has_no_turn() -> None:
    spending = Spending(day=1.0, month=1.0, price=FIRST_PRICE)
    found = send_times(IN_LINE, situation(Budget(daily=1 + 3 * FIRST_PRICE), spending=spending))
    assert list(found) == ["job-000", "job-001", "job-002"]


def test_a_deferred_job_goes_at_its_time_or_when_the_gate_opens() -> None:
    soon = job(1, **due(NOW + 10), deferred_until=NOW + 10, reason="503")
    late = job(2, **due(NOW + 900), deferred_until=NOW + 900, reason="503")
    found = send_times([soon, late], situation(limit=RateLimitState(paused_until=NOW + 30)))
    assert found == {"job-001": NOW + 30, "job-002": NOW + 900}


def test_a_job_that_cannot_be_reported_has_no_time() -> None:
    odd = job(1)
    assert send_times([odd], situation()) == {}
    assert card(odd, situation())["headline"] == "in line"


def test_longer_than_usual_begins_where_few_jobs_end_and_after_the_poll_for_it() -> None:
    latency = Latency(tuple(range(300, 340)))
    assert late_seconds(latency) > 33
    assert late_seconds(latency) > sorted(latency.tenths)[-3] / 10
