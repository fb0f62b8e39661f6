"""Replies of DynamoDB that are lost: botocore repeats the write, and all goes on as if the reply had come (P8)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedrop.errors import InferenceFailed, InvalidInput, Rejected
from posedrop.gate.breaker import Breaker
from posedrop.gate.reasons import ReasonCode
from posedrop.governor import Governor
from posedrop.job import Job
from posedrop.ledger import Conflict, Ledger, attempts_id
from posedrop.pacing import Held, Limits, Pacing, Turn
from posedrop.record import Fate, Record, Status
from tests.table import Table

JOB = Job("hero-walk-0123456789abcdef", "bucket", "hero", "walk", {})
NOW = 1_795_000_000.0
LIMITS = Limits(600, "submits", daily_jobs=100)


class Story:
    """What functions do with one job, one after the other, each with a record that it may have read long before."""

    def __init__(self, lost: set[int]) -> None:
        self.table = Table()
        self.table.lost = lost
        self.ledger = Ledger(self.table, "jobs", 7)  # type: ignore[arg-type]
        self.now = NOW
        self.records = [self.ledger.queue(JOB, self.now)]
        self.outcomes: list[str] = []

    def step(self, choice: int, age: int) -> None:
        """Do one of the things that follow from one of the last records."""
        record = self.records[-1 - age % len(self.records)]
        ledger, self.now = self.ledger, self.now + 0.5
        now = self.now
        owner = f"owner-{now}"
        actions: dict[Status, list[Callable[[], Any]]] = {
            Status.QUEUED: [
                lambda: ledger.claim(record, owner, now),
                lambda: ledger.defer(record, ReasonCode.PAUSED, "paused", now + 900, now),
                lambda: ledger.count_error(record, "ours", now),
                lambda: ledger.renew_inputs(record, {}, now),
                lambda: ledger.fail(record, InvalidInput("gone"), now),
                lambda: ledger.queue(JOB, now),
            ],
            Status.SUBMITTING: [
                lambda: ledger.own_request_id(record, "request-1", now) and ledger.submitted(record, "request-1", now),
                lambda: ledger.release(record, ReasonCode.RATE_LIMIT, "429", now + 5, now, refused_at=now),
                lambda: ledger.release_after_fault(record, "500", now + 60, now),
                lambda: ledger.mark_outcome_unknown(record, "no answer", now),
                lambda: ledger.fail(record, Rejected("400"), now, requests=record.requests[:-1]),
            ],
            Status.SUBMITTED: [
                lambda: ledger.succeed(record, [{"key": "1.png", "bytes": 10}], {"inference_seconds": 31.0}, now),
                lambda: ledger.fail_attempt(record, InferenceFailed("no"), {}, now),
                lambda: ledger.not_found(record, now),
            ],
            Status.SUCCEEDED: [lambda: ledger.notified(record, now)],
            Status.FAILED: [
                lambda: ledger.new_attempt(record, f"wish-{now}", now),
                lambda: ledger.new_attempt(record, f"wish-{now}", now, error=InvalidInput("bad"), inputs={}),
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
        story.ledger.claim(story.records[0], "slow", NOW)
    record = other.get(JOB.job_id)
    assert record
    assert record.claimed.fate is Fate.UNKNOWN


def test_an_attempt_s_number_is_kept_though_the_reply_is_lost() -> None:
    story = Story({2, 3})
    claimed = story.ledger.claim(story.records[0], "owner", NOW)
    assert (claimed.status, claimed.owner) == (Status.SUBMITTING, "owner")
    assert story.table.items[attempts_id(JOB.job_id)]["highest"] == {"N": "1"}


@given(st.sets(st.integers(1, 8)), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_record_that_expires_and_comes_back_never_reuses_a_number(lost: set[int], lives: list[int]) -> None:
    """Each life is claimed and retried so many times, then its record expires (P6)."""
    table = Table()
    ledger = Ledger(table, "jobs", 7)  # type: ignore[arg-type]
    used: list[int] = []
    now = NOW
    for retries in lives:
        table.lost = {table.writes + number for number in lost}
        record = ledger.queue(JOB, now)
        for number in range(retries + 1):
            if number:
                record = ledger.new_attempt(record, f"wish-{now}", now)
            now += 86400
            record = ledger.claim(record, f"owner-{now}", now)
            used.append(record.attempt)
            record = ledger.fail(record, Rejected("400"), now, requests=[])
            ledger.notified(record, now)
        table.items.pop(JOB.job_id)
    assert used == list(range(1, len(used) + 1))


# ---- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [set(), {1}, {2}, {1, 2}], ids=str)
def test_a_refusal_whose_write_is_repeated_counts_once(lost: set[int]) -> None:
    """Otherwise one job's refusal would pause everybody."""
    governor, _ = _governor(lost)
    governor.trip(lambda breaker: breaker.refused(NOW, "403", 900))
    assert governor.read_breaker() == Breaker().refused(NOW, "403", 900)
    assert not governor.read_breaker().is_open


@pytest.mark.parametrize("lost", [set(), {1}], ids=str)
def test_a_slot_whose_write_is_repeated_is_one_slot_and_one_job_of_the_day(lost: set[int]) -> None:
    governor, _ = _governor(lost)
    assert isinstance(governor.take(NOW, None), Turn)
    assert governor.read().day_jobs == 1
    assert governor.read() == Pacing().take(NOW, LIMITS)[0]


def test_a_probe_whose_write_is_repeated_is_sent() -> None:
    governor, table = _governor(set())
    governor.trip(lambda breaker: breaker.key_refused(NOW, "401", 900))
    table.lost = {table.writes + 1, table.writes + 2}
    assert isinstance(governor.take(NOW + 900, None), Turn)
    assert isinstance(governor.take(NOW + 901, None), Held)


def test_a_write_that_another_function_overtook_is_done_again() -> None:
    governor, table = _governor({1})
    other = Governor(table, "jobs", LIMITS)  # type: ignore[arg-type]
    table.between = lambda: other.trip(lambda breaker: breaker.outcome_unknown(NOW, 900))
    governor.trip(lambda breaker: breaker.refused(NOW, "403", 900))
    assert governor.read_breaker().unknowns == 1
    assert governor.read_breaker().refusals >= 1


def test_who_loses_the_probe_leaves_it_to_the_winner() -> None:
    governor, table = _governor(set())
    governor.trip(lambda breaker: breaker.key_refused(NOW, "401", 900))
    winner = Governor(table, "jobs", LIMITS)  # type: ignore[arg-type]
    turns: list[Turn | Held] = []
    read = governor._breaker.read

    def late() -> Breaker:
        """The loser has read the breaker before the winner reserved the probe."""
        found = read()
        turns.append(winner.take(NOW + 900, None))
        return found

    governor._breaker.read = late  # type: ignore[method-assign]
    turns.append(governor.take(NOW + 900, None))
    assert [type(turn) for turn in turns] == [Turn, Held]
    assert winner.read_breaker().probe_until > NOW + 900
    assert isinstance(winner.take(NOW + 902, None), Held)
    assert winner.read().day_jobs == 1


def _governor(lost: set[int]) -> tuple[Governor, Table]:
    table = Table()
    table.lost = lost
    return Governor(table, "jobs", LIMITS), table  # type: ignore[arg-type]


def test_the_record_that_a_write_returns_is_the_one_that_is_read() -> None:
    story = Story(set())
    claimed = story.ledger.claim(story.records[0], "owner", NOW)
    assert claimed == story.ledger.get(JOB.job_id)
    assert isinstance(claimed, Record)
