"""The invariants of a chaos run: a correct run passes, and each broken promise is reported."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from local.chaos.evidence import Accepted, DeadLetter, Evidence, Stored
from local.chaos.faults import ALONE_REFUSED, ALWAYS_500, ALWAYS_REFUSED, COST_USD, JOB_FAULTS, KEPT_WAITING, JobFault
from local.chaos.gateway import BUDGET_REPLIES
from local.chaos.invariants import Asked, check
from local.chaos.run import LOST_SECONDS, lost_jobs
from local.chaos.scenario import PlannedJob, Scenario, draw_scenario
from local.segmind.faults import Plan
from posedrop.contract.times import rfc3339

Change = Callable[[Evidence], Evidence]

JOB = "hero-walk-0123456789abcdef"
FOLDER = f"outputs/hero/walk/{JOB}/2"
IMAGE = hashlib.sha256(b"image").hexdigest()
ASKED = Asked(attempts={"hero/walk": 1}, retries={"hero/walk": 1})
NOTHING = Asked()


def fault(name: str) -> JobFault:
    """A fault by its name."""
    return next(found for found in JOB_FAULTS if found.name == name)


def scenario(*faults: JobFault, **job: Any) -> Scenario:
    """One job, which the provider fails once unless other faults are given."""
    planned = PlannedJob("hero", "walk", "<job 0>", faults=faults or (fault("failed"),), **job)
    return Scenario(seed=1, jobs=(planned,), uploads=(), kills=(), refusals=())


def notification(attempt: int, error: str | None = None, **more: Any) -> dict[str, Any]:
    """The notification of a success, or of a failure with this error type."""
    status = "FAILED" if error else "SUCCEEDED"
    found = {"type": error, "message": "no"} if error else None
    return {"job_id": JOB, "attempt": attempt, "status": status, "error": found, "outputs": [], **more}


def request(attempt: int, status: str = "ACCEPTED", charged_usd: float = COST_USD, **more: Any) -> dict[str, Any]:
    """A request in a record's list."""
    return {"attempt": attempt, "status": status, "charged_usd": charged_usd, **more}


REQUESTS = [request(1, request_id="a"), request(2, request_id="b")]
SUCCESS = notification(2, outputs=[{"key": f"{FOLDER}/1.png", "sha256": IMAGE}])


def sound() -> Evidence:
    """The first attempt failed at the provider, the second one succeeded."""
    place = {"character": "hero", "pose": "walk", "job_id": JOB, "parameters": {"samples": 1}}
    return Evidence(
        records=[
            {
                **{**place, "status": "SUCCEEDED", "attempt": 2, "notified_at": "2026-11-23T10:15:30Z"},
                **{"request_id": "b", "requests": REQUESTS},
            }
        ],
        executions=[(f"{JOB}-1", "FAILED"), (f"{JOB}-2", "SUCCEEDED")],
        late_tasks={},
        accepted=[Accepted("a", f"{JOB}-1", "x"), Accepted("b", f"{JOB}-2", "x")],
        accepted_in_all=2,
        notifications=[notification(1, "InferenceFailed"), SUCCESS],
        stored={f"{FOLDER}/1.png": Stored(IMAGE), f"{FOLDER}/result.json": Stored("", result=SUCCESS)},
        left={"UploadQueue": []},
        dead_letters=[],
        budgets={"budget/2026-11": {"spent": 2 * COST_USD, "day_23": 2 * COST_USD}},
        aws_struck=Counter(),
        struck=[1],
        calls=[],
        key_leaks=0,
        deaths=Counter(),
        resumed={},
        errors=Counter(),
    )


def charged(found: Evidence, *requests: dict[str, Any]) -> Evidence:
    """The same with these requests in its record, which the budget was charged for."""
    usd = sum(request["charged_usd"] for request in requests)
    budgets = {"budget/2026-11": {"spent": usd, "day_23": usd}}
    return replace(found, records=[{**found.records[0], "requests": list(requests)}], budgets=budgets)


def test_a_correct_run_passes() -> None:
    assert check(scenario(), sound(), ASKED).violations == []


