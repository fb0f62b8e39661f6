"""A request without an answer is looked up in the provider's history before it is told to be of unknown outcome."""

from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters.base import DEFAULT_PROVIDERS

from tests.integration.conftest import API_KEY, Answer, Pipeline, Provider
from tests.support import image

HISTORY_HOST = "history.test"
FOLDER = (
    ("incoming/hero/face.png", image("png", (10, 10), "white")),
    ("incoming/hero/poses/walk.png", image("png", (12, 8), "black")),
)
NO_ANSWER = httpx.ReadTimeout("no answer")
TAKEN = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})


class WithHistory(Provider):
    """A provider whose history on another host shows what was posted, once it is `visible`, or answers `fault`."""

    def __init__(self) -> None:
        super().__init__()
        self.visible: Callable[[], bool] = lambda: True
        self.fault: Answer | None = None
        self.looks: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != HISTORY_HOST:
            return super().__call__(request)
        self.looks.append(request)
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
    """Upload a job of which no answer comes, and return its id."""
    pipeline.provider.submits = [NO_ANSWER]
    pipeline.put(*FOLDER[0])
    pipeline.upload(FOLDER[1])
    return str(pipeline.record()["job_id"])


def go_on(pipeline: Pipeline, job_id: str, seconds: float = 15.0) -> bool:
    """Let the job's own message come back."""
    pipeline.clock.now += seconds
    return pipeline.handle({"submit": job_id})


def told(pipeline: Pipeline) -> dict[str, Any]:
    """Run what was started, and return the only notification."""
    pipeline.run_all()
    (message,) = pipeline.notifications()
    return message  # type: ignore[no-any-return]


def test_found_at_once(pipeline: Pipeline, provider: WithHistory) -> None:
    job_id = submit(pipeline)
    assert list(pipeline.executions()) == [f"{job_id}-1"]
    message = told(pipeline)
    assert (message["status"], message["request_id"]) == ("SUCCEEDED", "request-1")
    assert len(provider.posts) == len(provider.looks) == 1


