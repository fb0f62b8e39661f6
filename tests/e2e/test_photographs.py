"""A phone's folder through the deployed stack: a job of every picture, a word on every refusal, no silence."""

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pillow_heif
import pytest
from jsonschema import Draft7Validator
from PIL import Image

from local.pipeline import records
from local.stack import LocalStack
from tests.corpus import SECRET, encode, exif
from tests.support import schema

Record = dict[str, Any]
FILM = b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + SECRET


def scene(color: str) -> Image.Image:
    """A picture that lies on its side: its upper left quarter is bright once it is upright."""
    upright = Image.new("RGB", (480, 640), color)
    upright.paste("white", (0, 0, 240, 320))
    return upright.transpose(Image.Transpose.ROTATE_90)


def heic(image: Image.Image) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, exif=exif(6), quality=90)
    return out.getvalue()


def sideways(color: str) -> bytes:
    return encode(scene(color), "JPEG", quality=92, exif=exif(6))


@pytest.fixture
def requests(stack: LocalStack) -> Callable[[str], list[Record]]:
    """What the emulator was asked for with a prompt."""

    def asked(prompt: str) -> list[Record]:
        found: list[Record] = httpx.get(f"{stack.segmind_base_url}/_emulator/requests").json()
        return [request for request in found if request["parameters"]["prompt"] == prompt]

    return asked


def prepared_picture(stack: LocalStack, told: Record) -> bytes:
    """The picture that was sent in the place of an upload."""
    bucket = stack.outputs["OutputBucketName"]
    data: bytes = stack.client("s3").get_object(Bucket=bucket, Key=told["prepared"]["key"])["Body"].read()
    assert hashlib.sha256(data).hexdigest() == told["prepared"]["sha256"]
    return data


def test_a_phone_s_folder(
    stack: LocalStack,
    upload: Callable[..., None],
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
    requests: Callable[[str], list[Record]],
) -> None:
    colors = {"walk": "red", "run": "green", "sit": "blue"}
    poses = {f"poses/{pose}.JPG": sideways(color) for pose, color in colors.items()}
    beside = {
        ".DS_Store": b"\0\0\0\1Bud1",
        "poses/._walk.JPG": b"\0\5\16\7" + SECRET,
        "poses/.DS_Store": b"\0\0\0\1Bud1",
        "poses/walk.MOV": FILM,
        "poses/walk.AAE": b"<?xml version='1.0'?><plist/>",
        "poses/papers.pdf": b"%PDF-1.7\n" + SECRET,
    }
    job_file = {"job.json": json.dumps({"prompt": "a phone's folder"}).encode()}
    upload("phone", {**job_file, "Face.HEIC": heic(scene("purple")), **beside, **poses})
    ended = {pose: wait_for_record("phone", pose, "SUCCEEDED") for pose in colors}
    refused = wait_for_record("phone", "papers", "FAILED")
    assert {record["pose"] for record in records(stack, "phone")} == {*colors, "papers"}

    told = {pose: wait_for_notification(record["job_id"]) for pose, record in ended.items()}
    refusal = wait_for_notification(refused["job_id"])
    for message in (*told.values(), refusal):
        Draft7Validator(schema("notification")).validate(message)
    assert refusal["error"]["type"] == "InvalidInput"
    assert "incoming/phone/poses/papers.pdf: this is a PDF" in refusal["error"]["message"]

    asked = [request["parameters"] for request in requests("a phone's folder")]
    assert len(asked) == 3
    sent = {(parameters["face_image"]["sha256"], parameters["pose_image"]["sha256"]) for parameters in asked}
    for pose, message in told.items():
        face, image = message["inputs"]["face"], message["inputs"]["pose"]
        assert (face["prepared"]["sha256"], image["prepared"]["sha256"]) in sent
        assert face["prepared"]["what"] == ["turned", "converted", "cleaned"]
        assert image["prepared"]["what"] == ["turned", "cleaned"]
        assert image["sha256"] == hashlib.sha256(poses[f"poses/{pose}.JPG"]).hexdigest()
        for upload_told in (face, image):
            data = prepared_picture(stack, upload_told)
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
    assert "is a film: read again for two minutes" in waiting["reason"]
    upload("film", {"poses/walk.HEIC": heic(scene("blue"))})
    wait_for_record("film", "walk", "SUCCEEDED")
    assert len(records(stack, "film")) == 1


def test_a_damaged_heic_is_told_by_name(
    stack: LocalStack,
    upload: Callable[..., None],
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
) -> None:
    data = heic(scene("red"))
    files = {"face.jpg": encode(scene("red"), "JPEG"), "job.json": b'{"prompt": "x"}'}
    upload("damaged", {**files, "poses/walk.heic": data[: len(data) // 2]})
    record = wait_for_record("damaged", "walk", "FAILED")
    told = wait_for_notification(record["job_id"])
    assert told["error"]["type"] == "InvalidInput"
    assert told["error"]["message"].startswith("incoming/damaged/poses/walk.heic: the picture ")
    assert told["inputs"]["pose"]["prepared"] is None
