"""`cancel`: it asks first, leaves the work to `intake`, and says what became of each job."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ops.act import cancelling
from ops.stack import Stack
from posedrop.aws.places import due, in_line
from posedrop.aws.record import Status
from tests.integration.conftest import Pipeline
from tests.ops.conftest import FACE, SIT, WALK, Run

Ask = Callable[..., Any]


@pytest.fixture
def intake(pipeline: Pipeline, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """`intake` works whenever the command waits."""

    def work(seconds: float) -> None:
        pipeline.clock.sleep(seconds)
        with redirect_stdout(io.StringIO()):
            for message in pipeline.receive(pipeline.queue_url):
                pipeline.handle(message["Body"])

    monkeypatch.setattr("ops.cli.shell.find", lambda target: replace(stack, sleep=work))


@pytest.fixture
def two(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """The ids of two jobs of hero that wait for money, walk and sit; another character's upload lacks its face."""
    monkeypatch.setenv("DAILY_BUDGET", "0.01")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    request.getfixturevalue("intake")
    pipeline.upload(FACE, WALK, SIT, ("incoming/lonely/pose.png", WALK[1]))
    ids = {str(record["pose"]): job_id for job_id, record in pipeline.records().items()}
    return [ids["walk"], ids["sit"]]


def statuses(pipeline: Pipeline) -> dict[str, str]:
    """The status of each record by its pose."""
    return {str(record["pose"]): str(record["status"]) for record in pipeline.records().values()}


def test_cancel_asks_first(pipeline: Pipeline, two: list[str], run: Run) -> None:
    asked = run("cancel", "--status", "queued", code=1, answer="n\n")
    assert "Cancel 2 jobs? Each ends as FAILED and is notified." in asked.stderr
    run("cancel", *two, code=1)  # nobody answers
    assert "--json cannot ask" in run("cancel", *two, "--json", code=2).stderr
    assert pipeline.receive(pipeline.queue_url) == []
    assert "2 jobs cancelled." in run("cancel", *two, two[0], answer="y\n").stdout
    assert statuses(pipeline) == {"walk": "FAILED", "sit": "FAILED", "pose": "WAITING"}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--status", "QUEUED"], {"pose": "WAITING"}),
        (["--character", "hero"], {"pose": "WAITING"}),
        (["--character", "lonely"], {"walk": "QUEUED", "sit": "QUEUED"}),
        (["--character", "lonely", "--status", "queued"], {"walk": "QUEUED", "sit": "QUEUED", "pose": "WAITING"}),
        (["--status", "WAITING"], {"walk": "QUEUED", "sit": "QUEUED"}),
        (["--status", "WAITING", "--status", "QUEUED"], {}),
    ],
)
@pytest.mark.usefixtures("two")
def test_cancel_what_fits(pipeline: Pipeline, ask: Ask, options: list[str], left: dict[str, str]) -> None:
    found = ask("cancel", *options, "--yes")
    assert found == {"cancelled": 3 - len(left), "left_alone": {}, "open": []}
    assert {pose: status for pose, status in statuses(pipeline).items() if status != "FAILED"} == left
    assert ask("cancel", *options, "--yes") == {"cancelled": 0, "left_alone": {}, "open": []}


