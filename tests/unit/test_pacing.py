"""The plan's limit, as values: no clock, no table."""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.gate.reasons import ReasonCode
from posedrop.pacing import (
    DAY,
    GRACE,
    HORIZON,
    LEAD,
    PATIENCE,
    RATE_LIMIT_PAUSE,
    USE_OF_LIMIT,
    Held,
    Limits,
    Pacing,
    Slot,
    Turn,
)

NOW = 1_800_000_000.0
SUBMITS = Limits(50, "submits")
ALL = Limits(50, "all")
AUTO = Limits(50, "auto")


def turn(pacing: Pacing, now: float, limits: Limits = SUBMITS, kept: Slot | None = None) -> tuple[Pacing, Turn]:
    changed, taken = pacing.take(now, limits, kept)
    assert isinstance(taken, Turn)
    return changed, taken


def held(pacing: Pacing, now: float, limits: Limits = SUBMITS, kept: Slot | None = None) -> Held:
    taken = pacing.take(now, limits, kept)[1]
    assert isinstance(taken, Held)
    return taken


def drain(jobs: int, limits: Limits) -> Iterator[float]:
    """When each of so many jobs that arrive at once is sent, each coming back when it was told to."""
    pacing = Pacing()
    waiting: deque[tuple[float, Slot | None]] = deque([(NOW, None)] * jobs)
    while waiting:
        now, kept = min(waiting, key=lambda entry: entry[0])
        waiting.remove((now, kept))
        pacing, taken = pacing.take(now, limits, kept)
        if isinstance(taken, Turn):
            assert now <= taken.at + GRACE
            assert taken.at - now <= PATIENCE
            yield max(now, taken.at)
        else:
            assert taken.until > now
            waiting.append((taken.until, taken.slot))


def busiest_minute(times: list[float]) -> int:
    return max(sum(start <= time < start + 60 for time in times) for start in times)


# ---- slots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [1, 5, 50, 600])
def test_slots_lie_evenly_at_97_percent(per_minute: int) -> None:
    limits = Limits(per_minute)
    assert limits.interval == pytest.approx(60 / per_minute / 0.97)
    assert USE_OF_LIMIT == 0.97


def test_an_idle_plan_is_used_at_once() -> None:
    assert turn(Pacing(), NOW)[1] == Turn(NOW)
    pacing, _ = turn(Pacing(), NOW)
    assert turn(pacing, NOW + 100)[1] == Turn(NOW + 100)


@pytest.mark.parametrize("per_minute", [5, 50, 600])
@pytest.mark.parametrize("counting", ["submits", "auto"])
def test_a_backlog_is_sent_evenly_and_within_the_limit(per_minute: int, counting: str) -> None:
    limits = Limits(per_minute, counting)  # type: ignore[arg-type]
    times = sorted(drain(40 if per_minute == 5 else 200, limits))
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert min(steps) >= limits.interval - GRACE / 10
    assert times[-1] - times[0] == pytest.approx(limits.interval * (len(times) - 1), rel=0.03)
    assert busiest_minute(times) <= per_minute


def test_where_all_calls_count_submits_leave_room_for_the_rest() -> None:
    times = sorted(drain(60, ALL))
    assert times[-1] - times[0] >= 3 * ALL.interval * 59
    assert busiest_minute(times) * 3 <= 50


def test_a_slot_that_is_kept_is_used_once_and_not_for_ever() -> None:
    pacing = Pacing()
    for _ in range(10):
        pacing, taken = pacing.take(NOW, SUBMITS)
    assert isinstance(taken, Held)
    assert taken.slot is not None
    assert turn(pacing, taken.until, kept=taken.slot)[1].at == taken.slot.at
    late = taken.slot.at + GRACE + 0.1
    assert turn(pacing, late, kept=taken.slot)[1].at >= late


