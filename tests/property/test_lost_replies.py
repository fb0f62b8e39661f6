"""Replies of DynamoDB that are lost: botocore repeats the write, and all goes on as if the reply had come (P8)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.places import dispatched
from posedrop.aws.record import Record, Status
from posedrop.aws.record_table import attempts_id
from posedrop.contract.errors import Conflict, InferenceFailed, InvalidInput, Rejected
from posedrop.contract.job import Job
from posedrop.contract.reasons import ReasonCode
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Budget, Charge
from posedrop.gate.gate import Gate
from posedrop.gate.rate_limit import Permit, RateLimit
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.requests import RequestStatus
from tests.support import FIRST_PRICE
from tests.table import Table

JOB = Job("hero-walk-0123456789abcdef", "bucket", "hero", "walk", {})
NOW = 1_795_000_000.0
LIMIT = RateLimit(600, "submits")
PLACE = {"rank": 0, "queued_at": NOW, "dispatch_number": 1, **dispatched(NOW)}


class Story:
    """What functions do with one job, one after the other, each with a record that it may have read long before."""

    def __init__(self, lost: set[int]) -> None:
        self.table = Table()
        self.table.lost = lost
        self.ledger = Ledger(self.table, "jobs", 7)  # type: ignore[arg-type]
        self.now = NOW
        self.records = [self.ledger.queue(JOB, PLACE, self.now)]
        self.outcomes: list[str] = []

    def step(self, choice: int, age: int) -> None:
        """Do one of the things that follow from one of the last records."""
        record = self.records[-1 - age % len(self.records)]
        ledger, self.now = self.ledger, self.now + 0.5
        now = self.now
        owner = f"owner-{now}"
        again = {**PLACE, "dispatch_number": record.dispatch_number + 1}
        actions: dict[Status, list[Callable[[], Any]]] = {
            Status.QUEUED: [
                lambda: ledger.claim(record, owner, 0.03, now),
                lambda: ledger.defer(record, ReasonCode.PAUSED, "paused", now + 900, now),
                lambda: ledger.put_back(record, ReasonCode.RATE_LIMIT, "429", now + 9, now),
                lambda: ledger.count_error(record, "ours", now),
                lambda: ledger.renew_inputs(record, {}, now),
                lambda: ledger.fail(record, InvalidInput("gone"), now),
                lambda: ledger.queue(JOB, PLACE, now),
            ],
            Status.SUBMITTING: [
                lambda: ledger.own_request_id(record, "request-1", now) and ledger.submitted(record, "request-1", now),
                lambda: ledger.release(record, ReasonCode.RATE_LIMIT, "429", now + 5, now, refused_at=now),
                lambda: ledger.release_after_fault(record, "500", now + 60, now),
                lambda: ledger.mark_outcome_unknown(record, "no response", now),
                lambda: ledger.fail(record, Rejected("400"), now, requests=record.requests[:-1]),
            ],
            Status.SUBMITTED: [
                lambda: ledger.succeed(record, [{"key": "1.png", "bytes": 10}], {"inference_seconds": 31.0}, now),
                lambda: ledger.fail_attempt(record, InferenceFailed("no"), {}, now),
                lambda: ledger.not_found(record, now),
            ],
            Status.SUCCEEDED: [lambda: ledger.notified(record, now)],
            Status.FAILED: [
                lambda: ledger.new_attempt(record, f"retry-{now}", now, place=again),
                lambda: ledger.new_attempt(record, f"retry-{now}", now, place={}, error=InvalidInput("bad"), inputs={}),
                lambda: ledger.notified(record, now),
            ],
        }
        possible = actions[record.status]
        try:
            possible[choice % len(possible)]()
            self.outcomes.append("done")
        except Conflict:
            self.outcomes.append("conflict")
        known = ledger.get(JOB.job_id)
        assert known
        self.records.append(known)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 0, 0, 1, 2, 5])), min_size=1, max_size=25),
    st.sets(st.integers(1, 60)),
)
@settings(max_examples=300)
def test_the_ledger_is_as_if_no_reply_were_lost(steps: list[tuple[int, int]], lost: set[int]) -> None:
    sound, unlucky = Story(set()), Story(lost)
    for choice, age in steps:
        sound.step(choice, age)
        unlucky.step(choice, age)
        assert unlucky.outcomes == sound.outcomes
        assert unlucky.table.items == sound.table.items


def test_who_comes_in_between_a_write_and_its_repeat_is_seen() -> None:
    """The claim was applied and its owner went on, until another function marked it: the repeat must not send."""
    story = Story({2})  # the first write is that of the attempt's number
    story.table.writes = 0
    other = Ledger(story.table, "jobs")  # type: ignore[arg-type]

    def mark() -> None:
        claimed = other.get(JOB.job_id)
        assert claimed
        other.mark_outcome_unknown(claimed, "the function has died", NOW + 120)

    story.table.between = mark
    with pytest.raises(Conflict):
        story.ledger.claim(story.records[0], "slow", 0.03, NOW)
    record = other.get(JOB.job_id)
    assert record
    assert record.claimed.status is RequestStatus.UNKNOWN


def test_an_attempt_s_number_is_kept_though_the_reply_is_lost() -> None:
    story = Story({2, 3})
    claimed = story.ledger.claim(story.records[0], "owner", 0.03, NOW)
    assert (claimed.status, claimed.owner) == (Status.SUBMITTING, "owner")
    assert story.table.items[attempts_id(JOB.job_id)]["highest"] == {"N": "1"}


@given(st.sets(st.integers(1, 8)), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_record_that_expires_and_is_created_again_never_reuses_a_number(lost: set[int], lives: list[int]) -> None:
    """Each life is claimed and retried so many times, then its record expires (P6)."""
    table = Table()
    ledger = Ledger(table, "jobs", 7)  # type: ignore[arg-type]
    used: list[int] = []
    now = NOW
    for retries in lives:
        table.lost = {table.writes + number for number in lost}
        record = ledger.queue(JOB, PLACE, now)
        for number in range(retries + 1):
            if number:
                record = ledger.new_attempt(record, f"retry-{now}", now, place=PLACE)
            now += 86400
            record = ledger.claim(record, f"owner-{now}", 0.03, now)
            used.append(record.attempt)
            record = ledger.fail(record, Rejected("400"), now, requests=[])
            ledger.notified(record, now)
        table.items.pop(JOB.job_id)
    assert used == list(range(1, len(used) + 1))


# ---- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [set(), {1}, {2}, {1, 2}], ids=str)
def test_a_refusal_whose_write_is_repeated_counts_once(lost: set[int]) -> None:
    """Otherwise one job's refusal would pause everybody."""
    gate, _ = _gate(lost)
    gate.breaker.change(lambda breaker: (breaker.refused(NOW, "403", 900), None))
    assert gate.breaker.read() == Breaker().refused(NOW, "403", 900)
    assert not gate.breaker.read().is_open