def test_found_later(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: len(provider.looks) >= 3
    job_id = submit(pipeline)
    assert pipeline.record()["status"] == "SUBMITTING"
    assert go_on(pipeline, job_id) is False
    assert go_on(pipeline, job_id)
    assert told(pipeline)["status"] == "SUCCEEDED"
    assert len(provider.posts) == len(pipeline.executions()) == 1


def test_not_found_within_the_grace_time(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    for _ in range(3):
        assert go_on(pipeline, job_id) is False
    assert not pipeline.executions()
    assert go_on(pipeline, job_id)
    assert len(provider.looks) == 5
    message = told(pipeline)
    assert message["error"]["type"] == "SubmitOutcomeUnknown"
    assert "no answer" in message["error"]["message"]
    assert len(provider.posts) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("SEGMIND_HISTORY_URL", ""), ("IMAGE_TRANSPORT", "base64")], ids=["turned-off", "base64"]
)
def test_without_a_history_it_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, provider: WithHistory, name: str, value: str
) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv(name, value)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    submit(pipeline)
    assert told(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    assert (len(provider.posts), len(provider.looks)) == (1, 0)


FAULTS: list[Answer] = [
    httpx.Response(500),
    httpx.Response(200, html="<html>"),
    httpx.ReadTimeout("hang"),
    httpx.Response(200, json={"message": "moved"}),
    httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["500", "html", "hang", "no-rows", "redirect"])
def test_with_a_faulty_history_it_is_told_at_once(pipeline: Pipeline, provider: WithHistory, fault: Answer) -> None:
    provider.fault = fault
    submit(pipeline)
    assert told(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    assert (len(provider.posts), len(provider.looks)) == (1, 1)


def test_a_missing_secret_is_a_fault_too(pipeline: Pipeline, provider: WithHistory) -> None:
    """It was deleted after the request was sent."""
    provider.visible = lambda: False
    job_id = submit(pipeline)
    boto3.client("secretsmanager").delete_secret(SecretId="segmind", ForceDeleteWithoutRecovery=True)
    for secrets in DEFAULT_PROVIDERS.values():
        secrets.clear_cache()
    assert go_on(pipeline, job_id)
    assert pipeline.record()["error"]["type"] == "SubmitOutcomeUnknown"


def test_the_key_goes_to_the_history_and_to_the_provider_only(pipeline: Pipeline, provider: WithHistory) -> None:
    submit(pipeline)
    pipeline.run_all()
    with_key = {(r.url.host, r.url.path) for r in [*provider.requests, *provider.looks] if "x-api-key" in r.headers}
    assert {host for host, _ in with_key} == {"segmind.test", HISTORY_HOST}
    assert not [path for host, path in with_key if path.startswith("/media")]
    assert all(API_KEY not in str(look.url) for look in provider.looks)


def test_resubmit_unknown_sends_again_only_what_is_not_found(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, provider: WithHistory
) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv("RESUBMIT_UNKNOWN", "true")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    provider.visible = lambda: False
    job_id = submit(pipeline)
    for _ in range(3):
        go_on(pipeline, job_id)
    assert len(provider.posts) == 1
    go_on(pipeline, job_id)  # the grace time is over
    assert pipeline.record()["status"] == "QUEUED"
    provider.submits = [TAKEN]
    assert go_on(pipeline, job_id)
    assert len(provider.posts) == 2
    assert told(pipeline)["status"] == "SUCCEEDED"


def test_a_new_attempt_looks_for_the_request_of_the_one_before(pipeline: Pipeline, provider: WithHistory) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    assert told(pipeline)["error"]["type"] == "SubmitOutcomeUnknown"
    provider.visible = lambda: True
    assert pipeline.handle({"retry": job_id})
    pipeline.run(list(pipeline.executions().values())[-1])
    (message,) = pipeline.notifications()
    assert (message["attempt"], message["status"], message["request_id"]) == (2, "SUCCEEDED", "request-1")
    assert len(provider.posts) == 1


def unknown_twice(pipeline: Pipeline, provider: WithHistory) -> str:
    """Let a job's first attempt be of unknown outcome, and its second be bought without a look; return its id."""
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    provider.submits = [TAKEN]
    provider.fault = httpx.Response(503)
    for _ in range(5):
        pipeline.receive_count += 1
        pipeline.handle({"retry": job_id} if pipeline.receive_count == 2 else {"submit": job_id})
    provider.fault, provider.visible, pipeline.receive_count = None, lambda: True, 1
    return job_id


def test_a_history_that_cannot_be_asked_is_asked_again_before_anything_is_bought(
    pipeline: Pipeline, provider: WithHistory
) -> None:
    provider.visible = lambda: False
    job_id = submit(pipeline)
    go_on(pipeline, job_id, 60)
    pipeline.run_all()
    provider.fault = httpx.Response(503)
    pipeline.later.clear()
    assert pipeline.handle({"retry": job_id})
    assert [delay for _, delay in pipeline.later] == [15]
    provider.fault, provider.visible = None, lambda: True
    assert pipeline.resume()
    assert (pipeline.record()["status"], pipeline.record()["request_id"]) == ("SUBMITTED", "request-1")
    assert len(provider.posts) == 1


def test_a_third_attempt_looks_for_the_first_whose_outcome_was_unknown(
    pipeline: Pipeline, provider: WithHistory
) -> None:
    completed = provider.statuses[0]
    job_id = unknown_twice(pipeline, provider)
    assert len(provider.posts) == 2
    provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})]
    pipeline.run(list(pipeline.executions().values())[-1])
    # The second attempt has failed at the provider, the first is there: it is not bought a third time.
    provider.statuses = [completed]
    assert pipeline.handle({"retry": job_id})
    assert (pipeline.record()["attempt"], pipeline.record()["request_id"]) == (3, "request-1")
    assert len(provider.posts) == 2


def test_a_third_attempt_looks_for_the_second_though_the_first_is_known(
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
