"""Every job ends, and nothing is paid twice: one job refused again and again, failing stores, expired versions."""

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from boto3.dynamodb.types import TypeDeserializer

from posedrop.aws.record_table import attempts_id
from tests.integration.conftest import BUCKET, Pipeline
from tests.integration.test_retry import deliver_message
from tests.integration.test_submit_errors import FACE, REFUSED, RUN, SIT, WALK, respond_with, statuses
from tests.support import Context, image

DAY = 86400.0
FIREWALL = httpx.Response(403, html="<html><title>Attention</title><body>Sorry, you have been blocked</body></html>")
ACCEPTED = httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})


def with_retention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, days: int) -> Pipeline:
    request.getfixturevalue("environment")
    monkeypatch.setenv("RECORD_RETENTION_DAYS", str(days))
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    return pipeline


def last(pipeline: Pipeline) -> dict[str, Any]:
    """The input of the execution that was started last."""
    return list(pipeline.executions().values())[-1]


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [FIREWALL, respond_with(404), respond_with(406)], ids=["403 HTML", "404", "406"])
def test_a_job_that_is_refused_while_others_are_accepted_is_its_own_fault(
    pipeline: Pipeline, refusal: httpx.Response
) -> None:
    pipeline.provider.submits = [refusal, ACCEPTED]
    pipeline.upload(FACE, WALK)
    bad = pipeline.record()
    assert (bad["status"], bad["reason_code"]) == ("QUEUED", "REFUSED")
    assert [delay for _, delay in pipeline.later] == [960]
    assert pipeline.upload(SIT)
    assert statuses(pipeline) == {"walk": "QUEUED", "sit": "SUBMITTED"}
    pipeline.provider.submits = [refusal]
    pipeline.clock.now += 960
    pipeline.messages.clear()
    assert pipeline.dispatch_one(bad["job_id"])
    record = pipeline.records()[bad["job_id"]]
    assert (record["status"], record["error"]["type"]) == ("FAILED", "Rejected")
    assert f"{refusal.status_code}" in record["error"]["message"]
    assert "requests" not in record
    pipeline.provider.submits = [ACCEPTED]
    assert pipeline.upload(RUN)  # nobody is paused
    assert statuses(pipeline)["run"] == "SUBMITTED"
    assert len(pipeline.provider.posts) == 4


