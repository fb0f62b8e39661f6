"""`dead-letters`: what each is about, whether redriving helps, and one by one what is done with it."""

import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.response import StreamingBody

from ops.stack import Stack
from tests.integration.conftest import BUCKET, Pipeline
from tests.ops.conftest import FACE, WALK, Run

Ask = Callable[..., Any]
NOBODY = "hero-walk-0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of moto's has one server: there is nothing to wait for."""
    monkeypatch.setattr("ops.act.dead_letters.WAIT_SECONDS", 0)


def bury(pipeline: Pipeline, body: Any, queue: str = "dead-letters", **attributes: str) -> str:
    """Put a message into a dead-letter queue, and return its id."""
    values = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    url = pipeline.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    text = body if isinstance(body, str) else json.dumps(body)
    found: str = pipeline.sqs.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=values)["MessageId"]
    return found


def event(key: str) -> dict[str, Any]:
    upload = {"key": key, "etag": "e"}
    return {"detail-type": "Object Created", "detail": {"bucket": {"name": BUCKET}, "object": upload}}


def test_each_is_explained(pipeline: Pipeline, stack: Stack, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    pose = {"bucket": BUCKET, "character": "hero", "pose": "", "origin": None}
    execution = {"detail-type": "Step Functions Execution Status Change", "detail": {"name": f"{job_id}-1"}}
    redrive, discard = "Fix the cause, then redrive it.", "Redriving it will not help. Discard it."
    unreadable = "No one can read it: not JSON: Expecting value: line 1 column 1 (char 0)."
    nobody, died = "There is no such job.", "received too often: see the log lines with its message id"
    failed = "its target could not be reached, or failed"
    ended = f"the end of the execution {job_id}-1"
    buried = {
        bury(pipeline, "what?", reason="not JSON"): f"no message of the pipeline's: not JSON: {unreadable} {discard}",
        bury(pipeline, {"retry": NOBODY}, reason="none"): f"a new attempt of {NOBODY}: none: {nobody} {discard}",
        bury(pipeline, {"submit": NOBODY}): f"the job {NOBODY}: {died}: {nobody} {discard}",
        bury(pipeline, {"submit": job_id}, reason="x"): f"the job {job_id}: x: {redrive}",
        bury(pipeline, {"cancel": job_id, "attempt": 1}, reason="x"): f"cancelling {job_id}: x: {redrive}",
        bury(pipeline, {"job": pose}, reason="x"): f"all poses of hero: x: {redrive}",
        bury(pipeline, event(WALK[0]), "undelivered", ERROR_MESSAGE="no"): f"the upload {WALK[0]}: no: {redrive}",
        bury(pipeline, execution, "undelivered", ERROR_CODE="NO"): f"{ended}: NO: {redrive}",
        bury(pipeline, {"payload": {}}, "undelivered"): f"a run of a function that failed: {failed}: {redrive}",
    }
    found = ask("dead-letters")
    assert found["count"] == len(buried)
    said = {letter["id"]: f"{letter['about']}: {letter['reason']}: {letter['advice']}" for letter in found["letters"]}
    assert said == buried
    assert [letter["helps"] for letter in found["letters"]].count(False) == 3
    assert ask("dead-letters") == found  # they are still there
    text = run("dead-letters").stdout
    assert all(letter_id[:8] in text for letter_id in buried)
    assert text.splitlines()[-1] == ".venv/bin/python -m ops dead-letters --redrive ID, or --discard ID"


def test_one_by_one(pipeline: Pipeline, stack: Stack, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    hopeless, useful, other = (
        bury(pipeline, {"retry": NOBODY}, reason="no such job"),
        bury(pipeline, {"submit": job_id}, reason="its function died"),
        bury(pipeline, event(FACE[0]), "undelivered"),
    )
    asked = run("dead-letters", "--discard", hopeless, "--redrive", useful[:12], code=1, answer="n\n")
    assert f"Discard a new attempt of {NOBODY}: no such job" in asked.stderr
    assert f"Redrive the job {job_id}: its function died" in asked.stderr
    assert ask("dead-letters")["count"] == 3
    done = ask("dead-letters", "--discard", hopeless, "--redrive", useful[:12], "--redrive", other, "--yes")
    assert done["discarded"] == [hopeless]
    assert sorted(done["redriven"]) == sorted([useful, other])
    assert [json.loads(found["Body"]) for found in pipeline.receive(pipeline.submit_queue_url)] == [{"submit": job_id}]
    assert [json.loads(found["Body"]) for found in pipeline.receive(pipeline.queue_url)] == [event(FACE[0])]
    assert "There are no dead letters." in run("dead-letters").stdout


def test_the_sweep_sees_to_what_is_no_message(pipeline: Pipeline, stack: Stack, ask: Ask) -> None:
    ids = [bury(pipeline, {"requestPayload": {}}, "undelivered") for _ in range(2)]
    calls: list[str] = []

    def sweep(**_: Any) -> Any:
        calls.append("sweep")
        return SimpleNamespace(status_code=200), {"Payload": StreamingBody(io.BytesIO(b"{}"), 2)}

    pipeline.hook("lambda", "Invoke", sweep)
    for end in pipeline.hooks[:1]:
        end()
    ask("dead-letters", "--redrive", ids[0], "--redrive", ids[1], "--yes")
    assert calls == ["sweep"]
    assert ask("dead-letters") == {"count": 0, "letters": []}


def test_an_id_that_is_none(pipeline: Pipeline, stack: Stack, run: Run, ask: Ask) -> None:
    for _ in range(2):
        bury(pipeline, "x")
    assert "there is no dead letter nothing" in run("dead-letters", "--discard", "nothing", "--yes", code=3).stderr
    said = run("dead-letters", "--discard", "", "--yes", code=3).stderr
    assert "is the beginning of 2 ids: say more of it" in said
    assert ask("dead-letters")["count"] == 2


def test_redrive_leads_to_it(pipeline: Pipeline, stack: Stack, run: Run) -> None:
    bury(pipeline, "x", reason="not JSON")
    said = run("redrive", code=1, answer="n\n").stderr
    assert "Which ones it will not help: .venv/bin/python -m ops dead-letters" in said
