"""A function's process really ends, is run again by its service, and then it is counted what came of it.

One or two points of each kind: tests/property/test_every_call.py goes through all calls of intake, dispatch and submit.
"""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from posedrop.aws.places import LOST_AFTER
from tests.crash.conftest import FOLDER, Crash, World
from tests.support import image, schema

NEVER: Crash | None = None
LEDGER = "posedrop.aws.ledger:Ledger"
START = "posedrop.aws.executions:Executions.start"
START_ENDED = "posedrop.aws.executions:Executions.start_ended"
PUBLISH = "posedrop.aws.channels:publish"
STORE = "posedrop.aws.output_bucket:OutputBucket"

RESERVE = "posedrop.gate.gate:Gate.reserve"
SEND = "posedrop.aws.submit_queue:SubmitQueue.send"
PERMIT = "posedrop.gate.gate:Gate.permit"
MOVE = "posedrop.line.line:Line.dispatch"
CLOSE = "posedrop.submit.outcomes:Outcomes._close_breaker"

INTAKE: dict[str, Crash | None] = {
    "before the record": ("intake", "before", f"{LEDGER}.queue", 1),
    "message sent": ("intake", "after", SEND, 1),
}
SUBMIT: dict[str, Crash | None] = {
    "permit reserved": ("submit", "after", PERMIT, 1),
    "before the claim": ("submit", "before", f"{LEDGER}.claim", 1),
    "sent": ("submit", "at", "http11.receive_response_headers.complete", 1),
    "request id written": ("submit", "after", f"{LEDGER}.submitted", 1),
    "execution started": ("submit", "after", START, 1),
}
LOOP: dict[str, Crash | None] = {
    "after the poll": ("poll", "after", "posedrop.segmind.client:Segmind.status", 1),
}
DELIVER: dict[str, Crash | None] = {
    "before the result": ("deliver", "before", "posedrop.segmind.client:Segmind.result", 1),
    "first of four stored": ("deliver", "after", f"{STORE}.store_image", 1),
    "before the last image": ("deliver", "before", f"{STORE}.store_image", 4),
    "budget settled": ("deliver", "after", "posedrop.gate.budget:BudgetStore.settle", 1),
    "images stored": ("deliver", "before", f"{LEDGER}.succeed", 1),
    "end written": ("deliver", "after", f"{LEDGER}.succeed", 1),
    "before result.json": ("deliver", "before", f"{STORE}.store_result", 1),
    "result.json stored": ("deliver", "after", f"{STORE}.store_result", 1),
    "before the notification": ("deliver", "before", PUBLISH, 1),
    "published": ("deliver", "after", PUBLISH, 1),
    "notification recorded": ("deliver", "after", f"{LEDGER}.notified", 1),
}


def points(crashes: dict[str, Crash | None]) -> Any:
    return pytest.mark.parametrize("crash", [pytest.param(crash, id=name) for name, crash in crashes.items()])


def drive(world: World, crash: Crash | None) -> None:
    """Go on until all is done, with a crash on the way, and then have an event and the dispatched jobs once more."""
    before = world.crashes
    world.crash = crash
    world.work()
    assert world.crashes - before == (0 if crash is None else 1)
    world.send_event("poses/walk.png")
    world.send_again()
    world.work()
    assert world.depth() == {"UPLOAD_QUEUE_URL": 0, "SUBMIT_QUEUE_URL": 0, "DEAD_LETTER_QUEUE_URL": 0}


def job_id(world: World) -> str:
    (record,) = world.records()
    assert record["notified_at"]
    return str(record["job_id"]["S"])


def attempts(world: World) -> dict[int, dict[str, Any]]:
    """The notification of each attempt: there is one at least, all are the same, and they keep to the schema."""
    notified: dict[int, dict[str, Any]] = {}
    for message in world.notifications():
        Draft7Validator(schema("notification")).validate(message)
        assert notified.setdefault(message["attempt"], message) == message
    return notified


