"""Uploads through the deployed stack, with IAM enforced: what comes out, what is notified, what is paid."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft7Validator
from PIL import Image

from local.pipeline import records, wait_for
from local.stack import LocalStack
from tests.e2e.conftest import upload_folder
from tests.e2e.leaks import check_logs
from tests.support import HANGS, SAMPLES, image, schema

Record = dict[str, Any]
Upload = Callable[[str, dict[str, Any]], None]
WaitForRecord = Callable[[str, str, str], Record]
WaitForNotification = Callable[[str], Record]

FACE = SAMPLES / "face-astronaut.png"
POSE = SAMPLES / "pose-cameraman.png"


UNUSUAL = ["Kundin Ä/held + heldin", "a/b/c", "mit  zwei Leerzeichen", "100% & mehr?#"]
ONCE: dict[str, bytes | Path] = {"face.png": FACE, "pose.png": POSE, "job.json": b'{"prompt": "once only"}'}


@pytest.fixture(scope="module", autouse=True)
def begun(stack: LocalStack) -> None:
    """Upload the folders of several tests before the first, so that their jobs run at the same time."""
    faults = [
        {"fault": "404", "on": "media", "match": "no media"},
        {"fault": "503", "on": "result", "match": "in a while", "times": 1, "retry_after": 7},
    ]
    httpx.post(f"{stack.segmind_base_url}/_emulator/faults", json={"faults": faults}).raise_for_status()
    pair: dict[str, bytes | Path] = {"face.png": FACE, "pose.png": POSE}
    upload_folder(stack, "in-a-while", {**pair, "job.json": b'{"prompt": "in a while"}'})
    job_file = json.dumps({"prompt": "a picture", "context": {"order": 17}}).encode()
    upload_folder(stack, "photo", {"face.png": FACE, "poses/camera.png": POSE, "job.json": job_file})
    upload_folder(stack, "blocked", {**pair, "job.json": b'{"prompt": "blocked-content"}'})
    upload_folder(stack, "twice", ONCE)
    for character in UNUSUAL:
        upload_folder(
            stack,
            character,
            {
                "face.JPG": image("jpeg"),
                "poses/geh langsam+weit ü.webp": image("webp"),
                "poses/geh langsam+weit ü.json": b'{"prompt": "x", "output_format": "webp", "samples": 2}',
            },
        )
    stack.client("s3").put_object(Bucket=stack.outputs["UploadBucketName"], Key="elsewhere/face.png", Body=b"x")
    upload_folder(stack, "hero", {"notes.txt": b"x"})


def submitted(stack: LocalStack) -> list[Record]:
    """What the emulator was asked for so far."""
    found: list[Record] = httpx.get(f"{stack.segmind_base_url}/_emulator/requests").json()
    return found


def test_two_photographs_become_an_image_and_a_notification(
    stack: LocalStack, wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification
) -> None:
    record = wait_for_record("photo", "camera", "SUCCEEDED")
    notified = wait_for_notification(record["job_id"])
    Draft7Validator(schema("notification")).validate(notified)
    assert notified["status"] == "SUCCEEDED"
    assert notified["context"] == {"order": 17}
    assert notified["inputs"]["face"]["sha256"] == hashlib.sha256(FACE.read_bytes()).hexdigest()
    (output,) = notified["outputs"]
    stored = stack.client("s3").get_object(Bucket=output["bucket"], Key=output["key"])["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == output["sha256"]
    assert Image.open(io.BytesIO(stored)).size == (output["width"], output["height"]) == (512, 512)
    result = stack.client("s3").get_object(Bucket=output["bucket"], Key=output["key"].replace("1.png", "result.json"))[
        "Body"
    ]
    # The link is for whoever is notified: by itself it shows the image, and it is not kept.
    assert httpx.get(output["url"]).content == stored
    assert json.loads(result.read()) == {**notified, "outputs": [{**output, "url": None}]}


def test_a_blocked_prompt_is_notified_as_a_failure(
    wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification
) -> None:
    record = wait_for_record("blocked", "pose", "FAILED")
    notified = wait_for_notification(record["job_id"])
    assert notified["error"]["type"] == "InferenceFailed"
    assert notified["outputs"] == []


def test_the_same_files_again_are_not_paid_for_again(
    stack: LocalStack, upload: Upload, wait_for_record: WaitForRecord
) -> None:
    first = wait_for_record("twice", "pose", "SUCCEEDED")
    upload("twice", ONCE)
    upload("twice-then-more", {"face.png": FACE, "pose.png": POSE, "job.json": b'{"prompt": "comes after"}'})
    wait_for_record("twice-then-more", "pose", "SUCCEEDED")  # the queue has worked through the second upload
    assert [request["prompt"] for request in submitted(stack)].count("once only") == 1
    assert [record["job_id"] for record in records(stack, "twice")] == [first["job_id"]]


def test_unusual_names_work(wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification) -> None:
    for character in UNUSUAL:
        record = wait_for_record(character, "geh langsam+weit ü", "SUCCEEDED")
        notified = wait_for_notification(record["job_id"])
        assert notified["character"] == character
        assert [output["content_type"] for output in notified["outputs"]] == ["image/webp"] * 2


def test_a_result_that_asks_for_time_is_waited_for(
    stack: LocalStack, wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification
) -> None:
    """The execution goes back from Deliver into its loop, and no status is asked for again."""
    record = wait_for_record("in-a-while", "pose", "SUCCEEDED")
    assert wait_for_notification(record["job_id"])["status"] == "SUCCEEDED"
    lines = [json.loads(line) for line in function_log(stack, "deliver") if record["job_id"] in line]
    assert [line["seconds"] for line in lines if line.get("message") == "deferred"] == [7]


def test_a_delivery_that_is_given_up_is_output_invalid(
    stack: LocalStack, upload: Upload, wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification
) -> None:
    """The state machine knows by the exception's class that the output is at fault, after ten tries."""
    upload("given-up", {"face.png": FACE, "pose.png": POSE, "job.json": b'{"prompt": "no media"}'})
    with hurried(stack):
        record = wait_for_record("given-up", "pose", "FAILED")
    notification = wait_for_notification(record["job_id"])
    assert notification["error"]["type"] == "OutputInvalid"
    assert "404" in notification["error"]["message"]
    causes = [line for line in function_log(stack, "deliver") if '"not delivered"' in line]
    assert len(causes) == 10