def test_cancel_of_what_does_not_wait(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    assert f"{job_id} cannot be cancelled: it no longer waits: it is SUBMITTED" in (
        run("cancel", job_id, "--yes", code=4).stderr
    )
    assert "there is no job nothing" in run("cancel", "nothing", "--yes", code=3).stderr
    assert "nothing to cancel" in run("cancel", "--status", "QUEUED").stdout
    for words in ([], [job_id, "--character", "hero"], [job_id, "--status", "QUEUED"]):
        assert "Say which" in run("cancel", *words, "--yes", code=2).stderr


def test_cancel_of_a_job_that_may_have_been_paid(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    pipeline.provider.submits = [httpx.Response(503)]
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    assert "it is not known yet whether it is billed" in run("cancel", job_id, "--yes", code=4).stderr
    assert ask("cancel", "--status", "QUEUED", "--yes")["cancelled"] == 0
    assert pipeline.record()["status"] == "QUEUED"


def test_cancel_leaves_alone_what_is_sent_meanwhile(pipeline: Pipeline, two: list[str], run: Run) -> None:
    """Of two jobs one is claimed after the question."""
    sent = two[0]

    def claim(**_: Any) -> None:
        end()
        item = pipeline.records()[sent]
        pipeline.dynamodb.put_item(Item={**item, "status": "SUBMITTING", "owner": "someone"})

    end = pipeline.hook("sqs", "SendMessageBatch", claim)
    said = run("cancel", "--character", "hero", "--yes").stdout
    assert "1 job cancelled." in said
    assert "1 job not cancelled, because of the status:" in said
    assert f"  {sent}: submitting" in said
    assert statuses(pipeline) == {"walk": "SUBMITTING", "sit": "FAILED", "pose": "WAITING"}


def test_cancel_leaves_alone_uploads_that_became_a_job(pipeline: Pipeline, two: list[str], ask: Ask) -> None:
    def go_on(**_: Any) -> None:
        end()
        pipeline.dynamodb.delete_item(Key={"job_id": "waiting/lonely/pose"})

    end = pipeline.hook("sqs", "SendMessageBatch", go_on)
    assert ask("cancel", "--character", "lonely", "--yes")["left_alone"] == {"waiting/lonely/pose": "gone"}


@pytest.mark.usefixtures("two")
def test_cancel_that_is_not_done_in_time(pipeline: Pipeline, run: Run, stack: Stack, monkeypatch: Any) -> None:
    monkeypatch.setattr("ops.cli.shell.find", lambda target: stack)
    said = run("cancel", "--character", "hero", "--yes", "--timeout", "2s", code=6)
    assert "2 jobs not decided in time; the messages will still be handled" in said.stderr
    messages = [json.loads(message["Body"]) for message in pipeline.receive(pipeline.queue_url)]
    assert sorted(message["attempt"] for message in messages if "cancel" in message) == [1, 1]


def test_cancel_says_what_the_queue_did_not_take(pipeline: Pipeline, two: list[str], run: Run) -> None:
    pipeline.break_call("sqs", "SendMessageBatch", times=1)
    assert "broken by the test" in run("cancel", *two, "--yes", code=1).stderr
    assert statuses(pipeline)["walk"] == "QUEUED"


def test_a_cancelled_job_is_explained_shown_and_tried_again(
    pipeline: Pipeline, two: list[str], run: Run, ask: Ask
) -> None:
    job_id = two[0]
    run("cancel", job_id, "--yes")
    pipeline.run_all()
    for name in (job_id, WALK[0]):
        found = ask("explain", name)
        assert found["reason"] == "cancelled"
        assert "was cancelled" in found["sentence"]
        assert "before anything was sent or paid" in found["sentence"]
        assert found["next_step"].endswith(f"retry {job_id}")
    assert [event["what"] for event in ask("show", job_id)["events"]][-2:] == ["cancelled", "notified"]
    assert "InvalidInput: cancelled" in run("jobs", "--character", "hero").stdout
    (planned,) = ask("retry", job_id, "--yes")
    assert (planned["makes"], planned["attempt"]) == (job_id, 2)
    for message in pipeline.receive(pipeline.queue_url):
        pipeline.handle(message["Body"])
    again = pipeline.records()[job_id]
    assert (again["status"], again["attempt"]) == ("QUEUED", 2)
    assert ask("cancel", job_id, "--yes")["cancelled"] == 1


def test_many_jobs_are_found_by_the_index(pipeline: Pipeline, stack: Stack) -> None:
    """Their ids are kept, and the records of a hundred at a time; there is no scan."""
    number = 500
    with pipeline.dynamodb.batch_writer() as batch:
        for index in range(number):
            place = due(pipeline.clock.now) if index % 10 == 0 else in_line(index, pipeline.clock.now)
            item = {"job_id": f"hero-walk-{index:016x}", "status": "QUEUED", "character": "hero", "pose": "walk"}
            batch.put_item({**item, "attempt": 1, "queued_at": "x", **place})
    calls: list[str] = []
    for operation in ("Scan", "Query", "BatchGetItem"):
        pipeline.hook("dynamodb", operation, lambda model, **_: calls.append(model.name))
    chosen = cancelling.choose(stack, statuses=[Status.QUEUED])
    assert len(chosen) == number
    assert set(chosen.attempts.values()) == {1}
    # Those that are due are read once more, for what moves to them meanwhile.
    assert calls.count("BatchGetItem") == 6
    assert "Scan" not in calls
    calls.clear()
    sent: list[dict[str, Any]] = []

    def take(params: dict[str, Any], **_: Any) -> Any:
        sent.extend(json.loads(params["body"])["Entries"])
        return SimpleNamespace(status_code=200), {"Successful": []}

    pipeline.hook("sqs", "SendMessageBatch", take)
    cancelling.cancel(stack, chosen)
    bodies = [json.loads(message["MessageBody"]) for message in sent]
    assert sorted(body["cancel"] for body in bodies) == sorted(chosen.attempts)
    assert calls == []
