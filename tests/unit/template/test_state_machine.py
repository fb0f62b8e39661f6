"""The wait loop: its definition, and its runs by a small interpreter of what it uses of Amazon States Language.

JitterStrategy is left out of the interpreter: a wait is counted at its full length.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from jsonata import Jsonata

from tests.support import ROOT, load_event

MACHINE = json.loads((ROOT / "statemachine" / "job.asl.json").read_text(encoding="utf-8"))
STATES: dict[str, dict[str, Any]] = MACHINE["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
LAMBDA_FAULTS = (
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
)
Function = Callable[[dict[str, Any]], dict[str, Any]]


class TaskFault(Exception):
    """A task that failed, as Step Functions reports it."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.output = {"Error": error, "Cause": cause}


@dataclass
class Run:
    """One execution: where it went, what it waited, how it ended."""

    functions: dict[str, Function]
    path: list[str] = field(default_factory=list)
    waited: float = 0.0
    error: str | None = None
    cause: str | None = None
    largest: int = 0

    def start(self, state_input: dict[str, Any]) -> "Run":
        name, data = MACHINE["StartAt"], state_input
        while True:
            self.path.append(name)
            self.largest = max(self.largest, len(json.dumps(data)))
            state = STATES[name]
            if state["Type"] == "Succeed":
                return self
            if state["Type"] == "Fail":
                self.error, self.cause = evaluate(state["Error"], data), evaluate(state["Cause"], data)
                return self
            if state["Type"] == "Wait":
                seconds = evaluate(state["Seconds"], data)
                assert isinstance(seconds, int)
                self.waited += seconds
                name = state["Next"]
            elif state["Type"] == "Choice":
                met = [choice["Next"] for choice in state["Choices"] if evaluate(choice["Condition"], data) is True]
                name = [*met, state["Default"]][0]
            else:
                name, data = self._task(state, data)

    def _task(self, state: dict[str, Any], data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        tries = [0] * len(state["Retry"])
        while True:
            try:
                return state["Next"], self.functions[state["Resource"]](json.loads(json.dumps(data)))
            except TaskFault as fault:
                index = next(i for i, retry in enumerate(state["Retry"]) if covers(retry, fault))
                retry = state["Retry"][index]
                if tries[index] < retry["MaxAttempts"]:
                    self.waited += wait(retry, tries[index])
                    tries[index] += 1
                elif "Catch" in state:
                    (catch,) = state["Catch"]
                    return catch["Next"], evaluate(catch["Output"], data, fault.output)
                else:
                    raise


def covers(rule: dict[str, Any], fault: TaskFault) -> bool:
    return bool({fault.output["Error"], "States.ALL"} & set(rule["ErrorEquals"]))


def wait(retry: dict[str, Any], tried: int) -> float:
    return float(min(retry["IntervalSeconds"] * retry["BackoffRate"] ** tried, retry.get("MaxDelaySeconds", 1e9)))


def evaluate(text: str, state_input: Any, error_output: Any = None) -> Any:
    expression = re.fullmatch(r"\{%(.*)%\}", text, re.DOTALL)
    if expression is None:
        return text
    compiled = Jsonata(expression[1])
    compiled.assign("states", {"input": state_input, "errorOutput": error_output})
    return compiled.evaluate(None)


def run(state_input: dict[str, Any], *, poll: Function | None = None, deliver: Function | None = None) -> Run:
    def never(event: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("this function is not to be called")

    return Run({"${PollFunctionArn}": poll or never, "${DeliverFunctionArn}": deliver or never}).start(state_input)


def fail(error: str, cause: str = "") -> Function:
    def function(event: dict[str, Any]) -> dict[str, Any]:
        raise TaskFault(error, cause)

    return function


def succeed(event: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": event["job_id"], "attempt": 1, "status": "SUCCEEDED", "error": None, "outputs": ["s3://o/1.png"]}


def notify(event: dict[str, Any]) -> dict[str, Any]:
    error = event.get("error") or {"type": "OutputInvalid", "message": "gone"}
    return {"job_id": event["job_id"], "attempt": 1, "status": "FAILED", "error": error, "outputs": []}


def done(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "polls": event["polls"] + 1, "finished": True, "error": None}


# ---- the definition ------------------------------------------------------------------------------------------------


def test_the_states_of_the_drawing_are_there() -> None:
    assert {"Wait", "CheckStatus", "Finished?", "Deliver", "Succeeded", "Failed"} <= set(STATES)
    assert MACHINE["QueryLanguage"] == "JSONata"
    assert STATES["Failed"]["Type"] == "Fail"
    assert STATES["Succeeded"]["Type"] == "Succeed"


def test_every_state_is_reached_and_every_next_exists() -> None:
    targets = set(re.findall(r'"(?:Next|Default|StartAt)": "([^"]+)"', json.dumps(MACHINE)))
    assert targets == set(STATES)


def test_only_succeeded_ends_green() -> None:
    assert [name for name, state in STATES.items() if state.get("End") or state["Type"] == "Succeed"] == ["Succeeded"]


def test_the_machine_is_bounded_and_outlasts_the_longest_job() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    longest = int(re.search(r"JobTimeoutSeconds:.*?MaxValue: (\d+)", template, re.DOTALL)[1])  # type: ignore[index]
    retries = sum(wait(STATES["Deliver"]["Retry"][1], n) for n in range(STATES["Deliver"]["Retry"][1]["MaxAttempts"]))
    assert longest + retries < MACHINE["TimeoutSeconds"] <= 86400


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_timeout_and_retries(name: str) -> None:
    task = TASKS[name]
    assert 0 < task["TimeoutSeconds"] <= 900
    last = task["Retry"][-1]
    assert last["ErrorEquals"] == ["States.ALL"]  # Step Functions: alone, and last
    for retry in task["Retry"]:
        assert retry["MaxDelaySeconds"] > retry["IntervalSeconds"] >= 1
        assert retry["BackoffRate"] >= 1
        assert 1 <= retry["MaxAttempts"] <= 99999999


@pytest.mark.parametrize("name", ["CheckStatus", "Deliver"])
@pytest.mark.parametrize("fault", LAMBDA_FAULTS)
def test_lambdas_own_faults_are_retried_on_their_own_account(name: str, fault: str) -> None:
    first = TASKS[name]["Retry"][0]
    assert fault in first["ErrorEquals"]
    assert first["JitterStrategy"] == "FULL"
    assert sum(wait(first, n) for n in range(first["MaxAttempts"])) > 120


def test_a_function_ends_before_its_task() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    for function, task in (("Poll", "CheckStatus"), ("Deliver", "Deliver"), ("Deliver", "DeliverFault")):
        timeout = int(re.search(rf"{function}Function:.*?Timeout: (\d+)", template, re.DOTALL)[1])  # type: ignore[index]
        assert timeout < TASKS[task]["TimeoutSeconds"]


# ---- its runs ------------------------------------------------------------------------------------------------------


def test_the_loop_asks_until_it_is_finished() -> None:
    answers = iter([2, 3, 5])

    def poll(event: dict[str, Any]) -> dict[str, Any]:
        seconds = next(answers, None)
        return done(event) if seconds is None else {**event, "polls": event["polls"] + 1, "wait_seconds": seconds}

    found = run(load_event("poll.json"), poll=poll, deliver=succeed)
    assert found.path == [
        *["Finished?", "Wait", "CheckStatus"] * 4,
        *["Finished?", "Deliver", "Outcome", "Succeeded"],
    ]
    assert found.waited == load_event("poll.json")["wait_seconds"] + 10


def test_the_state_does_not_grow() -> None:
    rounds = 0

    def poll(event: dict[str, Any]) -> dict[str, Any]:
        nonlocal rounds
        rounds += 1
        return done(event) if rounds == 500 else {**event, "polls": event["polls"] + 1}

    assert run(load_event("poll.json"), poll=poll, deliver=succeed).largest < 1000


def test_a_job_that_ended_before_goes_straight_to_deliver() -> None:
    found = run(load_event("deliver-ended-before.json"), deliver=notify)
    assert found.path == ["Finished?", "Deliver", "Outcome", "Failed"]


def test_a_failed_job_ends_red_with_its_reason() -> None:
    found = run(load_event("deliver-failed.json"), deliver=notify)
    assert found.path[-1] == "Failed"
    assert (found.error, found.cause) == ("InferenceFailed", "Content was blocked by the safety checker.")


def test_deliver_is_retried_for_about_ten_minutes_and_then_says_that_it_failed() -> None:
    events: list[dict[str, Any]] = []

    def deliver(event: dict[str, Any]) -> dict[str, Any]:
        events.append(event)
        if "deliver_fault" in event:
            return notify(event)
        raise TaskFault("DeliveryFailed", load_event("deliver-given-up.json")["deliver_fault"]["cause"])

    found = run(load_event("deliver.json"), deliver=deliver)
    assert found.path == ["Finished?", "Deliver", "DeliverFault", "Outcome", "Failed"]
    assert 9 * 60 <= found.waited <= 12 * 60
    assert events[-1] == load_event("deliver-given-up.json")


def test_a_deliver_that_recovers_is_a_success() -> None:
    left = [TaskFault("DeliveryFailed")] * 5

    def deliver(event: dict[str, Any]) -> dict[str, Any]:
        if left:
            raise left.pop()
        return succeed(event)

    assert run(load_event("deliver.json"), deliver=deliver).path[-1] == "Succeeded"


def test_a_delivery_that_is_asked_to_wait_waits_and_is_tried_again() -> None:
    answers: list[dict[str, Any]] = [{"status": "DEFERRED", "wait_seconds": 40, "finished": False, "completed": True}]

    def poll(event: dict[str, Any]) -> dict[str, Any]:
        assert event["completed"]
        return {**event, "finished": True}

    def deliver(event: dict[str, Any]) -> dict[str, Any]:
        return {**event, **answers.pop()} if answers else succeed(event)

    found = run(load_event("deliver.json"), poll=poll, deliver=deliver)
    assert found.path == ["Finished?", "Deliver", "Outcome", "Wait", "CheckStatus", *found.path[:3], "Succeeded"]
    assert found.waited == 40


@pytest.mark.parametrize("error", ["Sandbox.Timedout", "Runtime.ExitError", "States.Timeout", *LAMBDA_FAULTS])
def test_a_poll_that_keeps_failing_hands_over_to_deliver(error: str) -> None:
    events: list[dict[str, Any]] = []

    def deliver(event: dict[str, Any]) -> dict[str, Any]:
        events.append(event)
        return succeed(event)

    found = run(load_event("poll.json"), poll=fail(error, "x" * 30000), deliver=deliver)
    assert found.path == ["Finished?", "Wait", "CheckStatus", "Deliver", "Outcome", "Succeeded"]
    (event,) = events
    assert event["poll_fault"] == {"error": error, "cause": "x" * 500}
    assert event["finished"] is True


def test_a_fault_without_a_cause_is_reported_too() -> None:
    def no_cause(event: dict[str, Any]) -> dict[str, Any]:
        fault = TaskFault("States.Timeout")
        del fault.output["Cause"]
        raise fault

    events: list[dict[str, Any]] = []
    run(load_event("poll.json"), poll=no_cause, deliver=lambda event: events.append(event) or succeed(event))
    assert events[0]["poll_fault"] == {"error": "States.Timeout"}


def test_a_deliver_that_cannot_even_say_fails_the_execution() -> None:
    with pytest.raises(TaskFault):
        run(load_event("deliver.json"), deliver=fail("Runtime.ExitError", "x" * 30000))
