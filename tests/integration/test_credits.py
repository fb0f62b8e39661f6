"""The provider's credits: read from results, otherwise with a call from time to time, and never guessed."""

import json
from typing import Any

import boto3
import httpx
import pytest

from posedrop.aws.items import Items
from posedrop.gate.credits import ASK_EVERY, CreditsStore
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.responses import parse_credits
from tests.integration.conftest import BASE_URL, TABLE, Pipeline, Provider
from tests.items import MemoryItems
from tests.support import Context, image

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
POSES = [(f"incoming/hero/poses/{name}.png", image("png", (12, 8), name)) for name in ("red", "blue", "green")]


def left() -> tuple[float, int] | None:
    """The dollars that are known to be left, and the jobs that they pay for."""
    found = CreditsStore(Items(boto3.client("dynamodb"), TABLE), CONSISTENT_CHARACTER).read()
    return (found.usd, found.jobs) if found else None


def written(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """What a run of dispatch writes of the credits."""
    capsys.readouterr()
    pipeline.run_dispatch()
    found: dict[str, float] = {}
    for line in capsys.readouterr().out.splitlines():
        data = json.loads(line)
        if "_aws" in data:
            found |= {name: data[name][0] for name in ("RemainingCredits", "JobsPaidFor") if name in data}
    return found


def result_with(credits_left: object) -> httpx.Response:
    """A result that says what it cost, and what is left."""
    metrics = {"cost": 0.05, "remaining_credits": credits_left}
    body = {"status": "COMPLETED", "output": f"{BASE_URL}/media/1.png", "metrics": metrics}
    return httpx.Response(200, json=body)


def deliver_one(pipeline: Pipeline) -> None:
    """Let one job run to its end."""
    pipeline.put(*FACE)
    pipeline.upload(POSES[0])
    pipeline.run_all()
    assert pipeline.record()["status"] == "SUCCEEDED"


def test_a_result_that_says_what_is_left(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.provider.results = [result_with(1.26)]
    deliver_one(pipeline)
    assert left() == (1.26, 25)
    assert written(pipeline, capsys) == {"RemainingCredits": 1.26, "JobsPaidFor": 25}


def test_it_is_asked_for_after_a_submit_at_most_every_ten_minutes(pipeline: Pipeline, provider: Provider) -> None:
    provider.credits = httpx.Response(200, json={"credits": 2.0, "free-credits": 0.94})
    pipeline.put(*FACE)
    pipeline.upload(*POSES[:2])
    assert (provider.credit_calls, left()) == (1, (2.94, 100))
    pipeline.clock.now += ASK_EVERY
    pipeline.upload(POSES[2])
    assert provider.credit_calls == 2


def test_a_function_that_starts_anew_asks_no_sooner(pipeline: Pipeline, provider: Provider) -> None:
    pipeline.put(*FACE)
    pipeline.upload(POSES[0])
    pipeline.restarted().upload(POSES[1])
    assert provider.credit_calls == 1


def test_while_no_job_is_sent_the_sweep_lets_deliver_ask(pipeline: Pipeline, provider: Provider) -> None:
    provider.credits = httpx.Response(200, json={"credits": 0.0})
    pipeline.deliver.handler({"credits": True}, Context(300))
    assert left() == (0.0, 0)


UNKNOWN: dict[str, httpx.Response | Exception] = {
    "not there": httpx.Response(404),
    "down": httpx.Response(503),
    "limited": httpx.Response(429, headers={"retry-after": "17"}),
    "no response": httpx.ConnectError("refused"),
    "html": httpx.Response(200, html="<html>"),
    "another shape": httpx.Response(200, json=[1, 2]),
    "no number": httpx.Response(200, json={"credits": "12", "free-credits": None}),
    "negative": httpx.Response(200, json={"credits": -1}),
    "a huge body": httpx.Response(200, content=b" " * 2**21),
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_what_is_not_known_stays_unknown_and_disturbs_nothing(
    pipeline: Pipeline, provider: Provider, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    provider.credits = UNKNOWN[why]
    provider.results = [result_with(None)]
    deliver_one(pipeline)
    assert provider.credit_calls == 1
    assert (left(), written(pipeline, capsys)) == (None, {})
    assert (pipeline.gate().limiter.read().paused_until > 0) is (why == "limited")


@pytest.mark.parametrize("said", [None, "12", -3, True, 1e300, [1]])
def test_a_result_that_says_nothing_usable_changes_nothing(pipeline: Pipeline, said: Any) -> None:
    pipeline.provider.results = [result_with(said)]
    deliver_one(pipeline)
    assert left() is None


def test_a_table_that_fails_disturbs_nothing(pipeline: Pipeline) -> None:
    refused = []

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        if b'{"S": "credits"}' not in params["body"]:
            return None
        refused.append(params)
        return httpx.Response(400), {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "no"}}

    pipeline.hook("dynamodb", "UpdateItem", refuse)
    pipeline.provider.results = [result_with(1.0)]
    deliver_one(pipeline)
    assert len(refused) >= 2


@pytest.mark.parametrize(
    ("body", "usd"),
    [
        (b'{"credits": 1.5, "free-credits": 0.5}', 2.0),
        (b'{"credits": 0}', 0.0),
        (b'{"free-credits": 3}', 3.0),
        (b"\xef\xbb\xbf{}", None),
        (b'{"credits": NaN}', None),
        (b'{"credits": {"usd": 1}}', None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_how_the_account_is_read(body: bytes, usd: float | None) -> None:
    assert parse_credits(body) == usd


def test_the_jobs_that_are_paid_for_follow_the_learned_price() -> None:
    items = MemoryItems()
    store = CreditsStore(items, CONSISTENT_CHARACTER)
    store.note(0.147, 100.0)
    first = store.read()
    items.update("price", values={"usd": 0.049})
    second = store.read()
    assert first
    assert second
    assert (first.jobs, second.jobs) == (5, 3)
