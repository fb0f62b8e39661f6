"""The judge of a chaos run: it passes what is sound, and names each broken promise."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from local.chaos.evidence import Accepted, Evidence, Stored
from local.chaos.scenario import PlannedJob, Scenario, draw_scenario
from local.chaos.trouble import TROUBLES
from local.chaos.verdict import judge
from local.segmind.faults import Plan

Change = Callable[[Evidence], Evidence]

JOB = "hero-walk-0123456789abcdef"
FOLDER = f"outputs/hero/walk/{JOB}/2"
IMAGE = hashlib.sha256(b"image").hexdigest()
FAILED = next(trouble for trouble in TROUBLES if trouble.name == "failed")
ASKED_FOR = {"hero/walk": 1}


def scenario(*troubles: Any) -> Scenario:
    """One job, which the provider fails once."""
    job = PlannedJob("hero", "walk", "<job 0>", troubles=troubles or (FAILED,))
    return Scenario(seed=1, jobs=(job,), uploads=(), kills=(), refusals=())


def told(attempt: int, status: str, **more: Any) -> dict[str, Any]:
    """A notification."""
    return {"job_id": JOB, "attempt": attempt, "status": status, "error": None, "outputs": [], **more}


def sound() -> Evidence:
    """The first attempt failed at the provider, the second one succeeded."""
    error = {"type": "InferenceFailed", "message": "no"}
    success = told(2, "SUCCEEDED", outputs=[{"key": f"{FOLDER}/1.png", "sha256": IMAGE}])
    place = {"character": "hero", "pose": "walk", "job_id": JOB, "parameters": {"samples": 1}}
    return Evidence(
        records=[{**place, "status": "SUCCEEDED", "attempt": 2, "notified_at": "2026-11-23T10:15:30Z"}],
        executions=[(f"{JOB}-1", "FAILED"), (f"{JOB}-2", "SUCCEEDED")],
        late_tasks={},
        accepted=[Accepted("a", f"{JOB}-1", "x"), Accepted("b", f"{JOB}-2", "x")],
        accepted_in_all=2,
        notifications=[told(1, "FAILED", error=error), success],
        stored={f"{FOLDER}/1.png": Stored(IMAGE), f"{FOLDER}/result.json": Stored("", result=success)},
        letters={"upload queue": []},
        struck=[1],
        calls=[],
        key_leaks=0,
        deaths=Counter(),
        healed={},
        errors=Counter(),
    )


def test_what_is_sound_passes() -> None:
    assert judge(scenario(), sound(), ASKED_FOR).violations == []


BROKEN: dict[str, Change] = {
    "the provider accepted 2 submits": lambda found: replace(
        found, accepted=[*found.accepted, Accepted("c", f"{JOB}-2", "x")], accepted_in_all=3
    ),
    "a submit of no attempt": lambda found: replace(found, accepted=[*found.accepted, Accepted("c", "", "x")]),
    "3 were taken": lambda found: replace(found, accepted_in_all=3),
    "one record expected, not 0": lambda found: replace(found, records=[]),
    "one record expected, not 2": lambda found: replace(found, records=found.records * 2),
    "no upload makes": lambda found: replace(found, records=[*found.records, {**found.records[0], "pose": "run"}]),
    "ended as SUBMITTED": lambda found: replace(found, records=[{**found.records[0], "status": "SUBMITTED"}]),
    "is at attempt 1, 2 were asked for": lambda found: replace(found, records=[{**found.records[0], "attempt": 1}]),
    "not marked as told": lambda found: replace(found, records=[{**found.records[0], "notified_at": None}]),
    "no notification": lambda found: replace(found, notifications=found.notifications[:1]),
    "its notifications differ": lambda found: replace(
        found, notifications=[*found.notifications, told(2, "FAILED", error={"type": "TimedOut"})]
    ),
    "a notification of no attempt": lambda found: replace(
        found, notifications=[*found.notifications, told(3, "FAILED", error={"type": "TimedOut"})]
    ),
    "0 executions": lambda found: replace(found, executions=found.executions[:1]),
    "an execution of no attempt": lambda found: replace(found, executions=[*found.executions, ("x", "FAILED")]),
    "the execution ended as FAILED": lambda found: replace(
        found, executions=[found.executions[0], (f"{JOB}-2", "FAILED")]
    ),
    "without a result.json": lambda found: replace(found, stored={f"{FOLDER}/1.png": Stored(IMAGE)}),
    "or other bytes": lambda found: replace(found, stored={**found.stored, f"{FOLDER}/1.png": Stored("other")}),
    "not a whole image": lambda found: replace(
        found, stored={**found.stored, f"{FOLDER}/1.png": Stored(IMAGE, fault="cut")}
    ),
    "left in the upload queue": lambda found: replace(found, letters={"upload queue": ["{}"]}),
    "the API key was sent elsewhere": lambda found: replace(found, key_leaks=1),
    "struck by nothing": lambda found: replace(found, struck=[0]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_named(what: str) -> None:
    violations = judge(scenario(), BROKEN[what](sound()), ASKED_FOR).violations
    assert any(what in violation for violation in violations), violations


def test_a_fault_that_changes_nothing_is_named() -> None:
    fatal = next(trouble for trouble in TROUBLES if trouble.name == "expired")
    violations = judge(scenario(FAILED, fatal), replace(sound(), struck=[1, 1]), ASKED_FOR).violations
    assert violations == [f"hero/walk ({JOB}): struck by expired, and ended as ['InferenceFailed']"]


def test_a_killed_function_explains_one_unknown_outcome() -> None:
    error = {"type": "SubmitOutcomeUnknown", "message": "?"}
    notifications = [told(1, "FAILED", error=error), sound().notifications[1]]
    second = [Accepted("b", f"{JOB}-2", "x")]
    found = replace(sound(), notifications=notifications, struck=[0], accepted=second, accepted_in_all=1)
    assert judge(scenario(), replace(found, deaths=Counter(submit=1)), ASKED_FOR).violations == []
    assert judge(scenario(), found, ASKED_FOR).violations


def ended_first(error: str) -> Evidence:
    """The first attempt was taken and told as this error; a second one was bought."""
    first = told(1, "FAILED", error={"type": error, "message": "?"})
    return replace(sound(), notifications=[first, sound().notifications[1]], struck=[1])


def test_an_unknown_outcome_that_the_history_knew_is_named() -> None:
    lost = next(trouble for trouble in TROUBLES if trouble.name == "submit reset, taken")
    violations = judge(scenario(lost), ended_first("SubmitOutcomeUnknown"), ASKED_FOR).violations
    assert any("the provider's history has it" in violation for violation in violations)
    asked_in_vain = replace(ended_first("SubmitOutcomeUnknown"), unasked=frozenset({f"{JOB}-1", f"{JOB}-2"}))
    verdict = judge(scenario(lost), asked_in_vain, ASKED_FOR)
    assert verdict.violations == []
    assert any("could not be asked" in line for line in verdict.explained)


@pytest.mark.parametrize("name", ["output-missing", "media truncated", "never ends"])
def test_what_is_bought_again_without_need_is_named(name: str) -> None:
    trouble = next(trouble for trouble in TROUBLES if trouble.name == name)
    (error,) = trouble.explains
    violations = judge(scenario(trouble), ended_first(error), ASKED_FOR).violations
    assert violations == [f"hero/walk ({JOB}): {JOB}-2: bought although the attempt before was, and ended as {error}"]


def test_the_seed_decides_the_scenario() -> None:
    drawn = draw_scenario(7, 200)
    assert drawn == draw_scenario(7, 200) != draw_scenario(8, 200)
    assert len(drawn.jobs) == 200
    assert len({job.character for job in drawn.jobs}) == 40
    Plan(drawn.plan)  # raises if the emulator cannot read it
