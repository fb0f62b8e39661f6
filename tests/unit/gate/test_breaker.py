"""Tests of the breaker's state: which responses open it, for how long, and which job is the probe."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.gate.breaker import LONGEST_PAUSE, Breaker, Cause

NOW = 1_800_000_000.0
PAUSE = 900.0


def key(breaker: Breaker, now: float = NOW) -> Breaker:
    return breaker.key_refused(now, "401", PAUSE)


def refused(breaker: Breaker, now: float = NOW) -> Breaker:
    return breaker.refused(now, "403", PAUSE)


def unknown(breaker: Breaker, now: float = NOW) -> Breaker:
    return breaker.outcome_unknown(now, PAUSE)


def fault(breaker: Breaker, job: str, now: float = NOW) -> Breaker:
    return breaker.server_fault(now, job, "500", PAUSE)


def test_a_refused_key_opens_at_once() -> None:
    breaker = key(Breaker())
    assert (breaker.cause, breaker.reason, breaker.open_until) == (Cause.KEY_REFUSED, "401", NOW + PAUSE)
    assert breaker.is_paused(NOW + PAUSE - 1)
    assert not breaker.is_paused(NOW + PAUSE)
    assert breaker.is_open


def test_one_refusal_is_the_job_s_and_two_in_a_row_the_account_s() -> None:
    once = refused(Breaker())
    assert not once.is_open
    assert refused(once).cause == Cause.ACCOUNT_REFUSED


def test_an_acceptance_between_two_refusals_keeps_it_closed() -> None:
    breaker = refused(refused(Breaker()).accepted(NOW + 1), NOW + 2)
    assert not breaker.is_open
    assert breaker.accepted_at == NOW + 1


def test_an_acceptance_after_a_refusal_is_seen_though_a_bad_request_came_between() -> None:
    """By it the refused job knows, when it is refused again, that others were accepted."""
    between = refused(Breaker()).rejected()
    assert not between.is_open
    assert between.accepted(NOW + 2).accepted_at == NOW + 2
    assert refused(between, NOW + 2).accepted_at == 0  # a bad request is none that was accepted
    assert not refused(between, NOW + 2).is_open


def test_only_the_first_acceptance_after_a_refusal_changes_the_state() -> None:
    once = refused(Breaker()).accepted(NOW + 1)
    assert once.accepted(NOW + 2) is once


def test_two_unknown_outcomes_in_a_row_open_it() -> None:
    once = unknown(Breaker())
    assert not once.is_open
    assert unknown(once).cause == Cause.OUTCOMES_UNKNOWN
    assert not unknown(once.accepted(NOW)).is_open
    assert not unknown(once.rejected()).is_open


def test_5xx_of_three_different_jobs_in_a_row_open_it() -> None:
    breaker = Breaker()
    for job in ("a", "a", "a", "b", "a", "b"):
        breaker = fault(breaker, job)
        assert not breaker.is_open
    assert fault(breaker, "c").cause == Cause.SERVER_FAULTS
    assert not fault(breaker.accepted(NOW), "c").is_open


def test_pauses_grow_up_to_an_hour_and_begin_small_after_an_acceptance() -> None:
    breaker, now, pauses = Breaker(), NOW, []
    for _ in range(30):
        breaker = key(breaker, now)
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
    assert pauses[:4] == [900, 1800, 3600, 3600]
    assert max(pauses) == LONGEST_PAUSE
    assert key(breaker.accepted(now), now).open_until == now + 900


@pytest.mark.parametrize("late", [key, refused, unknown, lambda breaker, now: fault(breaker, "a", now)])
def test_what_was_under_way_does_not_extend_a_pause(late: Callable[[Breaker, float], Breaker]) -> None:
    breaker = key(Breaker())
    after = late(breaker, NOW + 5)
    assert (after.open_until, after.openings, after.cause) == (breaker.open_until, 1, Cause.KEY_REFUSED)


def test_one_probe_at_a_time() -> None:
    breaker = key(Breaker())
    assert breaker.begin_probe(NOW + PAUSE - 1)[1] is False
    probing, free = breaker.begin_probe(NOW + PAUSE)
    assert free
    assert probing.begin_probe(NOW + PAUSE + 1)[1] is False
    # One that was not sent leaves it to the next.
    assert probing.end_probe().begin_probe(NOW + PAUSE + 1)[1]


def test_a_probe_without_a_response_is_repeated_after_a_minute() -> None:
    probing, _ = key(Breaker()).begin_probe(NOW + PAUSE)
    assert not probing.begin_probe(NOW + PAUSE + 59.5)[1]
    assert probing.begin_probe(NOW + PAUSE + 60)[1]


@pytest.mark.parametrize("probe", [key, refused, unknown, lambda breaker, now: fault(breaker, "a", now)])
def test_a_probe_that_fails_opens_it_for_longer(probe: Callable[[Breaker, float], Breaker]) -> None:
    probing, _ = key(Breaker()).begin_probe(NOW + PAUSE)
    again = probe(probing, NOW + PAUSE + 1)
    assert again.open_until == NOW + PAUSE + 1 + 2 * PAUSE
    assert not again.probe_until


def test_an_accepted_or_a_rejected_probe_closes_it() -> None:
    probing, _ = key(Breaker()).begin_probe(NOW + PAUSE)
    assert not probing.accepted(NOW + PAUSE + 1).is_open
    assert not probing.rejected().is_open


def test_an_acceptance_that_ends_nothing_changes_nothing() -> None:
    assert Breaker().accepted(NOW) == Breaker()


EVENTS = st.sampled_from(["key", "refused", "unknown", "fault", "accepted", "rejected", "probe", "end"])


def happen(breaker: Breaker, event: str, now: float, job: str) -> Breaker:
    match event:
        case "fault":
            return fault(breaker, job, now)
        case "accepted":
            return breaker.accepted(now)
        case "rejected":
            return breaker.rejected()
        case "end":
            return breaker.end_probe()
        case _:
            return {"key": key, "refused": refused, "unknown": unknown}[event](breaker, now)


@given(st.lists(st.tuples(EVENTS, st.integers(0, 4000), st.sampled_from("abcd")), max_size=60))
def test_never_two_probes_and_always_a_way_back(events: list[tuple[str, int, str]]) -> None:
    breaker, now, probe_until = Breaker(), NOW, 0.0
    for event, passed, job in events:
        now += passed
        if event == "probe":
            breaker, free = breaker.begin_probe(now)
            if free and breaker.is_open:
                assert now >= probe_until
                probe_until = breaker.probe_until
            continue
        probe_until = 0.0
        breaker = happen(breaker, event, now, job)
        assert breaker.open_until <= now + LONGEST_PAUSE
        assert breaker.is_open is bool(breaker.reason)
        if event in ("accepted", "rejected"):
            assert not breaker.is_open
