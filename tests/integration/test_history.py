"""A request without a response is searched for in the provider's history before its job fails."""

from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS

from tests.integration.conftest import API_KEY, Pipeline, Provider, Reply
from tests.support import FIRST_PRICE, image

HISTORY_HOST = "history.test"
FOLDER = (
    ("incoming/hero/face.png", image("png", (10, 10), "white")),
    ("incoming/hero/poses/walk.png", image("png", (12, 8), "black")),
)
NO_ANSWER = httpx.ReadTimeout("no response")
ACCEPTED = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})


class WithHistory(Provider):
    """A provider whose history on another host shows what was posted, once it is `visible`, or answers `fault`."""

    def __init__(self) -> None:
        super().__init__()
        self.visible: Callable[[], bool] = lambda: True
        self.fault: Reply | None = None
        self.searches: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != HISTORY_HOST:
            return super().__call__(request)
        self.searches.append(request)
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault:
            return self.fault
        rows = [
            {"request_id": f"request-{number}", "model_status": "PENDING", "request_body": body}
            for number, body in enumerate(self.posts, start=1)
        ]
        return httpx.Response(200, json={"generations": rows if self.visible() else []})


@pytest.fixture
def provider() -> WithHistory:
    return WithHistory()


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", f"https://{HISTORY_HOST}")
    return environment


def submit(pipeline: Pipeline) -> str:
    """Upload a job of which no response comes, and return its id."""
    pipeline.provider.submits = [NO_ANSWER]
    pipeline.put(*FOLDER[0])
    pipeline.upload(FOLDER[1])
    return str(pipeline.record()["job_id"])


def go_on(pipeline: Pipeline, job_id: str, seconds: float = 15.0) -> bool:
    """Redeliver the job's own message."""
    pipeline.clock.now += seconds
    return pipeline.dispatch_one(job_id)


def notified(pipeline: Pipeline) -> dict[str, Any]:
    """Run what was started, and return the only notification."""
    pipeline.run_all()
    (message,) = pipeline.notifications()
    return message


def test_found_after_a_minute(pipeline: Pipeline, provider: WithHistory) -> None:
    job_id = submit(pipeline)
    assert not provider.searches  # a request may take a minute to appear
    assert [delay for _, delay in pipeline.later] == [60]
    assert pipeline.resume()
    assert list(pipeline.executions()) == [f"{job_id}-1"]
    message = notified(pipeline)
    assert (message["status"], message["request_id"]) == ("SUCCEEDED", "request-1")
    assert len(provider.posts) == len(provider.searches) == 1


