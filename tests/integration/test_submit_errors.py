"""Errors of submit: the provider's responses, faults of the function, and how the job ends."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS

from posedrop.contract.times import rfc3339
from tests.integration.conftest import API_KEY, BUCKET, Pipeline
from tests.support import FIRST_PRICE, Context, image, load_event

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.png", image("png", (9, 9), "gray"))
RUN = ("incoming/hero/poses/run.png", image("png", (7, 7), "gray"))

ACCEPTED = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})
REFUSED = httpx.ConnectError("connection refused")


def respond_with(status: int, text: str = "because", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": text}, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
def walk(pipeline: Pipeline) -> dict[str, Any]:
    """The event of a pose whose face is there."""
    pipeline.put(*FACE)
    return pipeline.put(*WALK)


def statuses(pipeline: Pipeline) -> dict[str, str]:
    return {item["pose"]: item["status"] for item in pipeline.records().values()}


def check_failed(pipeline: Pipeline, error_type: str, text: str) -> None:
    """The job has ended so, its end is notified by one execution and one notification, and nothing is redelivered."""
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", error_type)
    assert text in record["error"]["message"]
    job_id = record["job_id"]
    ((name, given),) = pipeline.executions().items()
    assert (name, given["job_id"], given["attempt"], given["finished"]) == (f"{job_id}-1", job_id, 1, True)
    pipeline.run_all()
    assert [notified["error"]["type"] for notified in pipeline.notifications()] == [error_type]
    assert pipeline.later == []
    assert pipeline.receive(pipeline.dead_letter_url) == []


# ---- the provider's responses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 402, 409, 413, 418, 422, 451])
def test_a_rejected_job_ends_with_the_provider_s_text(pipeline: Pipeline, walk: object, status: int) -> None:
    pipeline.provider.submits = [respond_with(status, "the prompt is " + "too " * 1000)]
    assert pipeline.handle(walk)
    check_failed(pipeline, "Rejected", f"the provider answered {status}: the prompt is too too")
    assert len(pipeline.record()["error"]["message"].encode()) <= 1024
    assert pipeline.handle(walk)
    assert len(pipeline.provider.posts) == 1


UNKNOWN = [
    pytest.param(httpx.ReadTimeout("no response"), "ReadTimeout", id="read timeout"),
    pytest.param(httpx.ReadError("reset"), "ReadError", id="reset"),
    pytest.param(httpx.WriteError("broken pipe"), "WriteError", id="write error"),
    pytest.param(httpx.WriteTimeout("slow"), "WriteTimeout", id="write timeout"),
    pytest.param(httpx.RemoteProtocolError("closed"), "RemoteProtocolError", id="closed"),
    pytest.param(respond_with(504), "504", id="504"),
    pytest.param(respond_with(408), "408", id="408"),
    pytest.param(respond_with(501), "501", id="501"),
    pytest.param(respond_with(302, location="http://elsewhere.test/"), "302", id="302"),
    pytest.param(httpx.Response(200, json={"status": "QUEUED"}), "without a request id", id="no request id"),
    pytest.param(httpx.Response(200, content=b"<html></html>"), "without a request id", id="no JSON"),
]


@pytest.mark.parametrize(("fault", "text"), UNKNOWN)
def test_an_unknown_outcome_is_notified_and_never_sent_again(
    pipeline: Pipeline, walk: object, fault: httpx.Response | Exception, text: str
) -> None:
    pipeline.provider.submits = [fault, ACCEPTED]
    assert pipeline.handle(walk)
    assert pipeline.handle(walk)
    check_failed(pipeline, "SubmitOutcomeUnknown", text)
    assert len(pipeline.provider.requests) == 1


NOT_ACCEPTED = [
    pytest.param(REFUSED, "connection refused", id="refused"),
    pytest.param(httpx.ConnectTimeout("slow"), "ConnectTimeout", id="connect timeout"),
    pytest.param(httpx.ConnectError("[SSL] handshake"), "handshake", id="TLS"),
]


@pytest.mark.parametrize(("fault", "text"), NOT_ACCEPTED)
def test_what_was_not_accepted_is_sent_later(
    pipeline: Pipeline, walk: object, fault: httpx.Response | Exception, text: str
) -> None:
    pipeline.provider.submits = [fault, ACCEPTED]
    assert pipeline.handle(walk)
    record = pipeline.record()
    assert record["status"] == "QUEUED"
    assert text in record["reason"]
    assert (record["reason_code"], bool(record["deferred_until"])) == ("UNAVAILABLE", True)
    assert "requests" not in record
    assert pipeline.executions() == {}
    assert pipeline.later == [(f"dispatch {record['job_id']}", 15)]
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"
    assert len(pipeline.provider.posts) == 2
    assert len(pipeline.executions()) == 1


def test_an_outage_is_waited_out_later_and_later(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [REFUSED]
    pipeline.handle(walk)
    delays = [delay for _, delay in pipeline.later]
    for _ in range(10):
        assert pipeline.resume()
        delays.append(pipeline.later[0][1])
    assert delays == [15, 30, 60, 120, 240, 480, 900, 900, 900, 900, 900]
    assert pipeline.record()["status"] == "QUEUED"
    assert "errors" not in pipeline.record()
    assert pipeline.receive(pipeline.dead_letter_url) == []


@pytest.mark.parametrize(("header", "seconds"), [(None, 10), ("42", 42), ("9999", 300), ("soon", 10)])
def test_a_429_pauses_for_retry_after(pipeline: Pipeline, walk: object, header: str | None, seconds: float) -> None:
    pipeline.provider.submits = [respond_with(429, **({"retry_after": header} if header else {})), ACCEPTED]
    assert pipeline.handle(walk)
    assert [delay for _, delay in pipeline.later] == [seconds]
    assert pipeline.handle(pipeline.put(*SIT))
    assert len(pipeline.provider.posts) == 1  # the other job waits as well
    assert statuses(pipeline) == {"walk": "QUEUED", "sit": "QUEUED"}
    while pipeline.later:
        pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 3


@pytest.mark.parametrize("fault", [respond_with(429), respond_with(400), respond_with(401), respond_with(403), REFUSED])
def test_what_was_not_accepted_is_not_charged(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    fault: httpx.Response | Exception,
) -> None:
    monkeypatch.setenv("DAILY_BUDGET", "0.03")  # of one job
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.provider.submits = [fault, ACCEPTED]
    pipeline.clock.now = (pipeline.clock.now // 86400 + 1.5) * 86400  # noon
    pipeline.upload(FACE, WALK, SIT)
    while len(pipeline.provider.posts) < 2:
        pipeline.resume()
    assert "SUBMITTED" in statuses(pipeline).values()
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == FIRST_PRICE


@pytest.mark.parametrize("fault", [respond_with(500), httpx.ReadTimeout("")])
def test_what_may_be_billed_is_charged(pipeline: Pipeline, walk: object, fault: httpx.Response | Exception) -> None:
    pipeline.provider.submits = [fault]
    pipeline.handle(walk)
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == FIRST_PRICE


def test_a_job_that_another_function_claims_first_is_charged_once(pipeline: Pipeline) -> None:
    """Its message was delivered twice, at once: both take a permit and are charged, one of them sends."""
    lost = iter([True])

    def lose(params: dict[str, Any], **_: Any) -> Any:
        if b"SUBMITTING" in params["body"] and next(lost, False):
            return SimpleNamespace(status_code=400), {"Error": {"Code": "ConditionalCheckFailedException"}}
        return None

    pipeline.hook("dynamodb", "UpdateItem", lose)
    pipeline.upload(FACE, WALK)
    while pipeline.later:
        pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert pipeline.gate().budgets.read(pipeline.clock.now).day == FIRST_PRICE


# ---- the account -----------------------------------------------------------------------------------------------------


def test_a_refused_key_pauses_and_resumes_by_itself_with_one_probe(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    pipeline.provider.submits = [respond_with(401), respond_with(401), ACCEPTED]
    assert pipeline.upload(FACE, WALK, SIT, RUN)
    assert set(statuses(pipeline).values()) == {"QUEUED"}
    assert len(pipeline.provider.posts) == 1
    assert all("401" in item["reason"] for item in pipeline.records().values())
    assert all(item["reason_code"] == "PAUSED" for item in pipeline.records().values())
    assert [line["level"] for line in logs() if line["message"] == "submitting is paused"] == ["ERROR"]
    assert {delay for _, delay in pipeline.later} == {900}
    pipeline.resume()  # the probe: refused again
    assert len(pipeline.provider.posts) == 2
    assert max(delay for _, delay in pipeline.later) == 1800
    while pipeline.later:
        pipeline.resume()
    assert set(statuses(pipeline).values()) == {"SUBMITTED"}
    assert len(pipeline.provider.posts) == 5
    assert pipeline.receive(pipeline.dead_letter_url) == []


def test_a_rotated_key_is_used_at_once(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [ACCEPTED, respond_with(401), ACCEPTED]
    pipeline.handle(walk)
    boto3.client("secretsmanager").put_secret_value(SecretId="segmind", SecretString="SG_new\n")
    pipeline.handle(pipeline.put(*SIT))
    keys = [request.headers["x-api-key"] for request in pipeline.provider.requests]
    assert keys == [API_KEY, API_KEY, "SG_new"]
    assert set(statuses(pipeline).values()) == {"SUBMITTED"}


@pytest.mark.parametrize("value", ["", "  ", "SG_\u201cquoted\u201d", "SG_0123\nSG_4567"])
def test_a_key_that_cannot_be_sent_pauses_and_costs_no_job(pipeline: Pipeline, walk: object, value: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="segmind", SecretString=value or " ")
    pipeline.handle(walk)
    assert pipeline.provider.requests == []
    assert (pipeline.record()["status"], [delay for _, delay in pipeline.later]) == ("QUEUED", [900])
    boto3.client("secretsmanager").put_secret_value(SecretId="segmind", SecretString=API_KEY)
    DEFAULT_PROVIDERS["secrets"].clear_cache()  # which 900 seconds do
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


@pytest.mark.parametrize("after_401", [False, True])
def test_a_secret_that_cannot_be_read_pauses_and_costs_no_job(
    pipeline: Pipeline, walk: object, after_401: bool
) -> None:
    if after_401:
        pipeline.provider.submits = [ACCEPTED, respond_with(401), ACCEPTED]
        pipeline.upload(RUN)
    end = pipeline.hook("secretsmanager", "GetSecretValue", denied)
    pipeline.handle(walk)
    assert statuses(pipeline)["walk"] == "QUEUED"
    assert [delay for _, delay in pipeline.later] == [900]
    end()
    assert pipeline.resume()
    assert statuses(pipeline)["walk"] == "SUBMITTED"


def test_two_unknown_outcomes_in_a_row_pause_then_one_probe(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.ReadTimeout(""), respond_with(504), ACCEPTED]
    pipeline.upload(FACE, WALK, SIT)
    assert set(statuses(pipeline).values()) == {"FAILED"}
    pipeline.upload(RUN)
    assert statuses(pipeline)["run"] == "QUEUED"
    assert "unknown" in next(item["reason"] for item in pipeline.records().values() if item["pose"] == "run")
    assert len(pipeline.provider.posts) == 2
    assert [delay for _, delay in pipeline.later] == [900]
    assert pipeline.resume()
    assert statuses(pipeline)["run"] == "SUBMITTED"
    pipeline.upload((SIT[0], RUN[1]))
    assert len(pipeline.provider.posts) == 4


def test_a_response_between_two_unknown_outcomes_pauses_nothing(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.ReadTimeout(""), ACCEPTED, httpx.ReadTimeout(""), ACCEPTED]
    pipeline.upload(FACE, RUN, SIT, WALK)
    assert sorted(statuses(pipeline).values()) == ["FAILED", "FAILED", "SUBMITTED"]
    pipeline.upload((WALK[0], RUN[1]))
    assert len(pipeline.provider.posts) == 4
    assert pipeline.later == []


# ---- claims ----------------------------------------------------------------------------------------------------------


def claim(pipeline: Pipeline, seconds_ago: float) -> None:
    """Let another function have claimed the only job, and have written nothing since."""
    record = pipeline.record()
    pipeline.dynamodb.update_item(
        Key={"job_id": record["job_id"]},
        UpdateExpression="SET #status = :status, #owner = :owner, requests = :requests REMOVE reason, stands, place",
        ExpressionAttributeNames={"#status": "status", "#owner": "owner"},
        ExpressionAttributeValues={
            ":status": "SUBMITTING",
            ":owner": "other",
            ":requests": [
                {
                    "attempt": 1,
                    "sent_at": rfc3339(pipeline.clock.now - seconds_ago),
                    "status": "SENT",
                    "history_page": 1,
                }
            ],
        },
    )


def queued(pipeline: Pipeline, walk: object) -> None:
    """Bring the job to QUEUED, with no message in the queue."""
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    pipeline.handle(walk)
    pipeline.messages.clear()
    pipeline.provider.requests.clear()
    assert pipeline.record()["status"] == "QUEUED"


def test_a_fresh_claim_of_another_function_puts_the_message_off(pipeline: Pipeline, walk: object) -> None:
    queued(pipeline, walk)
    claim(pipeline, seconds_ago=20)
    assert not pipeline.handle({"submit": pipeline.record()["job_id"]})
    ((_, delay),) = pipeline.later
    assert 40 <= delay <= 42  # the function's timeout is 60 s
    assert pipeline.record()["status"] == "SUBMITTING"
    assert pipeline.provider.requests == []


def test_an_old_claim_without_a_request_id_is_an_unknown_outcome(pipeline: Pipeline, walk: object) -> None:
    queued(pipeline, walk)
    claim(pipeline, seconds_ago=20)
    pipeline.handle({"submit": pipeline.record()["job_id"]})
    assert pipeline.resume()
    check_failed(pipeline, "SubmitOutcomeUnknown", "the function ended while it submitted the job")
    assert pipeline.provider.requests == []


def test_who_loses_the_race_for_a_claim_sends_nothing(pipeline: Pipeline, walk: object) -> None:
    queued(pipeline, walk)

    def claim_before(params: dict[str, Any], **_: Any) -> None:
        if b'"SUBMITTING"' in params["body"]:
            end()
            claim(pipeline, seconds_ago=0)

    end = pipeline.hook("dynamodb", "UpdateItem", claim_before)
    assert not pipeline.dispatch_one(pipeline.record()["job_id"])
    assert pipeline.provider.requests == []
    assert (pipeline.record()["owner"], len(pipeline.later)) == ("other", 1)


@pytest.mark.parametrize("seconds", [20.0, 31.9])
def test_with_too_little_time_left_nothing_is_claimed(pipeline: Pipeline, walk: object, seconds: float) -> None:
    assert not pipeline.handle(walk, seconds=seconds)
    record = pipeline.record()
    assert record["status"] == "QUEUED"
    assert "owner" not in record
    assert pipeline.provider.requests == []
    assert [delay for _, delay in pipeline.later] == [1]
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


@pytest.mark.parametrize("transport", ["base64", "presigned-url"])
def test_an_image_that_is_gone_before_the_job_was_sent(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, transport: str
) -> None:
    monkeypatch.setenv("IMAGE_TRANSPORT", transport)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    if transport == "presigned-url":  # of a version that is there the URL works; this bucket keeps none
        pipeline.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    for key, data in (FACE, WALK):
        pipeline.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    queued(pipeline, load_event("intake-pose.json")["Records"][0]["body"])
    for version in pipeline.s3.list_object_versions(Bucket=BUCKET)["Versions"]:
        pipeline.s3.delete_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])
    assert pipeline.dispatch_one(pipeline.record()["job_id"])
    check_failed(pipeline, "InvalidInput", "replaced or deleted before the job was sent")
    assert pipeline.provider.requests == []


# ---- unexpected errors -----------------------------------------------------------------------------------------------


def denied(**_: Any) -> Any:
    return httpx.Response(400), {"Error": {"Code": "AccessDeniedException", "Message": "broken by the test"}}


def test_the_fifth_unexpected_error_before_there_is_a_job_ends_it(pipeline: Pipeline, walk: object) -> None:
    pipeline.break_call("s3", "ListObjectsV2")
    for errors in range(1, 5):
        assert not (pipeline.resume() if errors > 1 else pipeline.handle(walk))
        record = pipeline.records()["waiting/hero/walk"]
        assert (record["errors"], record["status"]) == (errors, "WAITING")
        assert "AccessDenied" in record["reason"]
    pipeline.messages.clear()
    assert pipeline.handle(walk)
    check_failed(pipeline, "InternalError", "AccessDenied")
    assert pipeline.provider.requests == []


def test_an_unexpected_error_that_passes_leaves_no_trace_in_the_job(pipeline: Pipeline, walk: object) -> None:
    pipeline.break_call("s3", "GetObject", "SlowDown", times=1)
    assert not pipeline.handle(walk)
    assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


def breaking(pipeline: Pipeline, when: bytes, code: str = "ValidationException") -> Callable[[], None]:
    """Break the ledger's writes that have `when` in them, in a way that nobody expects."""

    def fail(params: dict[str, Any], **_: Any) -> Any:
        if when in params["body"]:
            return httpx.Response(400), {"Error": {"Code": code, "Message": "broken by the test"}}
        return None

    return pipeline.hook("dynamodb", "UpdateItem", fail)


