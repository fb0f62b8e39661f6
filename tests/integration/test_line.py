"""The way of a job through intake, the line, dispatch and submit, on moto."""

import json
from typing import Any

import boto3
import httpx
import pytest

from posedrop.aws.places import client_item
from tests.integration.conftest import Pipeline
from tests.integration.test_submit_errors import FACE, REFUSED, RUN, SIT, WALK, respond_with, statuses
from tests.support import FIRST_PRICE, Context, image, load_event

MINUTE = 60.0


def settings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, **values: str) -> Pipeline:
    """A pipeline of a stack with other parameters."""
    request.getfixturevalue("environment")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    return pipeline


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pipeline:
    """A pipeline with two requests a minute: four jobs are dispatched at once, and a fifth waits in line."""
    return settings(monkeypatch, request, SEGMIND_REQUESTS_PER_MINUTE="2")


def upload(pipeline: Pipeline, *names: str) -> None:
    """Upload poses, as `client/name`, whose character's face is there, and handle their events."""
    for name in names:
        client, _, pose = name.partition("/")
        pipeline.put(f"incoming/{client}/face.png", image())
        pipeline.handle(pipeline.put(f"incoming/{client}/poses/{pose}.png", image(color="green")))


def standing(pipeline: Pipeline) -> dict[str, str | None]:
    """The place of each pose's job."""
    return {str(record["pose"]): record.get("stands") for record in pipeline.records().values()}


# ---- in line ---------------------------------------------------------------------------------------------------------


def test_a_job_is_sent_at_once_if_the_line_is_empty(small: Pipeline) -> None:
    upload(small, "hero/1")
    assert statuses(small) == {"1": "SUBMITTED"}
    record = small.record()
    assert (record["rank"], record["dispatch_number"]) == (0, 1)
    assert not {"stands", "place", "send_at"} & set(record)


def test_a_job_without_a_free_time_waits_in_line_for_its_turn(small: Pipeline) -> None:
    upload(small, *(f"hero/{number}" for number in range(6)))
    assert standing(small) == {"0": None, "1": "due", "2": "due", "3": "in line", "4": "in line", "5": "in line"}
    small.live(4 * MINUTE)
    assert set(statuses(small).values()) == {"SUBMITTED"}
    assert len(small.provider.posts) == 6


def test_all_events_of_a_folder_make_one_message_a_job(small: Pipeline) -> None:
    files: list[tuple[str, bytes | dict[str, Any]]] = [("face.png", image()), ("job.json", {"prompt": "a walk"})]
    files += [(f"poses/{number}.png", image(color="green")) for number in range(5)]
    events = [small.put(f"incoming/hero/{name}", body) for name, body in files]
    small.clock.now += 10
    for _ in range(2):
        for event in events:
            assert small.handle(event)
    assert len(small.messages) == 2  # and one went at once
    assert sorted(record["dispatch_number"] for record in small.records().values()) == [1] * 5


def test_clients_take_turns(small: Pipeline) -> None:
    upload(small, *(f"big/{number}" for number in range(8)), "small/0")
    ranks = {record["pose"]: record["rank"] for record in small.records().values() if record["character"] == "big"}
    assert [int(ranks[str(number)]) for number in range(8)] == [0, 0, 0, 1, 2, 3, 4, 5]
    (job,) = (record for record in small.records().values() if record["character"] == "small")
    assert job["rank"] == 1
    client = small.dynamodb.get_item(Key={"job_id": client_item("big/whoever")})["Item"]
    assert (client["rank"], client["expires_at"]) == (5, int(small.clock.now + 90 * 86400))


def test_a_message_of_an_earlier_dispatch_does_nothing(small: Pipeline) -> None:
    upload(small, *(f"hero/{number}" for number in range(2)))
    ((body, _),) = small.messages
    job_id = json.loads(body)["submit"]
    small.messages.clear()  # it comes much later
    small.pass_time(700)
    small.run_dispatch()
    assert small.drain()
    record = small.records()[job_id]
    assert (record["status"], record["dispatch_number"]) == ("SUBMITTED", 2)
    posts = len(small.provider.posts)
    assert small.handle(body)
    assert len(small.provider.posts) == posts
    assert small.records()[job_id] == record