def test_a_kept_slot_of_another_grid_is_void() -> None:
    pacing = Pacing()
    for _ in range(10):
        pacing, taken = pacing.take(NOW, SUBMITS)
    assert isinstance(taken, Held)
    assert taken.slot is not None
    other = Limits(5, "submits")
    first = turn(pacing, taken.until, other, kept=taken.slot)[1]
    assert first.at == taken.until != taken.slot.at


def test_slots_are_not_given_out_without_end() -> None:
    pacing = Pacing()
    for _ in range(HORIZON):
        pacing, _ = pacing.take(NOW, SUBMITS)
    changed, taken = pacing.take(NOW, SUBMITS)
    assert changed == pacing
    assert isinstance(taken, Held)
    assert taken.slot is None
    assert taken.until > NOW


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.floats(0, 90)), min_size=1, max_size=40))
def test_no_two_calls_share_a_slot(calls: list[tuple[float, bool, float]]) -> None:
    pacing, now, times = Pacing(), NOW, []
    for pause, is_poll, wait in calls:
        now += pause
        if is_poll:
            pacing, at = pacing.take_poll(now, now + wait, ALL)
            assert at >= now + wait
            times.append(at)
        else:
            pacing, taken = pacing.take(now, ALL)
            if isinstance(taken, Turn) or taken.slot:
                times.append(taken.at if isinstance(taken, Turn) else taken.slot.at)  # type: ignore[union-attr]
    times.sort()
    assert all(later - earlier >= ALL.interval * 0.98 for earlier, later in pairwise(times))


def test_polls_that_do_not_count_take_no_slot() -> None:
    assert Pacing().take_poll(NOW, NOW + 7, SUBMITS) == (Pacing(), NOW + 7)


# ---- 429 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retry_after", "pause"), [(None, RATE_LIMIT_PAUSE), (17.0, 17.0), (0.0, 1.0), (300.0, 300.0)])
def test_a_429_pauses_all_calls(retry_after: float | None, pause: float) -> None:
    pacing = Pacing().rate_limited(NOW, retry_after, ALL)
    assert held(pacing, NOW, ALL).until == held(pacing, NOW + pause - 0.1, ALL).until == NOW + pause
    assert "429" in held(pacing, NOW, ALL).reason
    assert pacing.take_poll(NOW, NOW + 0.5, ALL)[1] >= NOW + pause
    assert turn(pacing, NOW + pause, ALL)[1].at == pytest.approx(NOW + pause)


def test_pauses_grow_while_nothing_is_taken() -> None:
    pacing, now, pauses = Pacing(), NOW, []
    for _ in range(8):
        pacing = pacing.rate_limited(now, None, ALL).rate_limited(now + 1, None, ALL)  # two that were under way
        pauses.append(pacing.paused_until - now)
        now = pacing.paused_until
    assert pauses == [11, 21, 41, 81, 161, 321, 321, 321]
    assert pacing.answered().rate_limited(now, None, ALL).paused_until == now + RATE_LIMIT_PAUSE


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    pacing = Pacing().rate_limited(NOW, 100, SUBMITS).rate_limited(NOW, 1, SUBMITS)
    assert held(pacing, NOW).until == NOW + 100


def test_auto_learns_from_a_429_that_all_calls_count_and_forgets_it_after_a_day() -> None:
    assert not Pacing().counts_all(AUTO, NOW)
    pacing = Pacing().rate_limited(NOW, 1, AUTO)
    assert pacing.counts_all(AUTO, NOW)
    assert pacing.rate_limited(NOW + DAY - 1, 1, AUTO).counts_all(AUTO, NOW + DAY - 1)
    assert not pacing.counts_all(AUTO, NOW + DAY)
    assert not Pacing().rate_limited(NOW, 1, SUBMITS).counts_all(SUBMITS, NOW)