def check_success(world: World, notified: dict[str, Any]) -> None:
    """One complete set of outputs, as the notification says."""
    folder = f"outputs/hero/walk/{notified['job_id']}/{notified['attempt']}"
    assert notified["status"] == "SUCCEEDED"
    assert [output["key"] for output in notified["outputs"]] == [f"{folder}/{number}.png" for number in (1, 2, 3, 4)]
    stored = world.outputs()
    assert {key for key in stored if key.startswith(f"{folder}/")} == {
        *(output["key"] for output in notified["outputs"]),
        f"{folder}/result.json",
    }
    digests = world.digests()
    assert all(digests[output["key"]] == output["sha256"] for output in notified["outputs"])
    assert json.loads(stored[f"{folder}/result.json"]) == notified


def check_paid_once(world: World) -> None:
    """One job, paid once, with one execution and one complete set of outputs."""
    assert len(world.accepted()) == 1
    assert list(world.executions()) == [f"{job_id(world)}-1"]
    notified = attempts(world)
    assert list(notified) == [1]
    check_success(world, notified[1])
    assert len(world.outputs()) == 5


@points({"no crash": NEVER, **INTAKE, **SUBMIT, **LOOP, **DELIVER})
def test_a_job_is_paid_once_and_delivered(world: World, crash: Crash | None) -> None:
    world.upload()
    drive(world, crash)
    check_paid_once(world)


IN_LINE: dict[str, Crash | None] = {
    "recorded in line": ("intake", "after", f"{LEDGER}.queue", 1),
    "time reserved": ("dispatch", "after", RESERVE, 1),
    "moved": ("dispatch", "after", MOVE, 1),
    "message sent": ("dispatch", "after", SEND, 1),
}


@points({"no crash": NEVER, **IN_LINE})
def test_a_job_that_stands_in_line_is_paid_once(world: World, crash: Crash | None) -> None:
    world.reserve(120)
    world.upload()
    drive(world, crash)
    check_paid_once(world)


BACK_IN_LINE: dict[str, Crash | None] = {
    "put in line": ("dispatch", "after", "posedrop.line.line:Line.put_in_line", 1),
}


@points({"no crash": NEVER, **BACK_IN_LINE})
def test_a_job_whose_message_is_lost_is_put_back_in_line(world: World, crash: Crash | None) -> None:
    world.upload()
    world.crash = ("intake", "before", SEND, 1)
    while world.handle_message("UPLOAD_QUEUE_URL"):
        pass
    assert world.crashes == 1
    (record,) = world.records()
    assert (record["status"], record["stands"]) == ({"S": "QUEUED"}, {"S": "due"})
    world.offset += LOST_AFTER
    world.reserve(240)  # so there is no time for it yet when it is due
    drive(world, crash)
    check_paid_once(world)


CLOSED: dict[str, Crash | None] = {
    "put back": ("submit", "after", f"{LEDGER}.put_back", 1),
}


@points({"no crash": NEVER, **CLOSED})
def test_a_job_that_meets_a_closed_gate_is_put_back(world: World, crash: Crash | None) -> None:
    world.upload()
    while world.handle_message("UPLOAD_QUEUE_URL"):
        pass
    world.pause(900)
    drive(world, crash)
    (record,) = world.records()
    assert int(record["dispatch_number"]["N"]) > 1
    check_paid_once(world)


KEY_REFUSED: dict[str, Crash | None] = {
    "given back": ("submit", "after", f"{LEDGER}.release", 1),
}
PROBE: dict[str, Crash | None] = {
    "probe reserved": ("dispatch", "after", RESERVE, 1),
    "before the breaker is closed": ("submit", "before", CLOSE, 1),
}


@points(KEY_REFUSED)
def test_a_job_whose_key_was_refused_is_sent_again(world: World, crash: Crash) -> None:
    world.emulator.faults([{"fault": "401", "on": "submit", "times": 1}])
    world.upload()
    drive(world, crash)
    check_paid_once(world)


@points({"no crash": NEVER, **PROBE})
def test_the_probe_is_paid_once(world: World, crash: Crash | None) -> None:
    world.emulator.faults([{"fault": "401", "on": "submit", "times": 1}])
    world.upload()
    while world.handle_message():
        pass
    (record,) = world.records()
    assert (record["status"], record["reason_code"]) == ({"S": "QUEUED"}, {"S": "PAUSED"})
    drive(world, crash)
    check_paid_once(world)