@contextmanager
def hurried(stack: LocalStack) -> Iterator[None]:
    """Let executions wait for a thousandth of their times meanwhile, which would be ten minutes between the tries."""
    config = f"{stack.endpoint_url}/_ministack/config"
    httpx.post(config, json={"stepfunctions._SFN_WAIT_SCALE": "0.001"}).raise_for_status()
    try:
        yield
    finally:
        httpx.post(config, json={"stepfunctions._SFN_WAIT_SCALE": "1"}).raise_for_status()


def test_an_upload_outside_the_contract_is_ignored_with_a_reason(stack: LocalStack) -> None:
    def reasons() -> set[str] | None:
        lines = (json.loads(line) for line in function_log(stack, "intake") if line.startswith("{"))
        found = {line["reason"] for line in lines if "outside the contract" in line.get("message", "")}
        return found if len(found) == 2 else None

    assert any("not below incoming/" in reason for reason in wait_for(reasons, "two log lines", HANGS))
    assert dead_letters(stack) == 0


def test_the_logs_hold_neither_keys_nor_signatures(stack: LocalStack) -> None:
    """So far; when the tests are done, all that was logged is looked through once more."""
    stack.client("lambda").invoke(FunctionName=stack.outputs["SweepFunctionName"], Payload=b"{}")
    logged = {
        "intake": "recorded",
        "dispatch": "dispatched",
        "submit": "submitted",
        "poll": "checked",
        "deliver": "succeeded",
        "sweep": "swept",
    }
    texts = check_logs(stack)
    for name, message in logged.items():
        assert message in texts[name], name
    assert httpx.get(f"{stack.segmind_base_url}/_emulator/calls").json()["key_leaks"] == 0


def function_log(stack: LocalStack, function: str) -> list[str]:
    """The lines that a function has logged."""
    (path,) = [path for path in stack.save_function_logs() if path.stem == f"function-{function}"]
    return path.read_text().splitlines()


def dead_letters(stack: LocalStack) -> int:
    """How many messages are in the dead-letter queue."""
    attributes = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs["DeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])
