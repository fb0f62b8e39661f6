"""What the console answers, over a real connection."""

import re
import time
from typing import Any

import pytest

from posedrop.aws.record import only_jobs
from posedrop.contract.parameters import schema
from posedrop.contract.reasons import ReasonCode
from tests.console.conftest import CYCLE, Console
from tests.integration.conftest import API_KEY
from tests.support import until

HOSTILE = '<img src=x onerror="alert(1)">'
CARD = {
    *("job_id", "attempt", "character", "pose", "state", "headline", "sentence", "step", "missing"),
    *("created_at", "updated_at", "submitted_at", "completed_at", "eta", "outputs", "width", "height"),
    *("prompt", "seed", "error", "metrics", "cost_usd", "can_retry", "version", "prepared", "stack", "seconds"),
}


def test_the_stack(console: Console) -> None:
    found = console.get("/api/stack")
    assert found["schema"] == schema("job")
    assert found["price_usd"] == 0.0294
    assert found["default_prompt"] == "a walk in the rain"
    assert found["command"] == console.stack.command()


def test_what_somebody_must_see_to_without_what_is_in_the_summary(console: Console) -> None:
    assert console.get("/api/problems") == []
    console.refuse_account("it answered 406")
    console.pipeline.sqs.send_message(QueueUrl=console.pipeline.dead_letter_url, MessageBody="?", DelaySeconds=0)
    (problem,) = console.get("/api/problems")
    assert "1 message in the dead-letter queue" in problem["what"]
    assert problem["step"] == console.stack.command("redrive")
    assert problem["action"] == "dead-letters"


def test_pages_of_cards_hold_every_job_once_the_newest_first(console: Console) -> None:
    seeded = console.seed(25)
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    for _ in range(3):
        answer = console.get(f"/api/jobs?limit=10&cursor={cursor}")
        assert answer["total"] == 25
        found += answer["jobs"]
        cursor = answer["next"]
    assert cursor is None
    assert [card["job_id"] for card in found] == [record.job_id for record in seeded]
    assert [card["state"] for card in found[:10]] == list(CYCLE)
    assert answer["characters"] == [
        {"name": "hero-1", "jobs": 7},
        *({"name": f"hero-{number}", "jobs": 6} for number in (2, 3, 4)),
    ]
    assert all(card.keys() == CARD for card in found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("character=hero-2", {1, 5, 9}),
        ("state=failed", {2}),
        ("state=waiting,queued", {4, 5}),
        ("text=NUMBER+8", {7}),
        ("text=blocked+content", {2}),
        ("text=hero-1-pose-1-", {0}),
        ("hours=0.025", {0, 1, 2, 3, 4}),
        ("character=hero-3&state=done", {6}),
        ("character=nobody", set()),
    ],
)
def test_filters(console: Console, query: str, expected: set[int]) -> None:
    seeded = console.seed(10)
    if "blocked" in query:
        console.write([seeded[2]])
        seeded[2] = console.change(seeded[2], error={"type": "Rejected", "message": "blocked content"})
    found = console.get(f"/api/jobs?{query}")
    assert {card["job_id"] for card in found["jobs"]} == {seeded[index].job_id for index in expected}
    assert found["total"] == len(expected)
    assert sum(character["jobs"] for character in found["characters"]) == 10


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "hours=-1", "hours=nan", "state=lost", "cursor=x"])
def test_a_query_without_meaning_is_refused_in_words(console: Console, query: str) -> None:
    assert len(console.get(f"/api/jobs?{query}", status=400)["error"]) > 10


def test_one_job(console: Console) -> None:
    failed = console.seed(10)[2]
    found = console.get(f"/api/jobs/{failed.job_id}")
    assert found["card"]["error"] == failed.error
    events = [event["what"] for event in found["events"]]
    assert events == ["queued", "sent", "accepted", "failed", "notified", "face uploaded", "pose uploaded"]
    assert found["parameters"] == failed.parameters
    # The card has the id beside the sentence.
    assert found["explanation"]["sentence"] == re.sub("^It", f"Job {failed.job_id}", found["card"]["sentence"])