def test_the_fifth_unexpected_error_of_a_job_ends_it(pipeline: Pipeline, walk: object) -> None:
    breaking(pipeline, b'"SUBMITTING"')
    for errors in range(1, 5):
        assert not (pipeline.resume() if errors > 1 else pipeline.handle(walk))
        record = pipeline.record()
        assert (record["errors"], record["status"]) == (errors, "QUEUED")
        assert "ValidationException" in record["reason"]
    pipeline.resume()
    pipeline.messages.clear()
    check_failed(pipeline, "InternalError", "5 unexpected errors")
    assert pipeline.provider.requests == []


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "UpdateItem"])
def test_a_table_that_is_down_costs_no_job(pipeline: Pipeline, walk: object, operation: str) -> None:
    pipeline.break_call("dynamodb", operation, "InternalServerError", times=12)
    rounds = 0
    pipeline.handle(walk)
    while pipeline.later:
        rounds += 1
        assert rounds < 20
        pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 1
    assert "errors" not in pipeline.record()
    assert rounds > 5


def test_a_response_that_cannot_be_written_down_is_an_unknown_outcome(
    pipeline: Pipeline, walk: object, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    breaking(pipeline, b'"SUBMITTED"')
    assert not pipeline.handle(walk)
    assert [line["request_id"] for line in logs() if line["message"] == "submitted"] == ["request-1"]
    pipeline.pass_time(61)
    assert pipeline.resume()
    check_failed(pipeline, "SubmitOutcomeUnknown", "")
    assert len(pipeline.provider.posts) == 1


@pytest.mark.parametrize("fault", [respond_with(500), respond_with(429), respond_with(403), REFUSED, respond_with(400)])
def test_a_claim_is_given_back_though_the_schedule_is_broken(
    pipeline: Pipeline, walk: object, fault: httpx.Response | Exception
) -> None:
    pipeline.provider.submits = [fault, ACCEPTED]
    end = breaking_schedule(pipeline)
    pipeline.handle(walk)
    end()
    assert pipeline.record()["status"] == ("FAILED" if getattr(fault, "status_code", 0) == 400 else "QUEUED")


def breaking_schedule(pipeline: Pipeline) -> Callable[[], None]:
    """Break the writes of the gate's items, after the provider was asked."""

    def fail(params: dict[str, Any], **_: Any) -> Any:
        key = json.loads(params["body"])["Key"]["job_id"]["S"]
        if key.startswith(("breaker", "rate-limit", "budget/")) and pipeline.provider.requests:
            return httpx.Response(400), {"Error": {"Code": "InternalServerError", "Message": "broken by the test"}}
        return None

    return pipeline.hook("dynamodb", "UpdateItem", fail)


def test_an_execution_that_did_not_start_is_started_later_without_a_second_post(
    pipeline: Pipeline, walk: object
) -> None:
    pipeline.break_call("stepfunctions", "StartExecution", "ServiceUnavailable", times=2)
    for round_ in range(2):
        assert not (pipeline.resume() if round_ else pipeline.handle(walk))
        assert pipeline.record()["status"] == "SUBMITTED"
        assert pipeline.executions() == {}
    assert pipeline.resume()
    ((_, given),) = pipeline.executions().items()
    assert (given["request_id"], given["finished"]) == ("request-1", False)
    assert len(pipeline.provider.posts) == 1


def test_a_failure_whose_execution_did_not_start_is_notified_later(pipeline: Pipeline, walk: object) -> None:
    pipeline.provider.submits = [respond_with(400)]
    pipeline.break_call("stepfunctions", "StartExecution", "ServiceUnavailable", times=1)
    assert not pipeline.handle(walk)
    while pipeline.later:
        assert pipeline.resume()
    check_failed(pipeline, "Rejected", "400")


def test_a_job_continues_although_its_uploads_make_another_one(pipeline: Pipeline, walk: object) -> None:
    pipeline.break_call("stepfunctions", "StartExecution", "ServiceUnavailable", times=1)
    assert not pipeline.handle(walk)
    assert pipeline.handle(pipeline.put(WALK[0], image("png", (11, 11), "red")))
    while pipeline.later:
        assert pipeline.resume()
    assert len(pipeline.executions()) == len(pipeline.records()) == len(pipeline.provider.posts) == 2


def test_a_folder_that_cannot_be_listed_is_notified_each_time_that_happens(pipeline: Pipeline, walk: object) -> None:
    for round_ in (1, 2):
        pipeline.break_call("s3", "ListObjectsV2", times=5)
        for _ in range(5):
            pipeline.handle(walk)
        pipeline.messages.clear()
        pipeline.clock.now += 3600
        assert len(pipeline.executions()) == round_
    pipeline.run_all()
    assert [notified["error"]["type"] for notified in pipeline.notifications()] == ["InternalError"] * 2
    assert pipeline.handle(walk)
    assert len(pipeline.provider.posts) == 1


def test_an_error_is_not_counted_for_an_attempt_that_is_over(pipeline: Pipeline, walk: object) -> None:
    def expire(**_: Any) -> None:
        end()
        pipeline.dynamodb.delete_item(Key={"job_id": pipeline.record()["job_id"]})
        raise RuntimeError("broken by the test")

    end = pipeline.hook("stepfunctions", "StartExecution", expire)
    assert not pipeline.handle(walk)
    assert pipeline.records() == {}


@pytest.mark.parametrize("days", ["0", "30"])
def test_a_job_uploaded_again_after_its_record_expired_is_delivered_beside_the_earlier_one(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, days: str
) -> None:
    monkeypatch.setenv("RECORD_RETENTION_DAYS", days)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.put(*FACE)
    event = pipeline.put(*WALK)
    assert pipeline.handle(event)
    pipeline.run_all()
    assert pipeline.handle(event)
    assert len(pipeline.provider.posts) == 1
    job_id = pipeline.record()["job_id"]
    if days == "0":
        return
    pipeline.clock.now += 40 * 86400
    pipeline.dynamodb.delete_item(Key={"job_id": job_id})
    for _ in range(2):
        assert pipeline.handle(event)
    assert list(pipeline.executions()) == [f"{job_id}-1", f"{job_id}-2"]
    pipeline.run(pipeline.executions()[f"{job_id}-2"])
    assert [(notified["attempt"], notified["status"]) for notified in pipeline.notifications()] == [
        (1, "SUCCEEDED"),
        (2, "SUCCEEDED"),
    ]
    assert {key.split("/")[4] for key in pipeline.outputs()} == {"1", "2"}
    assert len(pipeline.provider.posts) == 2


def test_a_queue_that_rejects_messages_loses_no_pose(pipeline: Pipeline) -> None:
    pipeline.put(*WALK)
    face = pipeline.put(*FACE)
    pipeline.break_call("sqs", "SendMessageBatch", "ServiceUnavailable", times=1)
    assert not pipeline.handle(face)
    assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (load_event("intake-unreadable.json")["Records"][0]["body"], "not a JSON object"),
        ("hello", "not JSON"),
        ('{"detail-type": "\\ud800\\u0000", "detail": {}}', "another kind"),
        ('{"submit": "hero-walk-0123456789abcdef"}', "no such job"),
        ('{"retry": "waiting/hero/walk"}', "not the id of a job"),
    ],
)
def test_an_unreadable_message_is_dead_lettered_with_the_reason(pipeline: Pipeline, body: str, reason: str) -> None:
    assert pipeline.handle(body)
    (message,) = pipeline.receive(pipeline.dead_letter_url)
    assert message["Body"] == body
    assert reason in message["MessageAttributes"]["reason"]["StringValue"]
    assert pipeline.later == []
    assert pipeline.records() == {}