BROKEN: dict[str, Change] = {
    "the provider accepted 2 requests of attempt 2": lambda found: replace(
        found, accepted=[*found.accepted, Accepted("c", f"{JOB}-2", "x")], accepted_in_all=3
    ),
    "paid although attempt 1 was paid, and ended as nothing": lambda found: replace(
        found, notifications=[notification(2, "InferenceFailed")]
    ),
    "a request of no attempt": lambda found: replace(found, accepted=[*found.accepted, Accepted("c", "", "x")]),
    "a request of no attempt: 'hero-walk-0123456789abcdef', attempt 3": lambda found: replace(
        found, accepted=[*found.accepted, Accepted("c", f"{JOB}-3", "x")]
    ),
    "3 were accepted": lambda found: replace(found, accepted_in_all=3),
    "one record expected, not 0": lambda found: replace(found, records=[]),
    "one record expected, not 2": lambda found: replace(found, records=found.records * 2),
    "no upload makes": lambda found: replace(found, records=[*found.records, {**found.records[0], "pose": "run"}]),
    "ended as SUBMITTED": lambda found: replace(found, records=[{**found.records[0], "status": "SUBMITTED"}]),
    "is at attempt 3, but the last notified one is 2": lambda found: replace(
        found, records=[{**found.records[0], "attempt": 3}]
    ),
    "1 attempts were notified, 2 to 2 were asked for": lambda found: replace(
        found, notifications=found.notifications[1:]
    ),
    "is not marked as notified": lambda found: replace(found, records=[{**found.records[0], "notified_at": None}]),
    "its notifications differ": lambda found: replace(
        found, notifications=[*found.notifications, notification(2, "TimedOut")]
    ),
    "3 attempts were notified": lambda found: replace(
        found, notifications=[*found.notifications, notification(3, "TimedOut")]
    ),
    "a notification of no job: other-1": lambda found: replace(
        found, notifications=[*found.notifications, {**SUCCESS, "job_id": "other", "attempt": 1}]
    ),
    "0 executions": lambda found: replace(found, executions=found.executions[:1]),
    "2 executions": lambda found: replace(found, executions=[*found.executions, found.executions[1]]),
    "an execution that was not notified": lambda found: replace(found, executions=[*found.executions, ("x", "FAILED")]),
    "the execution ended as FAILED": lambda found: replace(
        found, executions=[found.executions[0], (f"{JOB}-2", "FAILED")]
    ),
    "without a result.json": lambda found: replace(found, stored={f"{FOLDER}/1.png": Stored(IMAGE)}),
    "or the bytes differ": lambda found: replace(found, stored={**found.stored, f"{FOLDER}/1.png": Stored("other")}),
    "not a complete image": lambda found: replace(
        found, stored={**found.stored, f"{FOLDER}/1.png": Stored(IMAGE, fault="cut")}
    ),
    "left in UploadQueue": lambda found: replace(found, left={"UploadQueue": ["{}"]}),
    "the API key was sent to other hosts": lambda found: replace(found, key_leaks=1),
    "struck by nothing": lambda found: replace(found, struck=[0]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_named(what: str) -> None:
    violations = check(scenario(), BROKEN[what](sound()), ASKED).violations
    assert any(what in violation for violation in violations), violations


def test_a_fault_that_changes_nothing_is_named() -> None:
    violations = check(
        scenario(fault("failed"), fault("never ends")), replace(sound(), struck=[1, 1]), ASKED
    ).violations
    assert violations == [f"hero/walk ({JOB}): struck by never ends, but ended as ['InferenceFailed']"]


def test_a_killed_function_explains_one_unknown_outcome() -> None:
    notifications = [notification(1, "SubmitOutcomeUnknown"), SUCCESS]
    second = [Accepted("b", f"{JOB}-2", "x")]
    found = replace(sound(), notifications=notifications, struck=[0], accepted=second, accepted_in_all=1)
    found = charged(found, request(1, "ABSENT", 0), REQUESTS[1])
    assert check(scenario(), replace(found, deaths=Counter(submit=1)), ASKED).violations == []
    assert check(scenario(), found, ASKED).violations


def ended_first(error: str | None) -> Evidence:
    """The first attempt was accepted and notified with this end; a second one was paid for."""
    return replace(sound(), notifications=[notification(1, error), SUCCESS], struck=[1])


def test_an_unknown_outcome_that_the_history_knew_is_named() -> None:
    lost = scenario(fault("submit reset, accepted"))
    violations = check(lost, ended_first("SubmitOutcomeUnknown"), ASKED).violations
    assert any("the provider's history has it" in violation for violation in violations)
    found = ended_first("SubmitOutcomeUnknown")
    asked_in_vain = charged(found, request(1, "UNRESOLVED"), REQUESTS[1])
    findings = check(lost, asked_in_vain, ASKED)
    assert findings.violations == []
    assert any("could not say" in line for line in findings.explained)


@pytest.mark.parametrize("name", ["output-missing", "media truncated", "never ends"])
def test_what_is_paid_again_without_need_is_named(name: str) -> None:
    struck = fault(name)
    (error,) = struck.explains
    violations = check(scenario(struck), ended_first(error), ASKED).violations
    assert violations == [f"hero/walk ({JOB}): {JOB}-2: paid although attempt 1 was paid, and ended as {error}"]


def test_an_attempt_number_that_was_never_accepted_may_be_skipped() -> None:
    """A claim that a 429 gave back has used its number."""
    folder = FOLDER.replace("/2", "/4")
    later = {**SUCCESS, "attempt": 4, "outputs": [{"key": f"{folder}/1.png", "sha256": IMAGE}]}
    found = replace(
        sound(),
        records=[{**sound().records[0], "attempt": 4, "requests": [REQUESTS[0], {**REQUESTS[1], "attempt": 4}]}],
        executions=[(f"{JOB}-1", "FAILED"), (f"{JOB}-4", "SUCCEEDED")],
        accepted=[Accepted("a", f"{JOB}-1", "x"), Accepted("b", f"{JOB}-4", "x")],
        notifications=[notification(1, "InferenceFailed"), later],
        stored={f"{folder}/1.png": Stored(IMAGE), f"{folder}/result.json": Stored("", result=later)},
    )
    assert check(scenario(), found, ASKED).violations == []


def test_a_retry_that_is_sent_twice_may_make_one_attempt_more() -> None:
    twice = Asked(attempts={"hero/walk": 0}, retries={"hero/walk": 1})
    assert check(scenario(), sound(), twice).violations == []
    assert check(scenario(), sound(), NOTHING).violations == [
        f"hero/walk ({JOB}): 2 attempts were notified, 1 to 1 were asked for"
    ]


def test_a_job_whose_record_expired_may_be_paid_again() -> None:
    done_twice = replace(
        sound(), notifications=[notification(1), SUCCESS], executions=[(f"{JOB}-{n}", "SUCCEEDED") for n in (1, 2)]
    )
    done_twice = replace(done_twice, struck=[0])
    expired = {**sound().records[0], "attempt": 1, "request_id": "a", "requests": REQUESTS[:1]}
    again = replace(done_twice, records=[{**sound().records[0], "requests": REQUESTS[1:]}])
    forgotten = replace(ASKED, forgotten={"hero/walk": expired})
    assert check(scenario(), again, forgotten).violations == []
    violations = check(scenario(), done_twice, ASKED).violations
    assert violations == [
        f"hero/walk ({JOB}): attempt 1 was notified as SUCCEEDED, and another one was made",
        f"hero/walk ({JOB}): {JOB}-2: paid although attempt 1 was paid, and ended as SUCCEEDED",
    ]


@pytest.mark.parametrize(("known", "agrees"), [({"code": "IMAGE"}, True), ({"message": "yes"}, False)])
def test_the_ledger_says_what_was_notified_and_may_keep_a_code_besides(known: dict[str, str], agrees: bool) -> None:
    failed = refused(1)
    record = {**failed.records[0], "error": {**failed.records[0]["error"], **known}}
    violations = check(scenario(), replace(failed, records=[record]), NOTHING).violations
    assert any("the ledger has" in violation for violation in violations) is not agrees


def refused(times: int, error: str = "Rejected") -> Evidence:
    """A job that was never accepted, and that ended after so many submits."""
    record = {**sound().records[0], "status": "FAILED", "attempt": 1, "error": {"type": error, "message": "no"}}
    return replace(
        charged(sound()),
        records=[{**record, "requests": []}],
        executions=[(f"{JOB}-1", "FAILED")],
        accepted=[],
        accepted_in_all=0,
        notifications=[notification(1, error)],
        stored={},
        struck=[times],
    )


def test_a_job_that_is_always_refused_ends_as_rejected_and_soon() -> None:
    assert check(scenario(ALWAYS_REFUSED), refused(3), NOTHING).violations == []
    for found, what in ((refused(9), "sent 9 times, at most 8"), (refused(3, "TimedOut"), "ended as TimedOut")):
        assert any(what in line for line in check(scenario(ALWAYS_REFUSED), found, NOTHING).violations), what


def waiting(**changes: Any) -> Evidence:
    """A job that waits for its next submit."""
    place: dict[str, Any] = {"stands": "due", "place": "2026-11-23T10:16:30Z", "notified_at": None, "requests": []}
    record = {**sound().records[0], "status": "QUEUED", "attempt": 1, "reason": "the provider answered 500"} | place
    return replace(
        refused(2),
        records=[{**record, **changes}],
        executions=[],
        notifications=[],
        left={"UploadQueue": [f'{{"submit": "{JOB}"}}']},
    )


def test_a_job_that_always_gets_500_waits_with_a_reason_or_ends() -> None:
    cursed = scenario(ALWAYS_500)
    assert check(cursed, waiting(), NOTHING).violations == []
    assert check(cursed, refused(8), NOTHING).violations == []
    accepted = replace(waiting(), accepted=[Accepted("a", f"{JOB}-1", "x")], accepted_in_all=1)
    for found, what in (
        (replace(waiting(), struck=[9]), "sent 9 times, at most 8"),
        (waiting(reason=None), "reason: None"),
        (accepted, "the provider accepted a job although it always answers 500"),
        (refused(8, "InternalError"), "ended as InternalError"),
    ):
        assert any(what in line for line in check(cursed, found, NOTHING).violations), what


# ---- places, budgets, dead letters -----------------------------------------------------------------------------------


def standing(status: str, **changes: Any) -> list[str]:
    """The violations of a job of a status that stands somewhere."""
    record = {**sound().records[0], "status": status, **changes}
    return check(scenario(), replace(sound(), records=[record]), ASKED).violations


@pytest.mark.parametrize(
    ("status", "changes", "what"),
    [
        ("SUCCEEDED", {"stands": "due", "place": "2026"}, "its place in line is due, 2026"),
        ("SUCCEEDED", {"place": "2026"}, "its place in line is None, 2026"),
        ("FAILED", {"send_at": 1}, "to be sent at 1"),
        ("SUCCEEDED", {"unfinished": "paid"}, "SUCCEEDED, notified, but unfinished: paid"),
        ("SUCCEEDED", {"unfinished": "rescue"}, "SUCCEEDED, notified, but unfinished: rescue"),
        ("QUEUED", {"stands": "in line"}, "its place in line is in line, None"),
        ("QUEUED", {"stands": "due", "place": "2026", "unfinished": "paid", "notified_at": None}, "unfinished: paid"),
        ("SUBMITTING", {"notified_at": None}, "not among the paid ones: None"),
    ],
)
def test_a_place_that_a_job_does_not_have_is_named(status: str, changes: dict[str, Any], what: str) -> None:
    assert any(what in line for line in standing(status, **changes)), standing(status, **changes)


@pytest.mark.parametrize(("lost", "sound_sum"), [(0, False), (1, True)])
@pytest.mark.parametrize("usd", [COST_USD, 3 * COST_USD])
def test_a_lost_reply_about_the_budget_may_count_a_write_twice(usd: float, lost: int, *, sound_sum: bool) -> None:
    struck = Counter({BUDGET_REPLIES: lost, "lost_replies": 9})
    found = replace(sound(), budgets={"budget/2026-11": {"spent": usd, "day_23": usd}}, aws_struck=struck)
    assert (check(scenario(), found, ASKED).violations == []) is sound_sum


def test_each_run_of_dispatch_that_was_killed_leaves_one_message_at_most() -> None:
    body = '{"requestContext": {"functionArn": "arn:aws:lambda:us-east-1:000000000000:function:posedrop-%s-E74047"}}'
    for deaths, function, violations in (
        (2, "DispatchFunction", 0),
        (1, "DispatchFunction", 1),
        (2, "DeliverFunction", 2),
    ):
        left = {"EventDeadLetterQueue": [body % function] * 2}
        found = check(scenario(), replace(sound(), left=left, deaths=Counter(dispatch=deaths)), ASKED)
        assert len(found.violations) == violations
        assert len(found.explained) == 2 - violations


@pytest.mark.parametrize(
    ("usd", "deaths", "sound_sum"),
    [
        (2 * COST_USD, {}, True),
        (3 * COST_USD, {}, False),
        (3 * COST_USD, {"submit": 1}, True),  # it died before its request, or before it gave the charge back
        (3 * COST_USD, {"deliver": 5}, False),
        (COST_USD, {"submit": 5}, False),  # too little is never theirs
        (2 * COST_USD - 0.02, {"deliver": 1}, True),  # a charge that was not replaced by the cost
        (2 * COST_USD - 0.02, {}, False),
    ],
)
def test_the_budget_holds_what_the_ledger_says_but_for_deaths(
    usd: float, deaths: dict[str, int], *, sound_sum: bool
) -> None:
    found = replace(sound(), budgets={"budget/2026-11": {"spent": usd, "day_23": usd}}, deaths=Counter(deaths))
    violations = check(scenario(), found, ASKED).violations
    assert (violations == []) is sound_sum
    assert sound_sum or "differs from the ledger" in violations[0]


def test_what_was_delivered_counts_with_its_cost() -> None:
    delivered = {**REQUESTS[1], "charged_usd": 0.0294, "cost_usd": COST_USD}
    found = charged(sound(), REQUESTS[0], delivered)
    found = replace(found, budgets={"budget/2026-11": {"spent": COST_USD + 0.0294, "day_23": COST_USD + 0.0294}})
    assert any("differs from the ledger" in line for line in check(scenario(), found, ASKED).violations)
    settled = replace(found, budgets=sound().budgets)
    assert check(scenario(), settled, ASKED).violations == []


RESCUED = {
    **notification(3, outputs=SUCCESS["outputs"]),
    "metrics": {"rescued": True, "cost_usd": 0},
}


def rescued(**changes: Any) -> Evidence:
    """The second attempt failed, and its image was fetched later, as a third one."""
    folder = f"{FOLDER[:-1]}3"
    outputs = [{"key": f"{folder}/1.png", "sha256": IMAGE}]
    late = {**RESCUED, "outputs": outputs, **changes}
    record = {**sound().records[0], "attempt": 3}
    return replace(
        sound(),
        records=[record],
        executions=[(f"{JOB}-1", "FAILED"), (f"{JOB}-2", "FAILED")],
        notifications=[notification(1, "InferenceFailed"), notification(2, "ResultExpired"), late],
        stored={f"{folder}/1.png": Stored(IMAGE), f"{folder}/result.json": Stored("", result=late)},
        struck=[1, 1],
    )


def test_a_rescue_is_an_attempt_that_nobody_asked_for_and_needs_no_execution() -> None:
    both = scenario(fault("failed"), fault("expired"))
    assert check(both, rescued(), ASKED).violations == []
    unasked = check(both, rescued(metrics={"rescued": False, "cost_usd": 0}), ASKED).violations
    assert any("3 attempts were notified" in line for line in unasked)
    assert any("-3: 0 executions" in line for line in unasked)


@pytest.mark.parametrize(
    ("requests", "what"),
    [
        (REQUESTS[1:], f"{JOB}-1: was accepted, but not charged"),
        ([*REQUESTS, request(2, "ABSENT")], f"{JOB}-2: is charged, but the history does not have it"),
        ([*REQUESTS, request(3)], f"{JOB}-3: is charged as accepted, but was not accepted"),
    ],
)
def test_a_charge_without_its_request_is_named(requests: list[dict[str, Any]], what: str) -> None:
    assert check(scenario(), charged(sound(), *requests), ASKED).violations == [what]


def test_a_day_that_is_not_in_its_month_is_named() -> None:
    found = replace(sound(), budgets={"budget/2026-11": {"spent": 0.1, "day_23": 0.05}})
    assert check(scenario(), found, ASKED).violations == [
        "budget/2026-11: its days add up to 0.0500 USD, but its month has 0.1000"
    ]


def test_only_unreadable_messages_are_dead_lettered() -> None:
    asked = replace(ASKED, unreadable={"uploads": "{}"})
    letter = DeadLetter("{}", "uploads", "none of: an upload event")
    assert check(scenario(), replace(sound(), dead_letters=[letter, letter]), asked).violations == []
    (missing,) = check(scenario(), sound(), asked).violations
    assert "not dead-lettered" in missing
    (other,) = check(scenario(), replace(sound(), dead_letters=[letter]), ASKED).violations
    assert "dead-lettered from uploads: {}, reason: none of" in other
    silent = replace(sound(), dead_letters=[replace(letter, reason="")])
    assert "not dead-lettered with its reason" in check(scenario(), silent, asked).violations[0]


@pytest.mark.parametrize(
    ("changes", "messages", "is_lost"),
    [
        ({}, [], True),
        ({}, [f'{{"submit": "{JOB}", "number": 1}}'], False),
        ({"send_at": rfc3339(1000 - LOST_SECONDS)}, [], False),
        ({"status": "SUBMITTING"}, [], False),
        ({"send_at": None}, [], False),
    ],
)
def test_a_dispatched_job_without_a_message_is_lost(
    changes: dict[str, Any], messages: list[str], *, is_lost: bool
) -> None:
    record = {"job_id": JOB, "status": "QUEUED", "place": "2026", "send_at": rfc3339(999 - LOST_SECONDS)} | changes
    record = {name: value for name, value in record.items() if value is not None}
    assert lost_jobs([record], ["other", *messages], 1000) == ([(JOB, "2026")] if is_lost else [])


# ---- scenarios -------------------------------------------------------------------------------------------------------


def test_the_seed_decides_the_scenario() -> None:
    drawn = draw_scenario(7, 200)
    assert drawn == draw_scenario(7, 200) != draw_scenario(8, 200)
    assert len(drawn.jobs) == 200
    assert len({job.character for job in drawn.jobs}) == 40
    Plan(drawn.plan)  # raises if the emulator cannot read it


@pytest.mark.parametrize("seed", range(1, 6))
def test_each_of_five_seeds_has_all_kinds(seed: int) -> None:
    drawn = draw_scenario(seed, 200)
    faults = [struck for _, struck in drawn.striking()]
    assert faults.count(ALWAYS_REFUSED) == 2
    assert faults.count(ALWAYS_500) == faults.count(ALONE_REFUSED) == 1
    waiting = {job.name for job in drawn.jobs if KEPT_WAITING in job.faults}
    expiring = {upload.key for upload in drawn.uploads if upload.expires}
    assert len(waiting) == len(expiring) > 0
    assert all(upload.again_at for upload in drawn.uploads if upload.expires)
    assert any(job.forgotten for job in drawn.jobs)
    assert any(job.retried_twice_over for job in drawn.jobs)
    hidden = [struck for struck in faults if struck.name.endswith(", accepted") and struck.name[:10] == "submit 500"]
    assert hidden
    assert not any(job.retries for job in drawn.jobs if job.forgotten or job.endless)


def test_small_scenarios_can_be_drawn() -> None:
    for jobs in (5, 10, 12):
        drawn = draw_scenario(1, jobs)
        assert len(drawn.all_jobs) == jobs + 1
        Plan(drawn.plan)
