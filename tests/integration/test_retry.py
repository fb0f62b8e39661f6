"""Retrying: a repeated event changes nothing, and `retry` makes a new attempt that pays only if it must."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.conftest import OUTPUTS, REGION, Pipeline
from tests.support import Context, image, load_event

FOLDER = (
    ("incoming/hero/face.png", image("png", (10, 10), "white")),
    ("incoming/hero/poses/walk.png", image("png", (12, 8), "black")),
)
RUNNING = httpx.Response(200, json={"status": "PROCESSING", "metrics": {}})
COMPLETED = httpx.Response(200, json={"status": "COMPLETED", "metrics": {}})
FAILED = httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})
NOT_FOUND = httpx.Response(404, json={"error": "Request not found"})


def submit(pipeline: Pipeline) -> str:
    """Upload one job's files, and return its id."""
    assert pipeline.upload(*FOLDER)
    return str(pipeline.record()["job_id"])


def end(pipeline: Pipeline, status: httpx.Response) -> str:
    """Let one job end with this response of the provider's and be notified, and return its id."""
    pipeline.provider.statuses = [status]
    job_id = submit(pipeline)
    pipeline.run_all()
    pipeline.provider.submits = [httpx.Response(200, json={"request_id": "request-2", "status": "QUEUED"})]
    return job_id


def retry(pipeline: Pipeline, job_id: str) -> bool:
    """Ask for a new attempt."""
    return pipeline.handle({"retry": job_id})


def deliver_message(pipeline: Pipeline, message_id: str, body: dict[str, Any]) -> None:
    """Hand a message of a known id to submit, as SQS may do twice."""
    record = {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:uploads",
        "awsRegion": REGION,
    }
    pipeline.intake.handler({"Records": [record]}, Context())
    pipeline.drain()


def last_execution(pipeline: Pipeline) -> dict[str, Any]:
    """The input of the execution that was started last."""
    return list(pipeline.executions().values())[-1]


def status_change(execution: dict[str, Any], status: str = "ABORTED") -> dict[str, Any]:
    """The event of an execution that ended badly."""
    event: dict[str, Any] = load_event("deliver-execution-failed.json")
    name = f"{execution['job_id']}-{execution['attempt']}"
    event["detail"] |= {"name": name, "status": status, "input": json.dumps(execution)}
    return event


# ---- by accident -----------------------------------------------------------------------------------------------------


def test_every_handler_twice(pipeline: Pipeline) -> None:
    events = [pipeline.put(key, body) for key, body in FOLDER]
    for event in events + events[::-1]:
        assert pipeline.handle(event)
    ((name, state),) = pipeline.executions().items()
    pipeline.clock.now += state["wait_seconds"]
    finished = pipeline.poll.handler(state, Context())
    assert pipeline.poll.handler(state, Context()) == finished
    notified = pipeline.deliver.handler(finished, Context(300))
    stored = pipeline.outputs()
    assert pipeline.deliver.handler(finished, Context(300)) == notified
    pipeline.deliver.handler(status_change(state), Context(300))
    assert pipeline.outputs() == stored
    assert len(pipeline.provider.posts) == 1
    assert list(pipeline.executions()) == [name]
    assert [message["status"] for message in pipeline.notifications()] == ["SUCCEEDED"]


@pytest.mark.parametrize("status", [COMPLETED, FAILED], ids=["succeeded", "failed"])
def test_the_same_files_again(pipeline: Pipeline, status: httpx.Response) -> None:
    end(pipeline, status)
    before = pipeline.record()
    assert pipeline.upload(*FOLDER)
    assert pipeline.upload(*FOLDER[::-1])
    assert pipeline.record() == before
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == len(pipeline.notifications()) == 1


