"""The command `dead-letters`: it lists, and one by one redrives or discards."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ops.stack import Stack
from tests.integration.conftest import Pipeline
from tests.ops.conftest import FACE, WALK, Run

Ask = Callable[..., Any]
NOBODY = "hero-walk-0123456789abcdef"

pytestmark = pytest.mark.usefixtures("stack")


def bury(pipeline: Pipeline, body: Any, **attributes: str) -> str:
    """Put a message into the dead-letter queue, and return its id."""
    values: Any = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    url = pipeline.dead_letter_url
    found: str = pipeline.sqs.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=values)["MessageId"]
    return found


def test_each_is_listed_with_its_reason(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    ids = [bury(pipeline, {"retry": NOBODY}, reason="no such job"), bury(pipeline, "what?")]
    found = ask("dead-letters")
    assert {letter["message_id"]: letter["helps"] for letter in found} == dict.fromkeys(ids, False)
    said = run("dead-letters").stdout
    assert all(letter_id[:8] in said for letter_id in ids)
    assert f"{NOBODY}, which does not exist. It will fail again: discard it" in said
    assert "no such job" in said
    assert "received too often" in said
    assert said.splitlines()[-1] == ".venv/bin/python -m ops dead-letters --redrive ID, or --discard ID"


def test_one_by_one(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    hopeless = bury(pipeline, {"retry": NOBODY}, reason="no such job")
    useful = bury(pipeline, {"submit": job_id}, reason="its function died")
    asked = run("dead-letters", "--discard", hopeless, "--redrive", useful[:12], code=1, answer="n\n")
    assert f"Discard: A request to retry {NOBODY}" in asked.stderr
    assert f"Redrive: A request to send {job_id}: its function died" in asked.stderr
    assert len(ask("dead-letters")) == 2
    done = ask("dead-letters", "--discard", hopeless, "--redrive", useful[:12], "--yes")
    assert done == {"discarded": 1, "redriven": 1}
    assert [json.loads(found["Body"]) for found in pipeline.receive(pipeline.submit_queue_url)] == [{"submit": job_id}]
    assert "There are no dead letters." in run("dead-letters").stdout


def test_an_id_that_is_none(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    for _ in range(2):
        bury(pipeline, "x")
    assert "there is no dead letter nothing" in run("dead-letters", "--discard", "nothing", "--yes", code=3).stderr
    said = run("dead-letters", "--discard", "", "--yes", code=3).stderr
    assert "is the beginning of 2 ids: type more of the id" in said
    assert len(ask("dead-letters")) == 2


def test_redrive_leads_to_it(pipeline: Pipeline, stack: Stack, run: Run) -> None:
    bury(pipeline, "x", reason="not JSON")
    said = run("redrive", code=1, answer="n\n").stderr
    assert "To see which ones redriving does not help: .venv/bin/python -m ops dead-letters" in said
