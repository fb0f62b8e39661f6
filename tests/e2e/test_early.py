"""The folders of early.py through the deployed stack: a job of every picture, a word on every refusal, no silence."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

from jsonschema import Draft7Validator
from PIL import Image

from local.pipeline import records
from local.stack import LocalStack
from tests.corpus import SECRET
from tests.e2e.early import BAD, BAD_PROMPT, COLORS, PHONE, PHONE_PROMPT
from tests.e2e.test_pipeline import dead_letters, submitted
from tests.support import schema

Record = dict[str, Any]
WaitForRecord = Callable[[str, str, str], Record]
WaitForNotification = Callable[[str], Record]


def prepared_picture(stack: LocalStack, notified: Record) -> bytes:
    """The picture that was sent in the place of an upload."""
    bucket = stack.outputs["OutputBucketName"]
    data: bytes = stack.client("s3").get_object(Bucket=bucket, Key=notified["prepared"]["key"])["Body"].read()
    assert hashlib.sha256(data).hexdigest() == notified["prepared"]["sha256"]
    return data


def test_a_phone_s_folder(
    stack: LocalStack,
    wait_for_record: WaitForRecord,
    wait_for_notification: WaitForNotification,
) -> None:
    ended = {pose: wait_for_record("phone", pose, "SUCCEEDED") for pose in COLORS}
    refused = wait_for_record("phone", "papers", "FAILED")
    assert {record["pose"] for record in records(stack, "phone")} == {*COLORS, "papers"}

    notified = {pose: wait_for_notification(record["job_id"]) for pose, record in ended.items()}
    refusal = wait_for_notification(refused["job_id"])
    for message in (*notified.values(), refusal):
        Draft7Validator(schema("notification")).validate(message)
    assert refusal["error"]["type"] == "InvalidInput"
    assert "incoming/phone/poses/papers.pdf: this is a PDF" in refusal["error"]["message"]

    asked = [request["parameters"] for request in submitted(stack) if request["prompt"] == PHONE_PROMPT]
    assert len(asked) == 3
    sent = {(parameters["face_image"]["sha256"], parameters["pose_image"]["sha256"]) for parameters in asked}
    for pose, message in notified.items():
        face, image = message["inputs"]["face"], message["inputs"]["pose"]
        assert (face["prepared"]["sha256"], image["prepared"]["sha256"]) in sent
        assert face["prepared"]["what"] == ["turned", "converted", "cleaned"]
        assert image["prepared"]["what"] == ["turned", "cleaned"]
        assert image["sha256"] == hashlib.sha256(PHONE[f"poses/{pose}.JPG"]).hexdigest()
        for described in (face, image):
            data = prepared_picture(stack, described)
            assert SECRET not in data
            assert b"Exif" not in data
            with Image.open(io.BytesIO(data)) as opened:
                assert opened.size == (480, 640)
                darkest, _ = opened.convert("L").crop((20, 20, 220, 300)).getextrema()
                assert isinstance(darkest, float | int)
                assert darkest > 230  # upright


def test_bad_input_is_notified_and_costs_nothing(
    stack: LocalStack, wait_for_record: WaitForRecord, wait_for_notification: WaitForNotification
) -> None:
    for name, (_, reason) in BAD.items():
        record = wait_for_record(f"bad/{name}", "pose", "FAILED")
        assert "request_id" not in record
        notified = wait_for_notification(record["job_id"])
        assert notified["error"]["type"] == "InvalidInput"
        assert f"incoming/bad/{name}/" in notified["error"]["message"]
        assert reason in notified["error"]["message"]
    assert BAD_PROMPT not in {request["prompt"] for request in submitted(stack)}
    assert dead_letters(stack) == 0
