"""docs/security.md: what it says of operators and of the key, tried."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from ops.console.pictures import Pictures
from ops.console.summary import summary
from ops.inspect.health import problems
from ops.inspect.records import Records
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.gate.breaker import Breaker
from tests.docs.documents import aws_commands, call, document
from tests.integration.conftest import API_KEY, BUCKET, Pipeline, environment, pipeline, provider
from tests.ops.conftest import FACE, SIT, WALK, account, notifications, run, stack, triggers
from tests.support import ROOT

__all__ = ["account", "environment", "notifications", "pipeline", "provider", "run", "stack", "triggers"]

DOCUMENT = document(ROOT / "docs" / "security.md")
READS, ACTS, FORGETS = (set(json.loads(text)) for text in DOCUMENT.under("Operators", "json"))
# The IAM actions that are not called as the operation is (Service authorization reference).
ACTIONS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
SERVICES = {"stepfunctions": "states"}
FOUND_BY_NAME = "cloudformation:DescribeStacks"  # `find`, which the fixture stands in for


@pytest.fixture
def used(stack: Any) -> Iterator[Callable[[], set[str]]]:
    """Gives the actions that were needed since it was last asked."""
    needed: set[str] = set()

    def note(model: Any, params: Any, **_: Any) -> None:
        service = SERVICES.get(model.service_model.service_name, model.service_model.service_name)
        action = f"{service}:{model.name}"
        action = ACTIONS.get(action, action)
        # To read a version is an action of its own.
        needed.add("s3:GetObjectVersion" if action == "s3:GetObject" and "VersionId" in params else action)

    def take() -> set[str]:
        found = set(needed)
        needed.clear()
        return found

    clients = [
        boto3.client(name)
        for name in (
            "cloudformation",
            "cloudwatch",
            "dynamodb",
            "events",
            "lambda",
            "s3",
            "secretsmanager",
            "sns",
            "sqs",
            "stepfunctions",
        )
    ]
    for client in clients:
        client.meta.events.register("provide-client-params", note)
    yield take
    for client in clients:
        client.meta.events.unregister("provide-client-params", note)


def look_at_the_page(stack: Stack) -> None:
    """What the console reads: the records, the problems, and pictures as they were read."""
    assert problems(stack) == []
    records, _ = Records(stack).recent()
    Records(stack).get([record.job_id for record in records])
    summary(records, Situation.of(stack))
    record = next(record for record in records if record.pose == "walk")
    pictures = Pictures(stack)
    assert pictures.get(pictures.source(record, "face"), "original").data == FACE[1]


def test_looking_needs_what_the_document_names(pipeline: Pipeline, stack: Stack, run: Any, used: Any) -> None:
    pipeline.provider.results = [httpx.Response(422, json={"status": "FAILED", "error": "blocked"})]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.upload(SIT, ("incoming/other/face.png", SIT[1][:-20]))
    used()
    job_id = next(name for name, record in pipeline.records().items() if record["pose"] == "walk")
    run("status")
    run("jobs")
    run("jobs", "--character", "hero")
    run("jobs", "--status", "QUEUED", "--status", "SUBMITTED", "--status", "WAITING")
    run("explain", "incoming/hero/poses/walk.png")
    run("explain", "incoming/hero/poses/run.png")
    run("explain", "incoming/other/face.png")
    run("show", job_id)
    run("dry-run", "hero")
    look_at_the_page(stack)
    assert used() | {FOUND_BY_NAME} == READS


def test_acting_needs_what_the_document_names(pipeline: Pipeline, run: Any, used: Any, tmp_path: Path) -> None:
    files = [tmp_path / "face.png", tmp_path / "pose.png"]
    for file, (_, data) in zip(files, (FACE, WALK), strict=True):
        file.write_bytes(data)
    pipeline.provider.results = [httpx.Response(422, json={"status": "FAILED", "error": "blocked"})]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.handle("not json")
    pipeline.upload(("incoming/waiting/pose.png", WALK[1]))
    pipeline.break_call("sqs", "StartMessageMoveTask", "InvalidAction")
    used()
    run("upload", *map(str, files), "--character", "new")
    run("retry", next(iter(pipeline.records())), "--yes")
    run("cancel", "--character", "waiting", "--yes", "--timeout", "0", code=6)
    run("dead-letters")
    run("redrive", "--yes")
    pipeline.break_call("lambda", "Invoke")
    run("sweep", code=1)
    acted = used() - READS
    # S3 aborts an upload only if it fails; emulators do not know the move.
    assert acted | {"s3:AbortMultipartUpload", "sqs:StartMessageMoveTask"} == ACTS


def test_backfill_needs_what_the_document_names(pipeline: Pipeline, run: Any, used: Any) -> None:
    for key, body in (FACE, WALK, ("incoming/hero/job.json", b"{}")):
        pipeline.put(key, body)
    used()
    run("backfill", "--yes")
    assert used() <= READS | ACTS


def test_forgetting_needs_what_the_document_names(pipeline: Pipeline, run: Any, used: Any) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.s3.create_multipart_upload(Bucket=BUCKET, Key="incoming/hero/poses/sit.png")
    for character in ("hero", "other"):
        body = json.dumps({"job": {"bucket": BUCKET, "character": character, "pose": "", "upload": None}})
        pipeline.sqs.send_message(QueueUrl=pipeline.queue_url, MessageBody=body)
    pipeline.gate().breaker.change(lambda state: (Breaker(faulted_jobs=[*pipeline.records()]), None))
    used()
    run("forget", "hero", "--abandon", "--yes", "--timeout", "0s", code=6)
    needed = used()
    deletes = {"s3:DeleteObject", "s3:DeleteObjectVersion"}  # what DeleteObjects needs
    assert needed - READS - (ACTS - FORGETS) == (FORGETS - deletes - READS) | {"s3:DeleteObjects"}


def test_no_command_of_the_operator_reads_the_secret() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "ops").rglob("*.py")]
    assert sources
    assert not [source for source in sources if re.search(r"secretsmanager|get_secret|SegmindSecret", source)]
    assert not [action for action in READS | ACTS | FORGETS if action.startswith(("secretsmanager:", "iam:", "kms:"))]


def test_a_new_key_is_used_as_the_document_says(pipeline: Pipeline) -> None:
    """put-secret-value, with the end of line that a file has; the old key is refused: the new one is used at once."""
    commands = aws_commands([line for text in DOCUMENT.under("The API key", "") for line in text.splitlines()])
    put = call(
        next(line for line in commands if "put-secret-value" in line).replace("SECRET_ARN", "segmind"),
        {"key.txt": "SG_fedcba9876543210\n"},
    )
    assert put
    pipeline.upload(FACE)
    pipeline.provider.submits = [httpx.Response(401), httpx.Response(200, json={"request_id": "new"})]
    boto3.client("secretsmanager").put_secret_value(**put.arguments)
    pipeline.upload(WALK)
    while pipeline.later:
        pipeline.resume()
    keys = [request.headers["x-api-key"] for request in pipeline.provider.requests if request.method == "POST"]
    assert keys[-1] == "SG_fedcba9876543210"
    assert pipeline.record()["request_id"] == "new"
    assert API_KEY not in json.dumps(pipeline.record(), default=str)
