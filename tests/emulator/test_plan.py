"""The fault plan: which calls a fault strikes."""

from typing import Any

import pytest

from local.segmind import faults
from local.segmind.faults import CALLS, JOB, POINTS, Plan, PlanError


def _struck(plan: Plan, point: str = "submit", prompt: str = "", calls: int = 10) -> list[int]:
    return [number for number in range(1, calls + 1) if plan.draw(point, prompt)]


def test_nth_times_and_match_choose_the_calls() -> None:
    assert _struck(Plan([{"fault": "500", "on": "submit", "nth": [3, 4]}])) == [3, 4]
    assert _struck(Plan([{"fault": "500", "on": ["status", "submit"], "times": 2}])) == [1, 2]
    plan = Plan([{"fault": "500", "on": "submit", "match": "walk", "nth": [1]}])
    assert _struck(plan, prompt="a run", calls=3) == []
    assert _struck(plan, prompt="a walk", calls=3) == [1]
    assert _struck(plan, point="status", prompt="a walk") == []


def test_share_is_drawn_from_the_seed() -> None:
    def plan(seed: int) -> Plan:
        return Plan({"faults": [{"fault": "reset", "on": "status", "share": 0.2}]}, seed)

    first = _struck(plan(1), "status", calls=1000)
    assert first == _struck(plan(1), "status", calls=1000)
    assert first != _struck(plan(2), "status", calls=1000)
    assert 150 < len(first) < 250


def test_after_and_until_are_seconds_of_the_plan() -> None:
    now = [50.0]
    plan = Plan([{"fault": "500", "on": "submit", "after": 10, "until": 20}], clock=lambda: now[0])
    for now[0], struck in ((59.0, False), (60.0, True), (69.9, True), (70.0, False)):
        assert bool(plan.draw("submit", "")) is struck


def test_the_first_fault_wins_and_each_counts_for_itself() -> None:
    plan = Plan([{"fault": "500", "on": "submit", "nth": [1]}, {"fault": "503", "on": "submit", "nth": [2]}])
    drawn = [plan.draw("submit", "") for _ in range(3)]
    assert [fault and fault.fault for fault in drawn] == ["500", "503", None]
    assert plan.struck() == [{"fault": "500", "struck": 1}, {"fault": "503", "struck": 1}]


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {},
        {"fault": "unheard-of"},
        {"fault": "500"},
        {"fault": "500", "on": "job"},
        {"fault": "broken", "on": "submit"},
        {"fault": "500", "on": "submit", "share": 1.5},
        {"fault": "500", "on": "submit", "nth": [0]},
        {"fault": "500", "on": "submit", "chance": 1},
        {"fault": "401", "on": "submit", "accepted": True},
        {"fault": "firewall", "on": "submit", "accepted": True},
        {"fault": "redirect"},
        {"fault": "hang", "on": "submit", "seconds": "5"},
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(entry: object) -> None:
    with pytest.raises(PlanError):
        Plan([entry])


def test_the_control_api_refuses_a_bad_plan_too(emulator: Any) -> None:
    with pytest.raises(ValueError, match="unheard-of"):
        emulator.faults([{"fault": "unheard-of"}])


def test_every_fault_is_documented() -> None:
    assert [name for name in POINTS if f" {name} " not in (faults.__doc__ or "").replace("\n", " ")] == []
    assert {point for points in POINTS.values() for point in points} == {*CALLS, JOB}
