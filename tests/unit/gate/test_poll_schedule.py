"""The poll schedule: its bounds, what it learns, and its cost beside the optimum on a few short traces."""

import itertools
import json
import math
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.polling import TRACES, Fixed, Known, Learning, compare, evaluate, optimum, table, typical
from posedrop.gate.poll_schedule import LONGEST_JOB, MEMORY, Latency, first_wait, next_wait

ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True)


def polls(latency: Latency, end: float) -> list[float]:
    """The times of the polls of a job that takes until `end`."""
    times = [float(first_wait(latency))]
    while times[-1] < end:
        times.append(times[-1] + next_wait(times[-1], latency))
    return times


def after(durations: list[float], start: float = 31) -> Latency:
    latency = Latency.typical(start)
    for seconds in durations:
        latency = latency.observe(seconds)
    return latency


@pytest.mark.parametrize(
    ("latency", "times"),
    [
        (
            Latency.typical(31),
            [25, 30, 35, 40, 45, 50, 58, 67, 78, 90, 104, 120, 138, 159, 183, 211, 243, 280, 322, 371, 427],
        ),
        (Latency.typical(46), [37, 44, 51, 58, 65, 72, 83, 96, 111, 128, 148, 171, 197, 227, 262, 302, 348, 401, 461]),
        (
            Latency.typical(1),
            [
                1,
                2,
                3,
                4,
                5,
                6,
                7,
                9,
                11,
                13,
                15,
                18,
                21,
                25,
                29,
                34,
                40,
                46,
                53,
                61,
                71,
                82,
                95,
                110,
                127,
                147,
                170,
                196,
                226,
            ],
        ),
        (
            after([20.0, 55.0] * 16),
            [20, 27, 34, 41, 48, 55, 64, 74, 86, 99, 114, 132, 152, 175, 202, 233, 268, 309, 356, 410],
        ),
        (after([61.0] * 30 + [210.0, 215.0]), [60, 61, 71, 82, 95, 110, 127, 147, 170, 196, 226, 260, 299, 344, 396]),
    ],
    ids=["31 s, assumed", "46 s, assumed", "1 s, assumed", "20 s or 55 s", "61 s, cold boots"],
)
def test_the_whole_schedule(latency: Latency, times: list[float]) -> None:
    """A constant or an operator that changes shows here, even where it hardly changes the cost."""
    assert polls(latency, times[-1]) == times


@given(st.floats(1, 600), st.lists(ANY_NUMBER, max_size=40), st.floats(0, 10_000))
def test_waits_are_whole_seconds_from_1_to_60(start: float, durations: list[float], elapsed: float) -> None:
    latency = after(durations, start)
    for wait in (first_wait(latency), next_wait(elapsed, latency)):
        assert type(wait) is int
        assert 1 <= wait <= 60


@pytest.mark.parametrize("start", [1, 5, 31, 61, 300, 600])
def test_a_job_is_never_forgotten_and_rarely_asked_for_in_vain(start: float) -> None:
    times = polls(Latency.typical(start), 3000)
    assert len(times) < 80
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= min(60, 0.1 * time) for time, gap in zip(times, gaps, strict=False) if time > 10 * start)


def test_polls_first_a_little_before_the_typical_time() -> None:
    assert 24 <= first_wait(Latency.typical(31)) <= 31
    assert polls(Latency.typical(31), 31)[:2] == pytest.approx([26, 31], abs=2)
    assert first_wait(Latency.typical(1)) <= 2
    assert first_wait(Latency.typical(600)) == 60


def test_a_clock_that_is_a_little_behind_makes_no_second_poll_at_once() -> None:
    latency = Latency.typical(31)
    first = first_wait(latency)
    assert next_wait(first - 0.5, latency) == next_wait(first, latency) > 1
    assert next_wait(first - 0.6, latency) == 1


def test_a_poll_that_is_due_already_is_made_after_a_second() -> None:
    assert next_wait(1.3, after([1.2] * MEMORY)) == 1


def test_learns_a_constant_exactly() -> None:
    assert polls(after([47.4] * MEMORY), 47.4) == [48]
    assert polls(after([30.0] * MEMORY), 30) == [30]