def test_not_found(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    assert go_on(pipeline, job_id, 30) is False  # too early
    assert not provider.searches
    assert go_on(pipeline, job_id, 31)
    message = notified(pipeline)
    assert message["error"]["type"] == "SubmitOutcomeUnknown"
    assert "no response" in message["error"]["message"]
    assert (len(provider.posts), len(provider.searches)) == (1, 1)
    assert [request["status"] for request in pipeline.record()["requests"]] == ["ABSENT"]


@pytest.mark.parametrize(
    ("name", "value"), [("SEGMIND_HISTORY_URL", ""), ("IMAGE_TRANSPORT", "base64")], ids=["turned-off", "base64"]
)
def test_without_a_history_it_is_notified_at_once(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, provider: WithHistory, name: str, value: str
) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv(name, value)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    submit(pipeline)
    assert notified(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    assert (len(provider.posts), len(provider.searches)) == (1, 0)


PASSING: list[Reply] = [
    httpx.Response(500),
    httpx.Response(429),
    httpx.Response(200, html="<html>"),
    httpx.ReadTimeout("hang"),
    httpx.Response(200, json={"message": "moved"}),
]
FINAL: list[Reply] = [
    httpx.Response(404),
    httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
]


@pytest.mark.parametrize("fault", PASSING, ids=["500", "429", "html", "hang", "no-rows"])
def test_a_history_that_cannot_say_is_asked_again_for_ten_minutes(
    pipeline: Pipeline, provider: WithHistory, fault: Reply
) -> None:
    provider.fault = fault
    job_id = submit(pipeline)
    assert go_on(pipeline, job_id, 60) is False
    assert go_on(pipeline, job_id, 530) is False
    assert pipeline.executions() == {}
    assert go_on(pipeline, job_id, 30)
    assert notified(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    assert (len(provider.posts), len(provider.searches)) == (1, 3)
    assert [request["status"] for request in pipeline.record()["requests"]] == ["UNRESOLVED"]


@pytest.mark.parametrize("fault", FINAL, ids=["404", "redirect"])
def test_where_there_is_no_history_it_is_asked_once(pipeline: Pipeline, provider: WithHistory, fault: Reply) -> None:
    provider.fault = fault
    job_id = submit(pipeline)
    assert go_on(pipeline, job_id, 60)
    assert notified(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    assert (len(provider.posts), len(provider.searches)) == (1, 1)


def test_a_history_that_can_be_read_again_is_used(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.fault = httpx.Response(503)
    job_id = submit(pipeline)
    assert go_on(pipeline, job_id, 60) is False
    provider.fault = None
    assert go_on(pipeline, job_id, 30)
    assert notified(pipeline)["status"] == "SUCCEEDED"
    assert len(provider.posts) == 1


def test_a_missing_secret_is_a_fault_too(pipeline: Pipeline, provider: WithHistory) -> None:
    """It was deleted after the request was sent."""
    provider.visible = lambda: False
    job_id = submit(pipeline)
    boto3.client("secretsmanager").delete_secret(SecretId="segmind", ForceDeleteWithoutRecovery=True)
    for secrets in DEFAULT_PROVIDERS.values():
        secrets.clear_cache()
    assert go_on(pipeline, job_id, 600)
    assert pipeline.record()["error"]["type"] == "SubmitOutcomeUnknown"


def test_the_key_goes_to_the_history_and_to_the_provider_only(pipeline: Pipeline, provider: WithHistory) -> None:
    submit(pipeline)
    assert pipeline.resume()
    pipeline.run_all()
    with_key = {(r.url.host, r.url.path) for r in [*provider.requests, *provider.searches] if "x-api-key" in r.headers}
    assert {host for host, _ in with_key} == {"segmind.test", HISTORY_HOST}
    assert not [path for host, path in with_key if path.startswith("/media")]
    assert all(API_KEY not in str(search.url) for search in provider.searches)


def test_a_new_attempt_searches_for_the_request_of_the_previous_one(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    assert notified(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    provider.visible = lambda: True
    assert pipeline.handle({"retry": job_id})
    pipeline.run(list(pipeline.executions().values())[-1])
    (message,) = pipeline.notifications()
    assert (message["attempt"], message["status"], message["request_id"]) == (2, "SUCCEEDED", "request-1")
    assert len(provider.posts) == 1


def test_a_retry_waits_for_a_history_that_is_down(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    pipeline.notifications()
    provider.fault = httpx.Response(503)
    pipeline.messages.clear()
    assert not pipeline.handle({"retry": job_id})
    for _ in range(40):
        ((_, delay),) = pipeline.later
        assert delay == 30
        pipeline.resume()
    assert len(provider.posts) == 1
    assert pipeline.record()["reason_code"] == "EARLIER_REQUEST"
    provider.fault, provider.visible = None, lambda: True
    assert pipeline.resume()
    assert (pipeline.record()["status"], pipeline.record()["request_id"]) == ("SUBMITTED", "request-1")
    assert len(provider.posts) == 1


@pytest.mark.parametrize("gone", ["404", "a day"])
def test_a_retry_without_a_history_says_how_to_pay_again(pipeline: Pipeline, provider: WithHistory, gone: str) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    pipeline.notifications()
    provider.fault = httpx.Response(404 if gone == "404" else 503)
    pipeline.handle({"retry": job_id})
    if gone == "a day":
        assert go_on(pipeline, job_id, 86401)
    pipeline.run(list(pipeline.executions().values())[-1])
    (message,) = pipeline.notifications()
    assert (message["attempt"], message["error"]["type"]) == (2, "SubmitOutcomeUnknown")
    assert "--buy-again" in message["error"]["message"]
    assert len(provider.posts) == 1
    provider.submits = [ACCEPTED]
    assert pipeline.handle({"retry": job_id, "buy_again": True})
    pipeline.run(list(pipeline.executions().values())[-1])
    (message,) = pipeline.notifications()
    assert (message["attempt"], message["status"]) == (3, "SUCCEEDED")
    assert len(provider.posts) == 2


def test_a_third_attempt_searches_for_the_first_whose_outcome_was_unknown(
    pipeline: Pipeline, provider: WithHistory
) -> None:
    completed = provider.statuses[0]
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    provider.submits = [httpx.Response(200, json={"request_id": "request-2"})]
    pipeline.handle({"retry": job_id})  # the history does not have it, still: it is bought
    assert len(provider.posts) == 2
    provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})]
    pipeline.run(list(pipeline.executions().values())[-1])
    # The second attempt has failed at the provider, and now the first is there: it is not bought a third time.
    provider.visible = lambda: True
    provider.statuses = [provider.statuses[0], completed]
    assert pipeline.handle({"retry": job_id})
    assert (pipeline.record()["attempt"], pipeline.record()["request_id"]) == (3, "request-1")
    assert len(provider.posts) == 2


def test_two_requests_are_looked_up_in_two_invocations(pipeline: Pipeline, provider: WithHistory) -> None:
    """A slow history leaves no time for both, or for the request: what was learned is kept (P9)."""
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    pipeline.handle({"retry": job_id})
    pipeline.clock.now += 1
    go_on(pipeline, job_id, 60)
    pipeline.run(list(pipeline.executions().values())[-1])
    assert [request["status"] for request in pipeline.record()["requests"]] == ["ABSENT", "ABSENT"]
    assert len(provider.posts) == 2
    provider.submits = [httpx.Response(200, json={"request_id": "request-3"})]
    searches = len(provider.searches)
    pipeline.close_breaker()  # two unknown outcomes in a row have opened it
    assert not pipeline.handle({"retry": job_id}, seconds=26)
    assert len(provider.searches) == searches + 2
    assert len(provider.posts) == 2
    assert pipeline.dispatch_one(job_id)
    assert len(provider.searches) == searches + 2
    assert len(provider.posts) == 3


def test_a_third_attempt_searches_for_the_second_although_the_first_is_known(
    pipeline: Pipeline, provider: WithHistory
) -> None:
    failed = httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})
    completed = provider.statuses[0]
    provider.statuses = [failed]
    pipeline.upload(*FOLDER)
    job_id = str(pipeline.record()["job_id"])
    pipeline.run_all()
    provider.submits, provider.visible = [NO_ANSWER], lambda: False
    pipeline.handle({"retry": job_id})
    go_on(pipeline, job_id, 60)
    pipeline.run(list(pipeline.executions().values())[-1])
    provider.visible = lambda: True
    provider.statuses = [completed]
    assert pipeline.handle({"retry": job_id})
    pipeline.run(list(pipeline.executions().values())[-1])
    messages = pipeline.notifications()
    assert [(m["attempt"], m["status"], m["request_id"]) for m in messages] == [
        (1, "FAILED", "request-1"),
        (2, "FAILED", None),
        (3, "SUCCEEDED", "request-2"),
    ]
    assert len(provider.posts) == 2


# ---- beside other jobs and functions ---------------------------------------------------------------------------------


@pytest.fixture
def short_pause(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> float:
    """A pause after a refusal in which a request of unknown outcome is not given up: its seconds."""
    monkeypatch.setenv("ACCOUNT_PAUSE_SECONDS", "100")
    return 100.0


@pytest.mark.parametrize("history", ["is down", "has the request"])
def test_a_job_that_needs_no_request_now_leaves_the_probe_to_the_next_one(
    short_pause: float, pipeline: Pipeline, provider: WithHistory, history: str
) -> None:
    provider.submits = [httpx.Response(500), httpx.Response(401), ACCEPTED]
    provider.fault = httpx.Response(503) if history == "is down" else None
    pipeline.put(*FOLDER[0])
    pipeline.upload(FOLDER[1], *((f"incoming/hero/poses/{name}.png", FOLDER[1][1]) for name in ("sit", "run")))
    assert len(provider.posts) == 2
    pipeline.pass_time(short_pause + 1)
    assert pipeline.run_dispatch()["sent"] == 1  # the probe is the job that was answered 500
    assert pipeline.drain()
    assert len(provider.searches) == 1
    assert len(provider.posts) == 4
    found = {record["pose"]: record["status"] for record in pipeline.records().values()}
    assert found == {"walk": "QUEUED" if provider.fault else "SUBMITTED", "sit": "SUBMITTED", "run": "SUBMITTED"}
    assert not pipeline.messages


@pytest.mark.parametrize(("response", "spent"), [(NO_ANSWER, 0.0), (httpx.Response(500), FIRST_PRICE)])
def test_the_charge_of_a_request_that_two_functions_find_absent_is_given_back_once(
    pipeline: Pipeline, provider: WithHistory, response: Reply, spent: float
) -> None:
    provider.visible = lambda: False
    provider.submits = [response, ACCEPTED]
    pipeline.put(*FOLDER[0])
    pipeline.upload(FOLDER[1])
    job_id = str(pipeline.record()["job_id"])
    number = int(pipeline.record()["dispatch_number"])
    inner: list[bool] = []

    def another(params: dict[str, Any], **_: Any) -> None:
        if b"ABSENT" in params["body"] and not inner:
            inner.append(True)
            pipeline.clock.now += 1
            pipeline.handle({"submit": job_id, "number": number})

    pipeline.clock.now += 61
    pipeline.hook("dynamodb", "UpdateItem", another)
    pipeline.handle({"submit": job_id, "number": number})
    assert inner
    assert pipeline.record()["requests"][0]["status"] == "ABSENT"
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == spent