def test_in_the_minute_after_the_limit_has_changed_a_429_shows_nothing() -> None:
    larger = Limits(100, "auto")
    pacing = turn(turn(Pacing(), NOW, AUTO)[0], NOW + 1, larger)[0]
    assert not pacing.rate_limited(NOW + 60, 1, larger).counts_all(larger, NOW + 60)
    assert pacing.rate_limited(NOW + 61, 1, larger).counts_all(larger, NOW + 61)


# ---- the order after a pause -----------------------------------------------------------------------------------------


def paused_at(job: int, pause: str) -> list[int]:
    """The order in which 40 jobs are sent that arrive one after the other, where submitting pauses at one of them."""
    pacing, breaker = Pacing(), None
    waiting: list[tuple[float, int, Slot | None]] = [(NOW + number / 100, number, None) for number in range(40)]
    order: list[int] = []
    while waiting:
        now, number, kept = min(waiting, key=lambda entry: entry[:2])
        waiting.remove((now, number, kept))
        pacing, taken = pacing.take(now, SUBMITS, kept, breaker if breaker and breaker.until > now else None)
        if isinstance(taken, Turn):
            if len(order) == job:
                job = -1
                pacing = pacing.not_accepted()
                if pause == "429":
                    pacing = pacing.rate_limited(now, 20, SUBMITS)
                else:
                    breaker = Held(now + 20, ReasonCode.PAUSED, "401", pause_ends=now + 20)
                    pacing = pacing.submits_paused(breaker.until)
                waiting.append((now + 20, number, kept))
                continue
            pacing = pacing.answered()
            order.append(number)
        else:
            waiting.append((taken.until, number, taken.slot))
    return order


@pytest.mark.parametrize("pause", ["429", "401"])
def test_after_a_pause_jobs_are_sent_in_the_order_in_which_they_came(pause: str) -> None:
    order = paused_at(5, pause)
    assert sorted(order) == list(range(40))
    # The one that was refused comes after those that came in the pause; all others keep their places.
    order.remove(5)
    assert order == sorted(order)


@pytest.mark.parametrize("pause", ["429", "401"])
def test_who_comes_in_a_pause_takes_a_slot_of_the_time_after_it(pause: str) -> None:
    breaker = None if pause == "429" else Held(NOW + 100, ReasonCode.PAUSED, "401", pause_ends=NOW + 100)
    pacing = Pacing().submits_paused(NOW + 100) if breaker else Pacing().rate_limited(NOW, 100, SUBMITS)
    slots = []
    for number in range(30):
        pacing, taken = pacing.take(NOW + number, SUBMITS, pause=breaker)
        assert isinstance(taken, Held)
        assert taken.slot is not None
        assert (taken.pause_ends, taken.code == ReasonCode.PAUSED) == (NOW + 100, pause == "401")
        assert taken.until == max(NOW + 100, taken.slot.at - LEAD)
        slots.append(taken.slot.at)
    assert slots == pytest.approx([NOW + 100 + number * SUBMITS.interval for number in range(30)])
    last = taken.slot
    assert turn(pacing, last.at - 1, kept=last)[1].at == last.at


def test_a_turn_that_is_waited_for_is_stopped_by_what_comes_meanwhile() -> None:
    assert not Pacing().stopped(NOW)
    assert Pacing().rate_limited(NOW, 5, SUBMITS).stopped(NOW + 4)


# ---- the day's limit -------------------------------------------------------------------------------------------------


def test_beyond_the_day_s_limit_jobs_wait_for_the_next_day() -> None:
    limits = Limits(6000, "submits", daily_jobs=3)
    pacing, noon = Pacing(), NOW // DAY * DAY + DAY / 2
    for number in range(3):
        pacing, _ = turn(pacing, noon + number, limits)
    found = held(pacing, noon + 5, limits)
    assert found.until == NOW // DAY * DAY + DAY
    assert "DailyJobLimit" in found.reason
    assert turn(pacing.not_accepted(), noon + 5, limits)[1] == Turn(noon + 5)
    assert turn(pacing, found.until, limits)[1] == Turn(found.until)
