"""The plan's limit: permits, pauses, and which calls count. Without a clock or DynamoDB."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.contract.errors import WriteRefused
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate.rate_limit import Permit, RateLimit, RateLimiter, RateLimitState, paused
from tests.items import MemoryItems

NOW = 1_800_000_000.0
SUBMITS = RateLimit(50, "submits")
ALL = RateLimit(50, "all")
AUTO = RateLimit(50)


def permit_at(taken: Permit | Closed) -> float:
    assert isinstance(taken, Permit)
    return taken.at


def closed(taken: Permit | Closed) -> Closed:
    assert isinstance(taken, Closed)
    return taken


@pytest.fixture
def items() -> MemoryItems:
    return MemoryItems()


def test_the_first_call_is_made_at_once(items: MemoryItems) -> None:
    assert RateLimiter(items, SUBMITS).permit_submit(NOW) == Permit(NOW)


def test_permits_are_an_interval_apart(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    times = [permit_at(limiter.permit_submit(NOW)) for _ in range(6)]
    assert times == pytest.approx([NOW + number * SUBMITS.interval for number in range(6)])


def test_a_busy_limit_costs_one_write_a_permit_and_no_read(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    limiter.permit_submit(NOW)
    items.get = None  # type: ignore[method-assign, assignment]
    before = items.writes
    limiter.permit_submit(NOW)
    assert items.writes == before + 1


def test_an_idle_limit_costs_two_writes_and_no_read(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    limiter.permit_submit(NOW)
    items.get = None  # type: ignore[method-assign, assignment]
    before = items.writes
    assert limiter.permit_submit(NOW + 100) == Permit(NOW + 100)
    assert items.writes == before + 2


def test_a_submit_is_deferred_when_its_permit_is_too_far(items: MemoryItems) -> None:
    limit = RateLimit(600, "submits")
    limiter = RateLimiter(items, limit)
    count = 0
    while isinstance(taken := limiter.permit_submit(NOW), Permit):
        assert taken.at <= NOW + 10
        count += 1
    assert count == int(10 / limit.interval) + 1
    assert taken.code is ReasonCode.RATE_LIMIT
    # At that time there is a permit again, and it is not later than necessary.
    assert NOW < taken.until <= NOW + limit.interval
    assert isinstance(limiter.permit_submit(taken.until), Permit)


def test_polls_go_before_submits_where_all_calls_count(items: MemoryItems) -> None:
    limit = RateLimit(600, "all")
    limiter = RateLimiter(items, limit)
    while isinstance(limiter.permit_submit(NOW), Permit):
        pass
    polls = []
    while isinstance(poll := limiter.permit_poll(NOW), Permit):
        polls.append(poll.at)
    assert polls[0] > NOW + 10
    assert NOW + 15 - limit.interval < polls[-1] <= NOW + 15
    assert isinstance(limiter.permit_submit(NOW), Closed)


def test_at_the_lowest_limit_a_submit_waits_behind_one_poll_but_not_behind_two(items: MemoryItems) -> None:
    limiter = RateLimiter(items, RateLimit(5, "all"))
    limiter.permit_poll(NOW)
    assert isinstance(limiter.permit_submit(NOW, wait=60), Permit)
    assert isinstance(limiter.permit_submit(NOW, wait=60), Closed)


@pytest.mark.parametrize("requests", [5.0, 50.0, 600.0])
def test_the_plan_s_limit_is_used_to_95_percent_and_never_exceeded(requests: float) -> None:
    limiter = RateLimiter(MemoryItems(), RateLimit(requests, "all"))
    now, times = NOW, []
    while now < NOW + 600:
        taken = limiter.permit_poll(now)
        if isinstance(taken, Permit):
            times.append(taken.at)
        else:
            now = taken.until + 1e-3
    for first in times[: len(times) // 2]:
        in_the_minute = sum(first <= time < first + 60 for time in times)
        assert 0.95 * requests - 1 <= in_the_minute <= requests


def test_jobs_are_dispatched_a_little_slower_than_they_are_permitted_and_leave_room_for_their_polls() -> None:
    state = RateLimitState()
    assert SUBMITS.interval < SUBMITS.job_interval(state, NOW) < 1.01 * SUBMITS.interval
    # A job makes a submit, a request for its result, and one or two polls.
    assert 3 * ALL.interval < ALL.job_interval(state, NOW) < 4 * ALL.interval


@given(
    st.lists(st.floats(0, 5), min_size=2, max_size=300),
    st.sampled_from([5.0, 50.0, 600.0, 6000.0]),
)
def test_no_minute_has_more_calls_than_the_plan_allows(pauses: list[float], requests: float) -> None:
    limit = RateLimit(requests, "all")
    limiter = RateLimiter(MemoryItems(), limit)
    now, times = NOW, []
    for pause in pauses:
        now += pause
        taken = limiter.permit_poll(now)
        if isinstance(taken, Permit):
            times.append(taken.at)
    assert times == sorted(times)
    assert all(later - earlier >= limit.interval - 1e-5 for earlier, later in pairwise(times))


# ---- 429 -----------------------------------------------------------------------------------------------------------


def test_a_429_pauses_all_calls(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    assert limiter.pause(NOW, 40) == NOW + 40
    for taken in (limiter.permit_submit(NOW + 39), limiter.permit_poll(NOW + 39)):
        assert closed(taken) == paused(limiter.read())
    assert limiter.permit_poll(NOW + 40) == Permit(NOW + 40)
    assert limiter.permit_submit(NOW + 40) == Permit(NOW + 40)


def test_pauses_without_retry_after_double_while_they_follow_each_other(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    now, seconds = NOW, []
    for _ in range(8):
        until = limiter.pause(now, None)
        seconds.append(until - now)
        now = until
    assert seconds == [10, 20, 40, 80, 160, 320, 320, 320]
    assert limiter.pause(now + 60, None) == now + 70


def test_calls_that_are_refused_together_are_one_pause(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    assert [limiter.pause(NOW + second, None) for second in (0, 1, 2)] == [NOW + 10, NOW + 11, NOW + 12]


def test_a_pause_never_ends_sooner_for_a_later_429(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    limiter.pause(NOW, 300)
    assert limiter.pause(NOW + 1, 5) == NOW + 300


def test_of_two_pauses_at_once_the_longer_counts(items: MemoryItems, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, get = RateLimiter(items, SUBMITS), items.get

    def read_then_paused_by_another(*keys: str) -> Any:
        found = get(*keys)
        monkeypatch.setattr(items, "get", get)
        RateLimiter(items, SUBMITS).pause(NOW, 10)
        return found

    monkeypatch.setattr(items, "get", read_then_paused_by_another)
    assert limiter.pause(NOW, 40) == NOW + 40


def test_a_permit_that_others_always_take_first_is_tried_for_again_in_a_second(
    items: MemoryItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: str, **_: Any) -> Any:
        raise WriteRefused(key, dict(items.table.get(key, {})))

    limiter = RateLimiter(items, SUBMITS)
    limiter.permit_submit(NOW)
    monkeypatch.setattr(items, "update", refuse)
    assert closed(limiter.permit_submit(NOW)).until == NOW + 1


@pytest.mark.parametrize(("asked", "seconds"), [(0.0, 1.0), (90000.0, 3600.0)])
def test_retry_after_is_bounded(items: MemoryItems, asked: float, seconds: float) -> None:
    assert RateLimiter(items, SUBMITS).pause(NOW, asked) == NOW + seconds


# ---- which calls count ---------------------------------------------------------------------------------------------


def test_polls_need_no_permit_where_only_submits_count(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    while isinstance(limiter.permit_submit(NOW), Permit):
        pass
    assert limiter.permit_poll(NOW) == Permit(NOW)


def test_auto_learns_from_a_429_that_all_calls_count_and_keeps_it_for_a_day(items: MemoryItems) -> None:
    limiter = RateLimiter(items, AUTO)
    limiter.permit_submit(NOW)
    assert not limiter.read().counts_all(AUTO, NOW)
    until = limiter.pause(NOW, 10)
    assert limiter.read().counts_all(AUTO, until)
    assert AUTO.job_interval(limiter.read(), until) == ALL.job_interval(limiter.read(), until)
    assert limiter.read().counts_all(AUTO, NOW + 86399)
    assert not limiter.read().counts_all(AUTO, NOW + 86400)


def test_a_429_in_the_minute_after_the_limit_was_lowered_says_nothing(items: MemoryItems) -> None:
    RateLimiter(items, RateLimit(600)).permit_submit(NOW - 100)
    limiter = RateLimiter(items, AUTO)
    limiter.permit_submit(NOW)
    limiter.pause(NOW + 59, 1)
    assert not limiter.read().counts_all(AUTO, NOW + 60)
    limiter.pause(NOW + 60, 1)
    assert limiter.read().counts_all(AUTO, NOW + 61)


def test_submits_only_stays_so_after_a_429(items: MemoryItems) -> None:
    limiter = RateLimiter(items, SUBMITS)
    limiter.pause(NOW, 1)
    assert not limiter.read().counts_all(SUBMITS, NOW + 1)


def test_a_new_limit_counts_at_the_next_permit(items: MemoryItems) -> None:
    for _ in range(3):
        RateLimiter(items, SUBMITS).permit_submit(NOW)
    faster = RateLimiter(items, RateLimit(600, "submits"))
    first, second = (permit_at(faster.permit_submit(NOW)) for _ in range(2))
    assert first == pytest.approx(NOW + 3 * SUBMITS.interval)
    assert second - first == pytest.approx(RateLimit(600).interval)