UNKNOWN: dict[str, tuple[Crash, str, int]] = {
    "claimed": (("submit", "after", f"{LEDGER}.claim", 1), "on", 0),
    "request not whole": (("submit", "at", "http11.send_request_headers.complete", 1), "on", 0),
    "claimed, no history": (("submit", "after", f"{LEDGER}.claim", 1), "off", 0),
    "sent, no history": (("submit", "at", "http11.receive_response_headers.complete", 1), "off", 1),
    "answered, no history": (("submit", "after", "posedrop.segmind.client:Segmind.submit", 1), "off", 1),
}


@pytest.mark.parametrize(
    ("crash", "history", "accepted"), [pytest.param(*values, id=name) for name, values in UNKNOWN.items()]
)
def test_what_stays_unknown_is_notified_and_never_sent_again(
    world: World, crash: Crash, history: str, accepted: int
) -> None:
    if history == "off":
        world.environment["SEGMIND_HISTORY_URL"] = ""
    world.upload()
    drive(world, crash)
    assert len(world.accepted()) == accepted
    assert list(world.executions()) == [f"{job_id(world)}-1"]
    notified = attempts(world)
    assert list(notified) == [1]
    assert notified[1]["error"]["type"] == "SubmitOutcomeUnknown"
    assert world.outputs() == {}


WHILE_UNKNOWN: dict[str, Crash | None] = {
    "unknown outcome written": ("submit", "after", f"{LEDGER}.mark_outcome_unknown", 1),
    "found": ("submit", "after", "posedrop.segmind.history:History.find", 1),
}


@points(WHILE_UNKNOWN)
def test_a_request_without_a_response_is_found(world: World, crash: Crash) -> None:
    world.emulator.faults([{"fault": "reset", "on": "submit", "accepted": True, "times": 1}])
    world.upload()
    drive(world, crash)
    assert len(world.accepted()) == 1
    assert list(world.executions()) == [f"{job_id(world)}-1"]
    notified = attempts(world)
    assert list(notified) == [1]
    check_success(world, notified[1])


NOT_ACCEPTED: dict[str, Crash | None] = {
    "given back": ("submit", "after", f"{LEDGER}.release", 1),
    "sent again": ("dispatch", "after", SEND, 1),
}


@points(NOT_ACCEPTED)
def test_a_request_that_was_not_accepted_is_sent_again(world: World, crash: Crash) -> None:
    world.emulator.faults([{"fault": "429", "on": "submit", "times": 1}])
    world.upload()
    drive(world, crash)
    assert len(world.accepted()) == 1
    notified = attempts(world)
    assert list(notified) == [1]
    check_success(world, notified[1])


SERVER_FAULT: dict[str, Crash | None] = {
    "put back": ("submit", "after", f"{LEDGER}.release_after_fault", 1),
    "history asked": ("submit", "after", "posedrop.segmind.history:History.find", 1),
}


@points({**SERVER_FAULT, "no crash": NEVER})
def test_a_request_behind_a_500_is_looked_up_and_sent_once_more(world: World, crash: Crash | None) -> None:
    world.emulator.faults([{"fault": "500", "on": "submit", "times": 1}])
    world.upload()
    drive(world, crash)
    assert len(world.accepted()) == 1
    notified = attempts(world)
    assert list(notified) == [1]
    check_success(world, notified[1])


HISTORY_FAULT: dict[str, Crash | None] = {
    "found absent": ("submit", "after", f"{LEDGER}.learned", 1),
}


@points({"no crash": NEVER, **HISTORY_FAULT})
def test_a_request_behind_a_500_waits_for_the_history(world: World, crash: Crash | None) -> None:
    world.emulator.faults([{"fault": "500", "on": "submit", "times": 1}, {"fault": "503", "on": "history", "times": 1}])
    world.upload()
    drive(world, crash)
    check_paid_once(world)