def test_a_message_that_cannot_be_dead_lettered_is_redelivered(pipeline: Pipeline) -> None:
    pipeline.break_call("sqs", "SendMessage", "ServiceUnavailable", times=1)
    assert not pipeline.handle("hello")
    assert pipeline.handle("hello")
    assert len(pipeline.receive(pipeline.dead_letter_url)) == 1


def test_a_visibility_that_cannot_be_changed_is_no_harm(pipeline: Pipeline, walk: object) -> None:
    pipeline.break_call("sqs", "ChangeMessageVisibility", "ReceiptHandleIsInvalid")
    pipeline.break_call("stepfunctions", "StartExecution", "ServiceUnavailable", times=1)
    assert not pipeline.handle(walk)
    assert pipeline.dispatch_one(pipeline.record()["job_id"])
    assert len(pipeline.executions()) == 1


@pytest.mark.parametrize(
    "name",
    ["face", "job-file", "outside-contract", "pose", "pose-message", "unreadable", "unusual-key"],
)
def test_the_sample_events_of_an_empty_bucket_are_done(pipeline: Pipeline, name: str) -> None:
    assert pipeline.intake.handler(load_event(f"intake-{name}.json"), Context()) == {"batchItemFailures": []}
    assert pipeline.records() == {}


# ---- the logs --------------------------------------------------------------------------------------------------------