@pytest.mark.parametrize("status", [COMPLETED, FAILED], ids=["succeeded", "failed"])
def test_a_redriven_execution_changes_nothing(pipeline: Pipeline, status: httpx.Response) -> None:
    """A redrive runs a state again with the input that it had: each handler gets all of them once more."""
    pipeline.provider.statuses = [RUNNING, RUNNING, status]
    submit(pipeline)
    states = [last_execution(pipeline)]
    while not states[-1]["finished"]:
        pipeline.clock.now += states[-1]["wait_seconds"]
        states.append(pipeline.poll.handler(states[-1], Context()))
    notified = pipeline.deliver.handler(states[-1], Context(300))
    fault = {"error": "DeliveryFailed", "cause": '{"errorMessage": "too late"}'}
    record, stored, sent = pipeline.record(), pipeline.outputs(), pipeline.notifications()
    for state in states:
        assert pipeline.poll.handler(state, Context())["job_id"] == notified["job_id"]
        assert pipeline.deliver.handler(state, Context(300)) == notified
        assert pipeline.deliver.handler({**state, "finished": True, "poll_fault": fault}, Context(300)) == notified
        assert pipeline.deliver.handler({**state, "deliver_fault": fault}, Context(300)) == notified
    assert (pipeline.record(), pipeline.outputs(), pipeline.notifications()) == (record, stored, [])
    assert len(sent) == len(pipeline.provider.posts) == 1


# ---- on purpose ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meanwhile", [COMPLETED, RUNNING], ids=["finished", "still-running"])
def test_a_job_that_timed_out_here_is_delivered_and_not_bought(pipeline: Pipeline, meanwhile: httpx.Response) -> None:
    job_id = end(pipeline, RUNNING)
    (notified,) = pipeline.notifications()
    assert notified["error"]["type"] == "TimedOut"
    pipeline.provider.statuses = [meanwhile, COMPLETED]
    assert retry(pipeline, job_id)
    assert list(pipeline.executions()) == [f"{job_id}-1", f"{job_id}-2"]
    pipeline.run(last_execution(pipeline))
    (notified,) = pipeline.notifications()
    assert (notified["attempt"], notified["status"], notified["request_id"]) == (2, "SUCCEEDED", "request-1")
    assert set(pipeline.outputs()) == {f"outputs/hero/walk/{job_id}/2/{name}" for name in ("1.png", "result.json")}
    assert len(pipeline.provider.posts) == 1


def test_a_job_that_failed_there_is_paid_anew(pipeline: Pipeline) -> None:
    job_id = end(pipeline, FAILED)
    pipeline.provider.statuses = [FAILED, COMPLETED]
    assert retry(pipeline, job_id)
    pipeline.run(last_execution(pipeline))
    first, second = pipeline.notifications()
    assert (first["attempt"], first["error"]["type"], first["request_id"]) == (1, "InferenceFailed", "request-1")
    assert (second["attempt"], second["status"], second["request_id"]) == (2, "SUCCEEDED", "request-2")
    assert set(pipeline.outputs()) == {f"outputs/hero/walk/{job_id}/2/{name}" for name in ("1.png", "result.json")}
    assert len(pipeline.provider.posts) == 2
    assert all(f"{job_id}-2" in pipeline.provider.posts[1][name] for name in ("face_image", "pose_image"))


def test_a_request_that_is_gone_is_paid_anew_once_that_is_seen_twice(pipeline: Pipeline) -> None:
    job_id = end(pipeline, RUNNING)
    pipeline.provider.statuses = [NOT_FOUND]
    assert not retry(pipeline, job_id)
    assert pipeline.dispatch_one(job_id) is False  # too soon after the first 404
    assert len(pipeline.provider.posts) == 1
    pipeline.clock.now += 31
    assert pipeline.dispatch_one(job_id)
    assert len(pipeline.provider.posts) == 2
    # What was seen of the old request says nothing of the new one.
    pipeline.provider.results = [NOT_FOUND]
    pipeline.clock.now += 61
    with pytest.raises(Exception, match="the provider answered 404"):
        pipeline.deliver.handler({**last_execution(pipeline), "finished": True}, Context(300))
    assert pipeline.record()["status"] == "SUBMITTED"


@pytest.mark.parametrize("fault", [httpx.Response(500), httpx.Response(429), httpx.ReadTimeout("slow")])
def test_without_a_response_about_the_old_request_nothing_is_bought(pipeline: Pipeline, fault: Any) -> None:
    job_id = end(pipeline, RUNNING)
    pipeline.provider.statuses = [fault]
    retry(pipeline, job_id)
    for _ in range(5):
        pipeline.clock.now += 60
        assert pipeline.dispatch_one(job_id) is False
    assert len(pipeline.provider.posts) == 1
    pipeline.provider.statuses = [COMPLETED]
    assert pipeline.dispatch_one(job_id)
    pipeline.run(last_execution(pipeline))
    assert (pipeline.record()["status"], len(pipeline.provider.posts)) == ("SUCCEEDED", 1)