REFUSED: dict[str, Crash | None] = {
    "before the execution": ("intake", "before", START_ENDED, 1),
    "published": ("deliver", "after", PUBLISH, 1),
}


@points(REFUSED)
def test_a_job_that_is_never_sent_is_notified(world: World, crash: Crash) -> None:
    world.upload(poses=image("png")[:-20])
    drive(world, crash)
    assert world.accepted() == []
    assert list(world.executions()) == [f"{job_id(world)}-1"]
    notified = attempts(world)
    assert list(notified) == [1]
    assert notified[1]["error"]["type"] == "InvalidInput"


@pytest.mark.parametrize("crashed", ["waiting written", "waiting removed"])
def test_uploads_that_waited_become_a_job(world: World, crashed: str) -> None:
    world.put("poses/walk.png", FOLDER["poses/walk.png"])
    world.send_event("poses/walk.png")
    if crashed == "waiting written":
        world.crash = ("intake", "after", f"{LEDGER}.wait", 1)
    world.work()
    (record,) = world.records()
    assert record["missing"] == {"L": [{"S": "face"}]}
    if crashed == "waiting removed":
        world.crash = ("intake", "after", f"{LEDGER}.stop_waiting", 1)
    world.upload()
    world.work()
    assert world.crashes == 1
    assert len(world.accepted()) == 1
    notified = attempts(world)
    assert list(notified) == [1]
    check_success(world, notified[1])


RETRY: dict[str, Crash | None] = {
    "new attempt written": ("intake", "after", f"{LEDGER}.new_attempt", 1),
    "old request asked for": ("submit", "after", "posedrop.segmind.client:Segmind.status", 1),
    "claimed": ("submit", "after", f"{LEDGER}.claim", 1),
    "sent": ("submit", "at", "http11.receive_response_headers.complete", 1),
    "published": ("deliver", "after", PUBLISH, 1),
}


@points(RETRY)
def test_a_new_attempt_is_paid_once(world: World, crash: Crash) -> None:
    world.emulator.faults([{"fault": "failed", "times": 1}])
    world.upload()
    drive(world, NEVER)
    world.send({"retry": job_id(world)})
    drive(world, crash)
    notified = attempts(world)
    assert list(notified) == [1, 2]
    assert notified[1]["error"]["type"] == "InferenceFailed"
    assert sorted(world.executions()) == [f"{job_id(world)}-{attempt}" for attempt in (1, 2)]
    if crash[2] == f"{LEDGER}.claim":  # it ended before the request was sent, which nobody can know
        assert notified[2]["error"]["type"] == "SubmitOutcomeUnknown"
        assert len(world.accepted()) == 1
    else:
        check_success(world, notified[2])
        assert len(world.accepted()) == 2


REPORT: dict[str, Crash | None] = {
    "end written": ("deliver", "after", f"{LEDGER}.fail_attempt", 1),
    "published": ("deliver", "after", PUBLISH, 1),
}


def report(world: World, crash: Crash) -> dict[str, Any]:
    """Let an execution end without notifying, and its report die once; return the notification."""
    world.upload()
    while world.handle_message():
        pass
    ((name, state),) = world.executions().items()
    detail = {"name": name, "status": "ABORTED", "input": json.dumps(state), "error": None, "cause": None}
    world.crash = crash
    for _ in range(3):
        world.invoke("deliver", {"detail-type": "Step Functions Execution Status Change", "detail": detail})
    assert world.crashes == 1
    assert len(world.accepted()) == 1
    notified = attempts(world)
    assert list(notified) == [1]
    return notified[1]


@points(REPORT)
def test_an_execution_that_ended_without_notifying_is_notified(world: World, crash: Crash) -> None:
    """Lambda invokes a function again that failed in an asynchronous invocation."""
    world.environment["SEGMIND_HISTORY_URL"] = ""
    assert report(world, crash)["error"]["type"] == "InternalError"


def test_the_images_of_an_execution_that_ended_without_notifying_are_fetched(world: World) -> None:
    notified = report(world, ("deliver", "after", f"{LEDGER}.succeed", 1))
    check_success(world, notified)
    assert notified["metrics"]["rescued"]