@given(st.sets(st.integers(1, 20)), st.integers(1, 5))
def test_permits_charges_and_times_whose_writes_are_repeated_count_once(lost: set[int], jobs: int) -> None:
    gate, _ = _gate(lost)
    for _ in range(jobs):
        taken = gate.permit(NOW, 10, probe=False)
        assert isinstance(taken, Permit)
        charge = gate.budgets.charge(NOW)
        assert isinstance(charge, Charge)
        gate.budgets.give_back(charge.usd, charge.at)
        assert isinstance(gate.budgets.charge(NOW), Charge)
        state = gate.read(NOW)
        times, _ = gate.reserve(state, gate.opening(state, NOW), NOW, [7])
        assert len(times) == 1
    state = gate.read(NOW)
    assert state.spending.day == pytest.approx(jobs * FIRST_PRICE)
    assert state.limit.tat == pytest.approx(NOW + jobs * LIMIT.interval)
    assert state.until == pytest.approx(NOW + jobs * LIMIT.interval)
    assert state.highest_rank == 7


def test_a_probe_whose_write_is_repeated_is_one_probe() -> None:
    gate, table = _gate(set())
    gate.breaker.change(lambda breaker: (breaker.key_refused(NOW, "401", 900), None))
    table.lost = {table.writes + 1, table.writes + 2}
    assert _probes(gate, NOW + 900) == 1
    assert _probes(gate, NOW + 901) == 0


def test_a_write_that_another_function_overtook_is_done_again() -> None:
    gate, table = _gate({1})
    other = Gate(Items(table, "jobs"), LIMIT, Budget(), CONSISTENT_CHARACTER)  # type: ignore[arg-type]
    table.between = lambda: other.breaker.change(lambda breaker: (breaker.outcome_unknown(NOW, 900), None))
    gate.breaker.change(lambda breaker: (breaker.refused(NOW, "403", 900), None))
    assert gate.breaker.read().unknowns == 1
    assert gate.breaker.read().refusals >= 1


def test_of_two_that_see_the_probe_free_one_sends_it() -> None:
    gate, table = _gate(set())
    gate.breaker.change(lambda breaker: (breaker.key_refused(NOW, "401", 900), None))
    now = NOW + 900
    state = gate.read(now)
    opening = gate.opening(state, now)
    other = Gate(Items(table, "jobs"), LIMIT, Budget(), CONSISTENT_CHARACTER)  # type: ignore[arg-type]
    assert _probes(other, now) == 1
    assert gate.reserve(state, opening, now, [1])[0] == []
    assert gate.breaker.read().probe_until > now


def _probes(gate: Gate, now: float) -> int:
    """How many jobs may be dispatched now, while the breaker is open."""
    state = gate.read(now)
    return len(gate.reserve(state, gate.opening(state, now), now, [1])[0])


def _gate(lost: set[int]) -> tuple[Gate, Table]:
    table = Table()
    table.lost = lost
    return Gate(Items(table, "jobs"), LIMIT, Budget(daily=1), CONSISTENT_CHARACTER), table  # type: ignore[arg-type]


def test_the_record_that_a_write_returns_is_the_one_that_is_read() -> None:
    story = Story(set())
    claimed = story.ledger.claim(story.records[0], "owner", 0.03, NOW)
    assert claimed == story.ledger.get(JOB.job_id)
    assert isinstance(claimed, Record)