@pytest.mark.parametrize("ended", [True, False])
def test_a_job_that_has_not_failed_gets_no_new_attempt(pipeline: Pipeline, ended: bool) -> None:
    job_id = submit(pipeline)
    if ended:
        pipeline.run_all()
    before = pipeline.record()
    assert retry(pipeline, job_id)
    assert pipeline.record() == before
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 1


def test_the_same_message_delivered_again_makes_no_third_attempt(pipeline: Pipeline) -> None:
    job_id = end(pipeline, FAILED)
    for _ in range(3):
        deliver_message(pipeline, "retry-1", {"retry": job_id})
    pipeline.run(last_execution(pipeline))  # attempt 2 fails as well
    deliver_message(pipeline, "retry-1", {"retry": job_id})
    assert (pipeline.record()["attempt"], len(pipeline.provider.posts)) == (2, 2)
    deliver_message(pipeline, "retry-2", {"retry": job_id})
    assert (pipeline.record()["attempt"], len(pipeline.provider.posts)) == (3, 3)


def test_a_retry_message_that_finds_another_one_at_work_is_redelivered(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    job_id = end(pipeline, FAILED)
    others = ["another retry"]

    def first(params: dict[str, Any], **_: Any) -> None:
        if b"a retry" in params["body"] and others:
            deliver_message(pipeline, others.pop(), {"retry": job_id})

    pipeline.hook("dynamodb", "UpdateItem", first)
    deliver_message(pipeline, "a retry", {"retry": job_id})
    assert [delay for _, delay in pipeline.messages] == [5]
    assert not [line for line in logs() if line["level"] == "ERROR"]
    deliver_message(pipeline, "a retry", {"retry": job_id})
    assert (pipeline.record()["attempt"], len(pipeline.provider.posts)) == (2, 2)


def test_bad_input_is_notified_again(pipeline: Pipeline) -> None:
    assert pipeline.upload(FOLDER[0], ("incoming/hero/poses/walk.png", image("png")[:-20]))
    pipeline.run_all()
    job_id = str(pipeline.record()["job_id"])
    assert retry(pipeline, job_id)
    pipeline.run(last_execution(pipeline))
    first, second = pipeline.notifications()
    assert [notified["attempt"] for notified in (first, second)] == [1, 2]
    assert first["error"] == second["error"]
    assert first["error"]["type"] == "InvalidInput"
    assert not pipeline.provider.posts


def test_bad_input_is_not_sent_though_its_end_could_not_be_notified_at_first(pipeline: Pipeline) -> None:
    assert pipeline.upload(*FOLDER, ("incoming/hero/job.json", '{"samples": 99}'))
    (job_id,) = [name for name, record in pipeline.records().items() if record["status"] == "FAILED"]
    pipeline.run_all()
    before = len(pipeline.provider.posts)
    pipeline.break_call("stepfunctions", "StartExecution")
    deliver_message(pipeline, "retry", {"retry": job_id})
    pipeline.hooks.pop()()
    deliver_message(pipeline, "retry", {"retry": job_id})
    pipeline.run(last_execution(pipeline))
    assert pipeline.records()[job_id]["attempt"] == 2
    assert len(pipeline.provider.posts) == before
    assert [notified["attempt"] for notified in pipeline.notifications() if notified["job_id"] == job_id] == [1, 2]


def test_an_attempt_is_notified_before_the_next_begins(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.Response(400, json={"error": "no"})]
    job_id = submit(pipeline)
    assert retry(pipeline, job_id) is False
    assert pipeline.record()["attempt"] == 1
    pipeline.run_all()
    assert retry(pipeline, job_id)
    pipeline.run(last_execution(pipeline))
    assert [notified["attempt"] for notified in pipeline.notifications()] == [1, 2]


@pytest.mark.parametrize("body", [{"retry": "hero-walk-0123456789abcdef"}, {"retry": "waiting/hero/walk"}])
def test_a_retry_of_an_unknown_job_is_dead_lettered(pipeline: Pipeline, body: dict[str, Any]) -> None:
    pipeline.upload(FOLDER[1])  # it waits for its face
    pipeline.handle(body)
    (message,) = pipeline.receive(pipeline.dead_letter_url)
    assert json.loads(message["Body"]) == body
    assert message["MessageAttributes"]["reason"]["StringValue"]
    assert not pipeline.executions()


# ---- who comes late --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["queued", "submitted", "succeeded"])
def test_a_late_attempt_overwrites_nothing(pipeline: Pipeline, stage: str) -> None:
    job_id = end(pipeline, FAILED)
    (state,) = pipeline.executions().values()
    pipeline.notifications()
    if stage == "queued":
        pipeline.provider.submits = [httpx.Response(503)]
    pipeline.provider.statuses = [FAILED, COMPLETED]
    retry(pipeline, job_id)
    if stage == "succeeded":
        pipeline.run(last_execution(pipeline))
    record, stored = pipeline.record(), pipeline.outputs()
    pipeline.notifications()
    assert record["status"] == stage.upper()
    finished = pipeline.poll.handler(state, Context())
    fault = {"error": "States.Timeout", "cause": ""}
    for event in (finished, {**finished, "error": {"type": "TimedOut", "message": "late"}}):
        assert pipeline.deliver.handler(event, Context(300))["status"] == "SUPERSEDED"
    assert pipeline.deliver.handler({**finished, "deliver_fault": fault}, Context(300))["status"] == "SUPERSEDED"
    for status in ("FAILED", "TIMED_OUT", "ABORTED"):
        pipeline.deliver.handler(status_change(state, status), Context(300))
    assert (pipeline.record(), pipeline.outputs(), pipeline.notifications()) == (record, stored, [])


def test_an_attempt_superseded_while_it_stores_writes_only_its_own_objects(pipeline: Pipeline) -> None:
    """Its execution is aborted while deliver runs; that is notified, and a retry asked for, before it is done."""
    job_id = submit(pipeline)
    (state,) = pipeline.executions().values()
    pipeline.clock.now += 30
    finished = pipeline.poll.handler(state, Context())

    def overtake(**_: Any) -> None:
        end_hook()
        pipeline.deliver.handler(status_change(state), Context(300))
        retry(pipeline, job_id)

    end_hook = pipeline.hook("s3", "PutObject", overtake)
    assert pipeline.deliver.handler(finished, Context(300))["status"] == "SUPERSEDED"
    pipeline.run(last_execution(pipeline))
    first, second = pipeline.notifications()
    assert (first["attempt"], first["status"], first["error"]["type"]) == (1, "FAILED", "InternalError")
    assert (second["attempt"], second["status"]) == (2, "SUCCEEDED")
    assert {output["key"] for output in second["outputs"]} == {f"outputs/hero/walk/{job_id}/2/1.png"}
    folders = {key.rpartition("/")[0] for key in pipeline.outputs() if key.endswith("result.json")}
    assert folders == {f"outputs/hero/walk/{job_id}/2"}
    stored = pipeline.s3.get_object(Bucket=OUTPUTS, Key=f"outputs/hero/walk/{job_id}/2/result.json")["Body"].read()
    assert json.loads(stored) == second
    assert len(pipeline.provider.posts) == 1


def test_dead_letters_sent_round_again_cost_nothing(pipeline: Pipeline) -> None:
    """A redrive moves whatever is there, also what was handled meanwhile."""
    events = [pipeline.put(key, body) for key, body in FOLDER]
    job_id = end(pipeline, COMPLETED)
    before = (pipeline.record(), pipeline.outputs())
    folder = {"bucket": "posedrop-uploads", "character": "hero", "upload": None}
    dead = [
        *events,
        {"submit": job_id},
        {"retry": job_id},
        {"job": {**folder, "pose": "walk"}},
        {"job": {**folder, "pose": ""}},
    ]
    for message in dead * 2:
        assert pipeline.handle(message)
    assert (pipeline.record(), pipeline.outputs()) == before
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == len(pipeline.notifications()) == 1