def test_a_few_cold_boots_change_little() -> None:
    jobs = [typical(random.Random(n)) for n in range(MEMORY)]
    calm, cold = after(jobs), after([*jobs[:-2], 210, 215])
    assert first_wait(cold) == pytest.approx(first_wait(calm), abs=2)
    assert polls(cold, 40)[:3] == pytest.approx(polls(calm, 40)[:3], abs=4)


def test_remembers_the_last_jobs_only() -> None:
    latency = after([10.0] * 100)
    assert latency.tenths == (100,) * MEMORY
    assert Latency.typical(31) != Latency.typical(31).observe(30)


@pytest.mark.parametrize("seconds", [0, -5, math.nan, math.inf, -math.inf])
def test_what_is_no_duration_is_left_out(seconds: float) -> None:
    assert Latency.typical(31).observe(seconds) == Latency.typical(31)


def test_durations_are_bounded_and_rounded_up() -> None:
    assert Latency.typical(31).observe(1e9).tenths[-1] == LONGEST_JOB * 10
    assert [after([seconds]).tenths[-1] for seconds in (1e-9, 30.0, 30.01, 30.1)] == [1, 300, 301, 301]


def test_what_is_assumed_is_spread_about_the_typical_time() -> None:
    assert Latency.typical(31).tenths == (212, 249, 275, 299, 323, 351, 387, 455)


def test_stored_numbers_are_brought_within_the_bounds() -> None:
    assert Latency.from_dict({"tenths": [-10, 0, 1, 2, 36_000, 36_001]}).tenths == (1, 1, 1, 2, 36_000, 36_000)


def test_round_trip_through_json_and_decimals() -> None:
    latency = after([30.04, 29, 210])
    assert Latency.from_dict(json.loads(json.dumps(latency.to_dict()))) == latency
    assert Latency.from_dict({"tenths": [Decimal(value) for value in latency.tenths]}) == latency


@pytest.mark.parametrize(
    "data", [{}, {"tenths": []}, {"tenths": None}, {"tenths": ["x"]}, {"tenths": [Decimal("NaN")]}]
)
def test_damaged_data_is_a_value_error(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Latency.from_dict(data)


@given(st.lists(st.integers(-10, 10**6), min_size=1, max_size=40))
def test_any_stored_numbers_give_a_schedule(tenths: list[int]) -> None:
    latency = Latency.from_dict({"tenths": tenths})
    assert len(latency.tenths) <= MEMORY
    assert polls(latency, 3000)[-1] >= 3000


@pytest.mark.parametrize(
    ("trace", "ratio"),
    [
        ("31 s", 1.15),
        ("61 s, cold boots", 1.15),
        ("lognormal, sigma 0.1", 1.15),
        ("20 s or 55 s", 1.8),
        ("constant 30 s", 1.15),
    ],
)
def test_cost_is_near_the_optimum(trace: str, ratio: float) -> None:
    row = compare(trace, TRACES[trace], jobs=600)
    assert row.ratio >= 0.98  # the optimum is one: but for chance, nothing is cheaper
    assert row.ratio <= ratio
    assert row.learning.cost < min(row.fixed[1].cost, row.fixed[5].cost, row.fixed[10].cost)
    if trace == "31 s":
        assert row.learning.polls <= 2.9
        assert row.fixed[1].cost / row.learning.cost > 5
    assert trace in table([row])


def test_optimum_of_small_cases() -> None:
    assert optimum([30.0, 30.0]).cost == pytest.approx(1)
    assert optimum([30.0]).following[0] == 30
    # Half end at 10, half at 20: polling at both times costs 1.5; polling at 20 only costs 1 and a mean delay of 5.
    assert optimum([10.0, 20.0]).cost == pytest.approx(1.5)
    assert optimum([10.0, 10.5]).cost == pytest.approx(1.75)
    assert optimum([90.0]).cost == pytest.approx(2)  # a wait is at most 60 s


def test_evaluate_counts_polls_and_delays() -> None:
    result = evaluate(Fixed(5), [99.0, 1.0, 5.0, 6.0], skip=1)
    assert (result.delay_p50, result.delay_p95) == (4, 4)
    assert [result.polls, result.delay] == pytest.approx([4 / 3, 8 / 3])
    assert result.cost == pytest.approx(4)
    assert evaluate(Known([7, 1], 0), [7.5]).polls == 2
    assert evaluate(Learning(), [30.0] * 50, skip=45).polls == 1