def test_no_key_and_no_signature_is_ever_logged_or_notified(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    echo = httpx.Response(400, text=f"key {API_KEY} https://b.s3.amazonaws.com/k?X-Amz-Signature=0123&X-Amz-Date=1")
    pipeline.provider.submits = [
        ACCEPTED,
        echo,
        httpx.ReadTimeout(f"https://b.s3.amazonaws.com/k?X-Amz-Signature=0123 {API_KEY}"),
        ACCEPTED,
    ]
    pipeline.upload(FACE, WALK, SIT, RUN)
    pipeline.break_call("s3", "ListObjectsV2", times=1)
    pipeline.handle(pipeline.put(WALK[0], RUN[1]))
    pipeline.run_all()
    captured = capsys.readouterr()
    written = json.dumps(logs()) + captured.out + captured.err
    assert {line["message"] for line in logs()} >= {"submitted", "failed", "unexpected error"}
    notified = json.dumps(pipeline.notifications()) + str(pipeline.records())
    for secret in (API_KEY, "X-Amz-Signature", "X-Amz-Credential", "0123&"):
        assert secret not in written
        assert secret not in notified


def test_the_lines_of_one_message_do_not_carry_the_names_of_another(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]]
) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.handle("hello")
    line = logs()[-1]
    assert line["message"] == "dead-lettered"
    assert not {"character", "pose", "job_id", "attempt"} & set(line)