def test_two_jobs_refused_in_a_row_are_the_account(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [respond_with(406), respond_with(406), ACCEPTED]
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    pipeline.upload(SIT)
    pipeline.upload(RUN)
    assert len(pipeline.provider.posts) == 2
    codes = {record["pose"]: record["reason_code"] for record in pipeline.records().values()}
    assert codes == {"walk": "REFUSED", "sit": "REFUSED", "run": "PAUSED"}
    pipeline.resume()  # the probe is the job that was not refused
    assert statuses(pipeline) == {"walk": "QUEUED", "sit": "QUEUED", "run": "SUBMITTED"}


def test_a_lone_job_that_is_always_refused_ends_after_a_day(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [FIREWALL]
    begin = pipeline.clock.now
    pipeline.upload(FACE, WALK)
    while pipeline.record()["status"] != "FAILED":
        pipeline.resume()
        assert pipeline.clock.now < begin + DAY + 2 * 3600
    assert pipeline.clock.now >= begin + DAY
    assert pipeline.record()["error"]["type"] == "Rejected"
    assert "for a day" in pipeline.record()["error"]["message"]
    assert len(pipeline.provider.posts) < 30


# ---- 5xx -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503])
def test_5xx_without_a_history_is_sent_again_three_times(pipeline: Pipeline, status: int) -> None:
    pipeline.provider.submits = [respond_with(status)]
    pipeline.upload(FACE, WALK)
    sent = [pipeline.clock.now]
    while pipeline.record()["status"] != "FAILED":
        posts = len(pipeline.provider.posts)
        pipeline.resume()
        if len(pipeline.provider.posts) > posts:
            sent.append(pipeline.clock.now)
    assert len(sent) == 4
    assert all(later - earlier >= 600 for earlier, later in pairwise(sent))
    assert pipeline.record()["error"]["type"] == "SubmitOutcomeUnknown"
    assert [request["status"] for request in pipeline.record()["requests"]] == ["UNRESOLVED"] * 4


def test_5xx_that_passes_is_sent_again_and_delivered(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [respond_with(503, retry_after="70"), ACCEPTED]
    pipeline.upload(FACE, WALK)
    assert pipeline.record()["reason_code"] == "SERVER_FAULT"
    while pipeline.record()["status"] == "QUEUED":
        pipeline.resume()
    assert pipeline.record()["attempt"] == 1
    pipeline.run_all()
    assert [message["status"] for message in pipeline.notifications()] == ["SUCCEEDED"]


# ---- stores that fail ------------------------------------------------------------------------------------------------


class Broken:
    """A body whose connection breaks: botocore's read(limit) gives what came, and no error."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> "Broken":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, limit: int | None = None) -> bytes:
        data, self._data = self._data, b""
        return data


def test_a_body_that_ends_early_is_read_again(pipeline: Pipeline) -> None:
    broken = iter([True])

    def break_once(parsed: dict[str, Any], **_: Any) -> None:
        if next(broken, False):
            parsed["Body"] = Broken(parsed["Body"].read(40))

    events = pipeline.s3.meta.events
    events.register("after-call.s3.GetObject", break_once)
    pipeline.hooks.append(lambda: events.unregister("after-call.s3.GetObject", break_once))
    pipeline.put(*FACE)
    pose = pipeline.put(*WALK)
    assert not pipeline.handle(pose)
    assert pipeline.records() == {}
    assert pipeline.handle(pose)
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


@pytest.mark.parametrize(
    ("service", "operation"),
    [("s3", "GetObject"), ("s3", "ListObjectsV2"), ("dynamodb", "GetItem"), ("stepfunctions", "StartExecution")],
)
@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable", "ThrottlingException", "InternalError"])
def test_a_store_that_fails_for_long_costs_no_job(pipeline: Pipeline, service: str, operation: str, code: str) -> None:
    pipeline.put(*FACE)
    pose = pipeline.put(*WALK)
    pipeline.break_call(service, operation, code, times=9)
    for _ in range(12):
        pipeline.handle(pose)
    while pipeline.later:
        pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert "errors" not in pipeline.record()
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 1


def test_unexpected_errors_are_counted_in_a_row(pipeline: Pipeline) -> None:
    """Four of them, a success, four more: the job lives."""
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    pipeline.put(*FACE)
    pose = pipeline.put(*WALK)
    for _ in range(2):

        def fail(params: dict[str, Any], **_: Any) -> Any:
            if b'"SUBMITTING"' in params["body"]:
                return httpx.Response(400), {"Error": {"Code": "ValidationException", "Message": "broken"}}
            return None

        end = pipeline.hook("dynamodb", "UpdateItem", fail)
        assert not (pipeline.resume() if pipeline.records() else pipeline.handle(pose))
        for _ in range(3):
            assert not pipeline.resume()
        assert pipeline.record()["errors"] == 4
        end()
        assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


def _plain(request: dict[str, Any]) -> dict[str, Any]:
    """A request of the low-level client, as a resource's client takes it."""
    values = {key: TypeDeserializer().deserialize(value) for key, value in request["ExpressionAttributeValues"].items()}
    return {**request, "Key": {"job_id": request["Key"]["job_id"]["S"]}, "ExpressionAttributeValues": values}


@pytest.mark.parametrize("what", [b'"SUBMITTING"', b'"SUBMITTED"'])
def test_a_write_whose_reply_is_lost_is_recognised(pipeline: Pipeline, what: bytes) -> None:
    """DynamoDB applies it; botocore repeats it; its condition fails (P8)."""
    lost = iter([True])

    def lose(params: dict[str, Any], **_: Any) -> Any:
        if what in params["body"] and next(lost, False):
            end()
            pipeline.dynamodb.meta.client.update_item(**_plain(json.loads(params["body"])))
            return SimpleNamespace(status_code=400), {"Error": {"Code": "ConditionalCheckFailedException"}}
        return None

    end = pipeline.hook("dynamodb", "UpdateItem", lose)
    pipeline.upload(FACE, WALK)
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 1


# ---- versions and records that expire --------------------------------------------------------------------------------


def test_a_newer_upload_of_the_same_content_serves_a_job_that_waits(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    job = pipeline.record()
    pipeline.messages.clear()
    pipeline.upload(WALK)
    pipeline.messages.clear()
    old = job["inputs"]["pose"]["version_id"]
    assert pipeline.record()["inputs"]["pose"]["version_id"] != old
    pipeline.s3.delete_object(Bucket=BUCKET, Key=WALK[0], VersionId=old)
    pipeline.clock.now += 2 * DAY
    assert pipeline.dispatch_one(job["job_id"])
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert old not in pipeline.provider.posts[-1]["pose_image"]


def gone(pipeline: Pipeline) -> str:
    """Let a job fail because its pose was deleted while it waited; return its id."""
    pipeline.provider.submits = [REFUSED, ACCEPTED]
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    job = pipeline.record()
    pipeline.messages.clear()
    pipeline.s3.delete_object(Bucket=BUCKET, Key=WALK[0], VersionId=job["inputs"]["pose"]["version_id"])
    pipeline.clock.now += 2 * DAY
    assert pipeline.dispatch_one(job["job_id"])
    pipeline.run_all()
    (message,) = pipeline.notifications()
    assert message["error"]["type"] == "InvalidInput"
    return str(job["job_id"])


@pytest.mark.parametrize("how", ["retry", "upload"])
def test_a_job_whose_upload_was_gone_runs_once_it_is_there_again(pipeline: Pipeline, how: str) -> None:
    job_id = gone(pipeline)
    pose = pipeline.put(*WALK)
    pipeline.clock.now += 60
    assert pipeline.handle({"retry": job_id} if how == "retry" else pose)
    pipeline.run(last(pipeline))
    assert [(m["job_id"], m["attempt"], m["status"]) for m in pipeline.notifications()] == [(job_id, 2, "SUCCEEDED")]
    assert pipeline.handle(pose)  # the event again makes no third attempt
    assert pipeline.record()["attempt"] == 2


def test_a_job_that_the_provider_rejected_is_not_sent_again_by_the_same_files(pipeline: Pipeline) -> None:
    """Same content, same job: only `retry` asks for another attempt."""
    pipeline.provider.submits = [respond_with(400)]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    assert pipeline.upload(WALK)
    record = pipeline.record()
    assert (record["status"], record["attempt"], record["error"]["type"]) == ("FAILED", 1, "Rejected")
    assert len(pipeline.provider.posts) == 1


def test_retry_after_the_files_have_changed_makes_another_job(pipeline: Pipeline) -> None:
    job_id = gone(pipeline)
    pipeline.put(WALK[0], image("png", (13, 13), "red"))
    pipeline.clock.now += 60
    assert pipeline.handle({"retry": job_id})
    (other,) = set(pipeline.records()) - {job_id}
    assert pipeline.records()[other]["status"] == "SUBMITTED"
    assert pipeline.records()[job_id]["attempt"] == 1


@pytest.mark.parametrize("again", [0, 7])
def test_after_a_record_expired_the_job_gets_an_unused_attempt_number(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, again: int
) -> None:
    pipeline = with_retention(request, monkeypatch, 7)
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    job_id = str(pipeline.record()["job_id"])
    assert float(pipeline.record()["expires_at"]) >= pipeline.clock.now + 6.9 * DAY
    pipeline.dynamodb.delete_item(Key={"job_id": job_id})
    assert "Item" in pipeline.dynamodb.get_item(Key={"job_id": attempts_id(job_id)})
    monkeypatch.setenv("RECORD_RETENTION_DAYS", str(again))
    pipeline.restarted()
    pipeline.upload(WALK)
    pipeline.run(last(pipeline))
    assert [(m["attempt"], m["status"]) for m in pipeline.notifications()] == [(1, "SUCCEEDED"), (2, "SUCCEEDED")]
    assert list(pipeline.executions()) == [f"{job_id}-1", f"{job_id}-2"]


def test_bad_input_uploaded_again_after_its_record_expired_is_notified_again(pipeline: Pipeline) -> None:
    bad = (WALK[0], WALK[1][:-20])
    pipeline.upload(FACE, bad)
    pipeline.run_all()
    job_id = str(pipeline.record()["job_id"])
    pipeline.dynamodb.delete_item(Key={"job_id": job_id})
    pipeline.upload(bad)
    pipeline.run(last(pipeline))
    assert [(m["attempt"], m["status"]) for m in pipeline.notifications()] == [(1, "FAILED"), (2, "FAILED")]


def test_the_time_to_live_runs_from_the_notification(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SNS is down for longer than records are kept."""
    pipeline = with_retention(request, monkeypatch, 1)
    pipeline.upload(FACE, WALK)
    pipeline.break_call("sns", "Publish", "ServiceUnavailable")
    with pytest.raises(Exception, match="ServiceUnavailable"):
        pipeline.run_all()
    assert pipeline.record()["status"] == "SUCCEEDED"
    assert "expires_at" not in pipeline.record()
    pipeline.hooks.pop()()
    pipeline.clock.now += 3 * DAY
    state = last(pipeline)
    pipeline.deliver.handler({**state, "finished": True}, Context(300))
    assert float(pipeline.record()["expires_at"]) >= pipeline.clock.now + DAY - 1


# ---- archived, forbidden ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [("InvalidObjectState", "archived"), ("AccessDenied", "may not read"), ("KMS.DisabledException", "may not read")],
)
def test_a_face_that_cannot_be_read_is_one_failure_that_names_it_and_retry_reads_it_again(
    pipeline: Pipeline, code: str, text: str
) -> None:
    pipeline.put(*FACE)
    pose = pipeline.put(*WALK)
    pipeline.break_call("s3", "GetObject", code)
    for _ in range(3):
        assert pipeline.handle(pose)
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InvalidInput")
    assert FACE[0] in record["error"]["message"]
    assert text in record["error"]["message"]
    pipeline.run_all()
    pipeline.hooks.pop()()
    assert pipeline.handle({"retry": record["job_id"]})
    assert sorted(record["status"] for record in pipeline.records().values()) == ["FAILED", "SUBMITTED"]


# ---- retries ---------------------------------------------------------------------------------------------------------


def test_each_retry_message_makes_one_attempt(pipeline: Pipeline) -> None:
    pipeline.provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    job_id = str(pipeline.record()["job_id"])
    for retry in ("retry-1", "retry-2", "retry-1", "retry-2", "retry-1"):
        deliver_message(pipeline, retry, {"retry": job_id})
        pipeline.run(last(pipeline))
    assert (pipeline.record()["attempt"], len(pipeline.provider.posts)) == (3, 3)


# ---- request ids -----------------------------------------------------------------------------------------------------


def test_one_request_id_for_two_jobs_mixes_nothing_up(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.Response(200, json={"request_id": "the-same"})]
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    pipeline.upload(SIT)
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "FAILED"}
    (failed,) = [record for record in pipeline.records().values() if record["status"] == "FAILED"]
    assert failed["error"]["type"] == "SubmitOutcomeUnknown"
    assert "request id" in failed["error"]["message"]


def test_an_execution_name_used_by_another_request_is_an_error(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    pipeline.dynamodb.delete_item(Key={"job_id": job_id})
    pipeline.dynamodb.delete_item(Key={"job_id": attempts_id(job_id)})
    assert not pipeline.upload(WALK)
    assert pipeline.record()["request_id"] == "request-2"