def test_a_message_of_an_earlier_dispatch_sends_nothing_while_its_job_waits(small: Pipeline) -> None:
    upload(small, *(f"hero/{number}" for number in range(2)))
    ((old, _),) = small.messages
    job_id = json.loads(old)["submit"]
    small.gate().limiter.pause(small.clock.now, 300)
    assert small.resume()  # the gate is closed: the job goes back into the line
    assert small.item(job_id)["stands"] == "in line"
    posts = len(small.provider.posts)

    def nothing_is_sent(message: str) -> None:
        before = small.records()
        assert small.submit.handler({"Records": [small.record_of(message)]}, Context()) == {"batchItemFailures": []}
        assert len(small.provider.posts) == posts
        assert small.records() == before

    small.pass_time(301)
    nothing_is_sent(old)
    assert small.run_dispatch()["sent"] == 1
    assert small.item(job_id)["stands"] == "due"
    nothing_is_sent(old)
    nothing_is_sent(json.dumps({"submit": job_id}))  # as the sweep sends it for a job that was claimed
    assert small.drain()
    assert small.records()[job_id]["status"] == "SUBMITTED"
    assert len(small.provider.posts) == posts + 1


def test_a_crash_between_the_record_and_its_message_is_made_good_after_ten_minutes(pipeline: Pipeline) -> None:
    pipeline.put(*FACE)
    pose = pipeline.put(*WALK)
    end = pipeline.hook("sqs", "SendMessageBatch", lambda **_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        pipeline.handle(pose)
    end()
    assert pipeline.record()["status"] == "QUEUED"
    assert pipeline.handle(pose)  # the message comes again
    assert pipeline.provider.posts == []
    pipeline.pass_time(601)
    pipeline.run_dispatch()
    assert pipeline.drain()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


def test_a_queue_that_does_not_take_a_message_costs_no_job(small: Pipeline) -> None:
    upload(small, *(f"hero/{number}" for number in range(4)))
    small.messages.clear()
    small.break_call("sqs", "SendMessageBatch", times=1)
    small.live(23 * MINUTE)
    assert set(statuses(small).values()) == {"SUBMITTED"}
    assert len(small.provider.posts) == 4


def test_the_sample_event_of_dispatch(pipeline: Pipeline) -> None:
    assert pipeline.dispatch.handler(load_event("dispatch.json"), Context()) == {"sent": 0, "returned": 0}


def test_a_message_for_another_queue_is_a_dead_letter_that_says_so(pipeline: Pipeline) -> None:
    submit, pose = load_event("submit.json"), load_event("intake-pose.json")
    assert pipeline.intake.handler(submit, Context()) == {"batchItemFailures": []}
    assert pipeline.submit.handler(pose, Context()) == {"batchItemFailures": []}
    letters = pipeline.receive(pipeline.dead_letter_url)
    said = [{name: found["StringValue"] for name, found in letter["MessageAttributes"].items()} for letter in letters]
    assert said == [
        {"reason": "the message belongs to another queue", "source": "uploads"},
        {"reason": "the message belongs to another queue", "source": "submits"},
    ]


# ---- the gate --------------------------------------------------------------------------------------------------------


def test_a_new_job_while_the_gate_is_closed_says_what_it_waits_for(pipeline: Pipeline) -> None:
    pipeline.gate().limiter.pause(pipeline.clock.now, 300)
    pipeline.upload(FACE, WALK)
    record = pipeline.record()
    assert (record["stands"], record["reason_code"]) == ("in line", "RATE_LIMIT")
    assert "429" in record["reason"]
    assert record["deferred_until"]
    assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert not {"reason", "reason_code", "deferred_until"} & set(pipeline.record())


def test_a_message_that_meets_a_closed_gate_puts_its_job_back_at_its_old_rank(small: Pipeline) -> None:
    upload(small, *(f"hero/{number}" for number in range(6)))
    before = {record["pose"]: record["rank"] for record in small.records().values()}
    small.gate().limiter.pause(small.clock.now, 300)
    while small.messages:
        assert small.resume()
    assert standing(small) == {"0": None} | dict.fromkeys("12345", "in line")
    assert {record["pose"]: record["rank"] for record in small.records().values()} == before
    assert len(small.provider.posts) == 1
    small.live(9 * MINUTE)
    at = {record["pose"]: record["submitted_at"] for record in small.records().values()}
    assert sorted(at, key=lambda pose: at[pose]) == ["0", "1", "2", "3", "4", "5"]


def test_the_job_that_closes_the_breaker_wakes_the_line(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [respond_with(401), httpx.Response(200, json={"request_id": "request-1"})]
    pipeline.upload(FACE, WALK, SIT, RUN)
    assert set(statuses(pipeline).values()) == {"QUEUED"}
    pipeline.resume()  # the probe, and at once all others
    assert set(statuses(pipeline).values()) == {"SUBMITTED"}
    assert len(pipeline.provider.posts) == 4


def test_a_new_key_is_used_within_two_minutes_though_the_pause_is_longer(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [respond_with(401), httpx.Response(200, json={"request_id": "request-1"})]
    pipeline.upload(FACE, WALK, SIT)
    pipeline.pass_time(MINUTE)
    assert pipeline.run_dispatch() == {"sent": 0, "returned": 0}
    boto3.client("secretsmanager").put_secret_value(SecretId="segmind", SecretString="SG_new")
    changed = boto3.client("secretsmanager").describe_secret(SecretId="segmind")["LastChangedDate"].timestamp()
    # The tests' clock and moto's are not the same: the breaker opened before the key was changed.
    pipeline.gate().breaker.change(lambda state: (state.resumed(state.opened_at), None))
    pipeline.gate().breaker.change(
        lambda state: (type(state)(**{**vars(state), "opened_at": changed - 1, "open_until": 2e9}), None)
    )
    pipeline.run_dispatch()
    assert pipeline.drain()
    assert set(statuses(pipeline).values()) == {"SUBMITTED"}
    assert pipeline.provider.requests[-1].headers["x-api-key"] == "SG_new"


# ---- the budget ------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_the_budget_says_so_and_is_sent_with_a_larger_one(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pipeline = settings(monkeypatch, request, DAILY_BUDGET=str(2 * FIRST_PRICE), MONTHLY_BUDGET="1")
    pipeline.clock.now = pipeline.clock.now // 86400 * 86400 + 86400 + 12 * 3600
    pipeline.upload(FACE, WALK, SIT, RUN)
    assert sorted(statuses(pipeline).values()) == ["QUEUED", "SUBMITTED", "SUBMITTED"]
    (record,) = (record for record in pipeline.records().values() if record["status"] == "QUEUED")
    assert (record["stands"], record["reason_code"]) == ("in line", "DAILY_BUDGET")
    assert "DailyBudget" in record["reason"]
    assert record["deferred_until"].endswith("T00:00:00.000Z")
    pipeline.pass_time(MINUTE)
    assert pipeline.run_dispatch()["sent"] == 0
    monkeypatch.setenv("DAILY_BUDGET", "1")  # a deployment starts the functions again
    raised = pipeline.restarted()
    raised.run_dispatch()
    assert raised.drain()
    assert set(statuses(raised).values()) == {"SUBMITTED"}


def test_a_delivered_job_settles_the_budget_with_its_cost(pipeline: Pipeline) -> None:
    result = pipeline.provider.results[0]
    assert isinstance(result, httpx.Response)
    body = result.json()
    pipeline.provider.results = [httpx.Response(200, json={**body, "metrics": {**body["metrics"], "cost": 0.05}})]
    pipeline.upload(FACE, WALK)
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == FIRST_PRICE
    pipeline.run_all()
    spending = pipeline.gate().budgets.read(pipeline.clock.now)
    assert (spending.day, spending.price) == (0.05, 0.05)
    assert spending.delivered_at == pipeline.clock.now
    pipeline.run_all()  # delivered twice
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == 0.05


def test_what_the_history_never_had_is_given_back_once(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [REFUSED]
    pipeline.upload(FACE, WALK)
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == 0


# ---- the metrics -----------------------------------------------------------------------------------------------------


def test_dispatch_writes_its_metrics_each_time(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> dict[str, Any]:
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        return {
            name: value[0] if isinstance(value, list) else value
            for line in lines
            for name, value in line.items()
            if name in ("OldestJobSeconds", "NoSuccessSeconds", "Paused", "WaitingForBudget")
        }

    pipeline.run_dispatch()
    assert written() == {"OldestJobSeconds": 0, "NoSuccessSeconds": 0, "Paused": 0, "WaitingForBudget": 0}
    pipeline.provider.submits = [respond_with(401)]
    pipeline.upload(FACE, WALK)
    pipeline.pass_time(100)
    capsys.readouterr()
    pipeline.run_dispatch()
    found = written()
    assert (round(found["OldestJobSeconds"]), found["NoSuccessSeconds"], found["Paused"]) == (100, 0, 1)
