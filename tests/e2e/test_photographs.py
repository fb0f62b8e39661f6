"""A phone's folder through the deployed stack: a job of every picture, a word on every refusal, no silence."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from jsonschema import Draft7Validator
from PIL import Image

from local.pipeline import records
from local.stack import LocalStack
from tests.corpus import SECRET, encode
from tests.e2e.early import COLORS, FILM, PHONE, PHONE_PROMPT, heic, scene
from tests.support import schema

Record = dict[str, Any]


@pytest.fixture
def requests(stack: LocalStack) -> Callable[[str], list[Record]]:
    """What the emulator was asked for with a prompt."""

    def asked(prompt: str) -> list[Record]:
        found: list[Record] = httpx.get(f"{stack.segmind_base_url}/_emulator/requests").json()
        return [request for request in found if request["parameters"]["prompt"] == prompt]

    return asked


def prepared_picture(stack: LocalStack, notified: Record) -> bytes:
    """The picture that was sent in the place of an upload."""
    bucket = stack.outputs["OutputBucketName"]
    data: bytes = stack.client("s3").get_object(Bucket=bucket, Key=notified["prepared"]["key"])["Body"].read()
    assert hashlib.sha256(data).hexdigest() == notified["prepared"]["sha256"]
    return data


def test_a_phone_s_folder(
    stack: LocalStack,
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
    requests: Callable[[str], list[Record]],
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

    asked = [request["parameters"] for request in requests(PHONE_PROMPT)]
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
                assert min(opened.convert("L").crop((20, 20, 220, 300)).getextrema()) > 230  # upright


def test_a_picture_that_comes_behind_its_film(
    stack: LocalStack, upload: Callable[..., None], wait_for_record: Callable[[str, str, str], Record]
) -> None:
    upload("film", {"face.jpg": encode(scene("red"), "JPEG"), "job.json": b'{"prompt": "x"}', "poses/walk.MOV": FILM})
    waiting = wait_for_record("film", "walk", "WAITING")
    assert "is a video: read again for two minutes" in waiting["reason"]
    upload("film", {"poses/walk.HEIC": heic(scene("blue"))})
    wait_for_record("film", "walk", "SUCCEEDED")
    assert len(records(stack, "film")) == 1


def test_a_damaged_heic_is_notified_by_name(
    stack: LocalStack,
    upload: Callable[..., None],
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
) -> None:
    data = heic(scene("red"))
    files = {"face.jpg": encode(scene("red"), "JPEG"), "job.json": b'{"prompt": "x"}'}
    upload("damaged", {**files, "poses/walk.heic": data[: len(data) // 2]})
    record = wait_for_record("damaged", "walk", "FAILED")
    notified = wait_for_notification(record["job_id"])
    assert notified["error"]["type"] == "InvalidInput"
    assert notified["error"]["message"].startswith("incoming/damaged/poses/walk.heic: the picture ")
    assert notified["inputs"]["pose"]["prepared"] is None