def test_one_pose_that_waits(console: Console) -> None:
    waiting = console.seed(10)[5]
    found = console.get(f"/api/jobs/{waiting.job_id}")
    assert found["card"]["state"] == "waiting"
    assert found["card"]["missing"] == ["face"]
    assert found["explanation"]["reason"] == "missing-face"


def test_the_summary(console: Console) -> None:
    console.seed(20)
    found = console.get("/api/summary")
    assert (found["backlog"], found["running"], found["waiting"]) == (2, 6, 2)
    assert (found["done"], found["failed"]) == (8, 2)
    assert sum(failure["count"] for failure in found["failures"]) == 2
    assert found["use"] == {"taken": 0, "limit": 600, "percent": 0}
    assert found["pause"] is None
    assert len(found["durations"]) == 10
    assert set(found["durations"]) == {60}
    assert 20 < found["typical_seconds"] < 40 < found["late_seconds"] < 120


def test_a_pause_is_reported_with_its_reason(console: Console) -> None:
    console.refuse_account("the provider answered 406: no credits")
    found = console.get("/api/summary")["pause"]
    assert found["account"]
    assert "no credits" in found["reason"]
    assert 0 < found["seconds"] <= 600
    assert "buy credits (406)" in found["step"]
    assert "the next probe is sent in 10 min" in found["step"]


def test_one_job_that_is_refused_is_no_pause(console: Console) -> None:
    queued = console.seed(5)[4]
    text = "the provider refused this job: it answered 403: blocked"
    deferred = {"reason": text, "reason_code": ReasonCode.REFUSED, "deferred_until": time.time() + 900}
    job = console.change(queued, refused_at=time.time(), **deferred)
    summary = console.get("/api/summary")
    assert (summary["refused"], summary["pause"]) == (1, None)
    found = console.get(f"/api/jobs/{job.job_id}")
    assert found["card"]["headline"] == "refused for now"
    assert (
        "is deferred, the other jobs continue: the provider refused this job: it answered 403"
        in found["card"]["sentence"]
    )
    assert re.sub("^It", f"Job {job.job_id}", found["card"]["sentence"]) == found["explanation"]["sentence"]
    assert [event["what"] for event in found["events"]].count("refused") == 1


def test_a_refused_job_is_one_of_all_while_the_account_is_paused(console: Console) -> None:
    queued = console.seed(5)[4]
    deferred = {"reason": "403", "reason_code": ReasonCode.REFUSED, "deferred_until": time.time() + 900}
    job = console.change(queued, refused_at=time.time(), **deferred)
    console.refuse_account("it answered 403")
    found = console.get(f"/api/jobs/{job.job_id}")
    assert found["card"]["headline"] != "refused for now"
    assert found["card"]["sentence"] is None
    assert found["explanation"]["reason"] == "paused"
    assert "this job itself was refused" in found["explanation"]["sentence"]


def test_no_response_contains_a_key(console: Console) -> None:
    seeded = console.seed(10)
    texts = [
        console.request("GET", path).data.decode()
        for path in ("/api/stack", "/api/jobs", "/api/summary", *(f"/api/jobs/{record.job_id}" for record in seeded))
    ]
    for text in texts:
        assert API_KEY not in text
        assert not re.search(r"X-Amz-|AWSAccessKeyId|AKIA|\"testing\"", text)


def test_the_stack_is_away_from_the_start(console: Console) -> None:
    console.down = True
    assert "stack.test" in console.get("/api/jobs", status=503)["error"]
    console.down = False
    until(lambda: console.request("GET", "/api/jobs").status == 200)


def test_all_that_fit_are_selected(console: Console) -> None:
    seeded = console.seed(25)
    cards = console.get("/api/ids?state=failed")
    assert [card["job_id"] for card in cards] == [record.job_id for record in only_jobs(seeded) if record.error]
    assert all(card.keys() == CARD for card in cards)
    assert console.get("/api/ids?state=lost", status=400)["error"]
