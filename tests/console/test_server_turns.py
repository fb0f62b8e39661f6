"""When the turn of each queued job comes."""

from dataclasses import replace
from typing import Any

import pytest

from ops.console.cards import card
from ops.console.glance import late_seconds
from ops.console.turns import turns
from ops.explain import Situation
from posedrop.clock import rfc3339
from posedrop.gate.breaker import Breaker
from posedrop.ledger import Record, Status
from posedrop.pacing import LEAD, Held, Limits, Pacing
from posedrop.polling import Latency

NOW = 1_800_000_000.0
LIMITS = Limits(50)
CLOSED = Breaker()
JOBS = 60


def situation(pacing: Pacing, now: float = NOW, breaker: Breaker = CLOSED) -> Situation:
    """The situation of a stack whose limit is used so."""
    return Situation(pacing, breaker, LIMITS, Latency.typical(31), 3000, submit_timeout_seconds=60, now=now)


def queue() -> tuple[Pacing, list[Record]]:
    """Jobs that asked for a place one after another, and the state of the limit after that."""
    pacing, records = Pacing(), []
    for index in range(JOBS):
        pacing, taken = pacing.take(NOW, LIMITS)
        values: dict[str, Any] = {}
        if isinstance(taken, Held) and taken.slot:
            values = {"slot": vars(taken.slot), "deferred_until": rfc3339(taken.slot.at - LEAD), "reason": taken.reason}
        created = rfc3339(NOW + index / 1000)
        records.append(Record(f"job-{index:03}", Status.QUEUED, "hero", f"pose-{index}", created_at=created, **values))
    return pacing, records


def test_a_slot_that_was_kept_is_the_turn() -> None:
    pacing, records = queue()
    found = turns(reversed(records), situation(pacing))
    assert found == {record.job_id: record.slot["at"] for record in records if record.slot}
    assert len(found) > JOBS - 10


def test_after_a_new_grid_every_job_has_a_turn_of_its_own_that_stays() -> None:
    pacing, records = queue()
    limited = pacing.rate_limited(NOW, 30, LIMITS)
    found = turns(records, situation(limited))
    times = [found[record.job_id] for record in records if record.job_id in found]
    assert len(times) > JOBS - 10
    assert times == sorted(set(times))
    assert times[0] >= limited.paused_until
    assert times[-1] - times[0] > (len(times) - 2) * LIMITS.interval
    later = turns(records, situation(limited, NOW + 5))
    assert len(later) >= len(found) - 5
    assert later == pytest.approx({name: found[name] for name in later}, abs=0.01)


def test_a_pause_moves_all_turns_once_to_its_end_and_keeps_their_order() -> None:
    pacing, records = queue()
    breaker = Breaker().key_refused(NOW, "the provider answered 401", 600)
    paused = pacing.submits_paused(breaker.open_until)
    found = turns(records, situation(paused, breaker=breaker))
    before = turns(records, situation(pacing))
    kept = [job_id for job_id in before if job_id in found]
    assert len(kept) > JOBS - 10
    assert kept == sorted(kept, key=found.__getitem__) == sorted(kept, key=before.__getitem__)
    assert min(found.values()) >= NOW + 600
    later = turns(records, situation(paused, NOW + 5, breaker))
    assert len(later) >= len(found) - 5
    assert later == pytest.approx({name: found[name] for name in later}, abs=0.01)


def test_a_job_that_cannot_be_told_has_no_time() -> None:
    overdue = Record(
        *("late", Status.QUEUED, "hero", "walk"),
        created_at=rfc3339(NOW - 60),
        deferred_until=rfc3339(NOW - 30),
        reason="429",
    )
    fresh = replace(overdue, job_id="fresh", deferred_until=None, reason=None)
    assert turns([overdue, fresh], situation(Pacing())) == {}
    assert card(fresh, situation(Pacing()))["headline"] == "in line"


def test_longer_than_usual_begins_where_few_jobs_end_and_after_the_look_for_it() -> None:
    latency = Latency(tuple(range(300, 340)))
    assert late_seconds(latency) > 33
    assert late_seconds(latency) > sorted(latency.tenths)[-3] / 10
