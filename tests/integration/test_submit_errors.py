"""The error table of the design, submit's side: what the provider answers, what fails here, and what becomes of the job."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters.base import DEFAULT_PROVIDERS

from tests.integration.conftest import API_KEY, BUCKET, TABLE, Pipeline
from tests.support import image, load_event

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.png", image("png", (9, 9), "gray"))
RUN = ("incoming/hero/poses/run.png", image("png", (7, 7), "gray"))

TAKEN = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})
REFUSED = httpx.ConnectError("connection refused")


def answer(status: int, text: str = "because", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": text}, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
def walk(pipeline: Pipeline) -> dict[str, Any]:
    """The event of a pose whose face is there."""
    pipeline.put(*FACE)
    return pipeline.put(*WALK)


def statuses(pipeline: Pipeline) -> dict[str, str]:
    return {item["pose"]: item["status"] for item in pipeline.records().values()}


def check_failed(pipeline: Pipeline, error_type: str, text: str) -> None:
    """The job has ended so, its end is told by one execution and one notification, and nothing comes back."""
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", error_type)
    assert text in record["error"]["message"]
    job_id = record["job_id"]
    assert pipeline.executions() == {f"{job_id}-1": {"job_id": job_id, "attempt": 1, "finished": True}}
    pipeline.run_all()
    assert [told["error"]["type"] for told in pipeline.notifications()] == [error_type]
    assert pipeline.later == []
    assert pipeline.receive(pipeline.dead_letter_url) == []


# ---- what the provider answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
def test_a_rejected_job_ends_with_the_provider_s_text(pipeline: Pipeline, walk: object, status: int) -> None:
    pipeline.provider.submits = [answer(status, "the prompt is " + "too " * 1000)]
    assert pipeline.handle(walk)
    check_failed(pipeline, "Rejected", f"the provider answered {status}: the prompt is too too")
    assert len(pipeline.record()["error"]["message"].encode()) <= 1024
    assert pipeline.handle(walk)
    assert len(pipeline.provider.posts) == 1


UNKNOWN = [
    pytest.param(httpx.ReadTimeout("no answer"), "ReadTimeout", id="read timeout"),
    pytest.param(httpx.ReadError("reset"), "ReadError", id="reset"),
    pytest.param(httpx.WriteError("broken pipe"), "WriteError", id="write error"),
    pytest.param(httpx.WriteTimeout("slow"), "WriteTimeout", id="write timeout"),
    pytest.param(httpx.RemoteProtocolError("closed"), "RemoteProtocolError", id="closed"),
    pytest.param(answer(504), "504", id="504"),
    pytest.param(answer(408), "408", id="408"),
    pytest.param(answer(418), "418", id="418"),
    pytest.param(answer(501), "501", id="501"),
    pytest.param(answer(302, location="http://elsewhere.test/"), "302", id="302"),
    pytest.param(httpx.Response(200, json={"status": "QUEUED"}), "without a request id", id="no request id"),
    pytest.param(httpx.Response(200, content=b"<html></html>"), "without a request id", id="no JSON"),
]


@pytest.mark.parametrize(("fault", "text"), UNKNOWN)
def test_an_unknown_outcome_is_told_and_never_sent_again(
    pipeline: Pipeline, walk: object, fault: httpx.Response | Exception, text: str
) -> None:
    pipeline.provider.submits = [fault, TAKEN]
    assert pipeline.handle(walk)
    assert pipeline.handle(walk)
    check_failed(pipeline, "SubmitOutcomeUnknown", text)
    assert len(pipeline.provider.requests) == 1


NOT_TAKEN = [
    pytest.param(answer(500), "500", id="500"),
    pytest.param(httpx.Response(502, content=b"<html><h1>Bad gateway</h1></html>"), "502: Bad gateway", id="502 HTML"),
    pytest.param(answer(503), "503", id="503"),
    pytest.param(REFUSED, "connection refused", id="refused"),
    pytest.param(httpx.ConnectTimeout("slow"), "ConnectTimeout", id="connect timeout"),
    pytest.param(httpx.ConnectError("[SSL] handshake"), "handshake", id="TLS"),
]


@pytest.mark.parametrize(("fault", "text"), NOT_TAKEN)
def test_what_was_not_taken_comes_back(
    pipeline: Pipeline, walk: object, fault: httpx.Response | Exception, text: str
) -> None:
    pipeline.provider.submits = [fault, TAKEN]
    assert pipeline.handle(walk)
    record = pipeline.record()
    assert record["status"] == "QUEUED"
    assert text in record["reason"]
    assert record["hold_until"]
    assert pipeline.executions() == {}
    ((body, delay),) = pipeline.later
    assert (json.loads(body), delay) == ({"submit": record["job_id"]}, 15)
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"
    assert len(pipeline.provider.posts) == 2
    assert len(pipeline.executions()) == 1


def test_an_outage_is_waited_out_later_and_later(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [REFUSED]
    pipeline.handle(walk)
    delays = []
    for receive_count in range(1, 12):
        pipeline.receive_count = receive_count
        assert not pipeline.resume()
        delays.append(pipeline.later[0][1])
    assert delays == [15, 30, 60, 120, 240, 480, 900, 900, 900, 900, 900]
    assert pipeline.record()["status"] == "QUEUED"
    assert "errors" not in pipeline.record()
    assert pipeline.receive(pipeline.dead_letter_url) == []


@pytest.mark.parametrize(("headers", "seconds"), [({}, 10), ({"retry_after": "42"}, 42), ({"retry_after": "9999"}, 300)])
def test_a_429_pauses_for_retry_after(
    pipeline: Pipeline, walk: object, headers: dict[str, str], seconds: float
) -> None:
    pipeline.provider.submits = [answer(429, **headers), TAKEN]
    assert pipeline.handle(walk)
    assert [delay for _, delay in pipeline.later] == [seconds]
    assert pipeline.handle(pipeline.put(*SIT))
    assert len(pipeline.provider.posts) == 1  # the other job waits as well
    assert statuses(pipeline) == {"walk": "QUEUED", "sit": "QUEUED"}
    while pipeline.later:
        pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 3


# ---- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 406])
def test_a_refused_account_pauses_and_resumes_by_itself_with_one_probe(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]], status: int
) -> None:
    pipeline.provider.submits = [answer(status), answer(status), TAKEN]
    assert pipeline.upload(FACE, WALK, SIT, RUN)
    assert set(statuses(pipeline).values()) == {"QUEUED"}
    assert len(pipeline.provider.posts) == 1
    assert all(str(status) in item["reason"] for item in pipeline.records().values())
    assert [line["level"] for line in logs() if line["message"] == "submitting is paused"] == ["ERROR"]
    assert {delay for _, delay in pipeline.later} == {900}
    pipeline.resume()  # the probe: refused again
    for _ in range(2):
        pipeline.resume()
    assert len(pipeline.provider.posts) == 2
    assert max(delay for _, delay in pipeline.later) == 1800
    while pipeline.later:
        pipeline.resume()
    assert set(statuses(pipeline).values()) == {"SUBMITTED"}
    assert len(pipeline.provider.posts) == 5
    assert pipeline.receive(pipeline.dead_letter_url) == []


def test_a_rotated_key_is_used_at_once(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [answer(401), TAKEN]
    secrets = boto3.client("secretsmanager")

    def rotate(**_: Any) -> None:
        secrets.put_secret_value(SecretId="segmind", SecretString="SG_new\n")

    for provider in DEFAULT_PROVIDERS.values():
        provider.clear_cache()
    end = pipeline.hook("secretsmanager", "GetSecretValue", rotate) if not pipeline.handle_once(walk) else None
    assert end is None
