"""Folders of real photographs: which file is the picture, which are ignored or waited for, and what is prepared."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pillow_heif
import pytest
from botocore.exceptions import ReadTimeoutError
from PIL import Image

from posedrop.contract.times import DAY
from tests.corpus import SECRET, encode, exif, picture
from tests.integration.conftest import BUCKET, OUTPUTS, Pipeline
from tests.support import Context, image

FACE = ("incoming/hero/face.png", image("png"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8)))
FILM = b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(100)
SIDEWAYS = encode(picture(size=(64, 48)), "JPEG", quality=95, exif=exif(6))
HERO = "incoming/hero/"
Logs = Callable[[], list[dict[str, Any]]]


def heic(**options: Any) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(picture(size=(64, 48))).save(out, **options)
    return out.getvalue()


def sent(pipeline: Pipeline, name: str, number: int = -1) -> bytes:
    """What the provider gets under the URL of an image."""
    parts = urlsplit(pipeline.provider.posts[number][f"{name}_image"])
    query = parse_qs(parts.query)
    bucket = OUTPUTS if OUTPUTS in parts.netloc + parts.path else BUCKET
    key = parts.path.removeprefix(f"/{bucket}").lstrip("/")
    version = {"VersionId": query["versionId"][0]} if "versionId" in query else {}
    return bytes(pipeline.s3.get_object(Bucket=bucket, Key=key, **version)["Body"].read())


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.size


def pass_two_minutes(pipeline: Pipeline) -> None:
    pipeline.pass_time(125)
    while pipeline.messages:
        pipeline.resume()


def poses(pipeline: Pipeline) -> dict[str, str]:
    return {str(record["pose"]): str(record["status"]) for record in pipeline.records().values()}


# ---- the name says the role ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("face", "pose"),
    [
        ("hero/face.jfif", "hero/pose.png"),
        ("hero/Face.PNG", "hero/Pose.JPG"),
        ("hero/FACE.JPG", "hero/Poses/walk.png"),
        ("hero/face", "hero/POSES/walk"),
        ("hero/face.txt", "hero/poses/walk.pdf"),  # the bytes say the type
        ("Zo\u00eb/face.png", "Zoe\u0308/pose.png"),
        ("Zoe\u0308/face.png", "Zo\u00eb/poses/ge\u0301ant.png"),
        ("a\u00e9/Zoe\u0308/face.png", "a\u00e9/Zoe\u0308/pose.png"),
    ],
)
@pytest.mark.parametrize("face_last", [False, True])
def test_names_in_any_case_and_spelling_are_one_folder(
    pipeline: Pipeline, face: str, pose: str, face_last: bool
) -> None:
    files = [(f"incoming/{face}", FACE[1]), (f"incoming/{pose}", WALK[1])]
    for file in reversed(files) if face_last else files:
        pipeline.upload(file)
    (record,) = pipeline.records().values()
    assert record["status"] == "SUBMITTED"
    assert record["inputs"]["face"]["key"] == f"incoming/{face}"


def test_poses_in_folders_of_several_spellings(pipeline: Pipeline) -> None:
    keys = ["Zo\u00eb/poses/a.png", "Zo\u00eb/Poses/b.png", "Zoe\u0308/poses/c.png", "Zoe\u0308/pose.png"]
    for number, key in enumerate(keys):
        pipeline.put(f"incoming/{key}", image("png", (8, 8 + number)))
    pipeline.upload(("incoming/Zo\u00eb/face.png", FACE[1]))
    assert poses(pipeline) == dict.fromkeys(("a", "b", "c", "pose"), "SUBMITTED")
    assert {record["character"] for record in pipeline.records().values()} == {"Zo\u00eb"}


def test_pose_json_is_of_the_single_pose(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, ("incoming/hero/Pose.JSON", {"samples": 3}), ("incoming/hero/pose.png", WALK[1]))
    assert pipeline.provider.posts[-1]["samples"] == 3


def test_a_job_file_in_any_case(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, ("incoming/hero/Job.JSON", {"samples": 2}), WALK)
    assert pipeline.provider.posts[-1]["samples"] == 2


# ---- the bytes say the type ------------------------------------------------------------------------------------------


def test_side_files_make_no_job_and_no_notification(pipeline: Pipeline, logs: Logs) -> None:
    pipeline.upload(FACE, WALK)
    for name in ("._walk.png", ".DS_Store", "Thumbs.db", "desktop.ini", "~$walk.docx", "run.jpg.part", "run.tmp", ""):
        pipeline.upload((f"{HERO}poses/{name}", b"\0\5\x16\7" + bytes(20)))
    assert poses(pipeline) == {"walk": "SUBMITTED"}
    assert sum(line["message"] == "ignored: a side file" for line in logs()) == 8


@pytest.mark.parametrize("film_first", [True, False])
def test_the_picture_of_a_stem_counts_with_any_other_files_of_the_stem(pipeline: Pipeline, film_first: bool) -> None:
    beside = [(f"{HERO}poses/walk.MOV", FILM), (f"{HERO}poses/walk.aae", b"<?xml version='1.0'?><plist/>")]
    files = [*beside, WALK] if film_first else [WALK, *beside]
    for file in [FACE, *files]:
        pipeline.upload(file)
    pass_two_minutes(pipeline)
    assert poses(pipeline) == {"walk": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 1


def test_of_two_pictures_of_a_stem_the_newest_counts(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.pass_time(100)
    newer = pipeline.put(f"{HERO}poses/walk.webp", image("webp", (20, 10)))
    pipeline.handle(newer)
    assert sent(pipeline, "pose") == image("webp", (20, 10))


@pytest.mark.parametrize(
    ("data", "words", "advice"),
    [
        (b"%PDF-1.7\n", "a PDF", "save the picture as JPEG or PNG"),
        (b"<!doctype html><html>", "an HTML page", "download the picture itself"),
        (b"PK\3\4" + bytes(30), "a ZIP archive", "unpack it"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop file", "save the picture"),
        (FILM, "a video", "not the video"),
        (b"just a note", "text", "upload a picture"),
        (b"", "an empty file", "upload a picture"),
    ],
)
@pytest.mark.parametrize("key", [FACE[0], WALK[0], "incoming/hero/pose.jpg"])
def test_what_is_no_picture_is_notified_once(
    pipeline: Pipeline, key: str, data: bytes, words: str, advice: str
) -> None:
    for file in (FACE, WALK):
        if file[0] != key and not (key.endswith("pose.jpg") and file is WALK):
            pipeline.put(*file)
    pipeline.handle(pipeline.put(key, data))
    (waiting,) = pipeline.records().values()
    assert (waiting["status"], waiting["missing"]) == ("WAITING", ["face" if key == FACE[0] else "pose"])
    assert waiting["reason"] == f"{key} is {words}: read again for two minutes"
    pass_two_minutes(pipeline)
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert (notified["status"], notified["error"]["type"]) == ("FAILED", "InvalidInput")
    assert notified["error"]["message"].startswith(f"{key}: this is {words}: ")
    assert advice in notified["error"]["message"]
    assert pipeline.provider.posts == []


def test_all_files_of_a_stem_without_a_picture_are_named(pipeline: Pipeline) -> None:
    pipeline.put(*FACE)
    pipeline.upload((f"{HERO}poses/walk.mov", FILM), (f"{HERO}poses/walk.pdf", b"%PDF-1.4"))
    pass_two_minutes(pipeline)
    message = pipeline.record()["error"]["message"]
    assert "poses/walk.pdf: this is a PDF; incoming/hero/poses/walk.mov: this is a video" in message


def test_an_empty_file_is_waited_for(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, (WALK[0], b""))
    assert pipeline.record()["status"] == "WAITING"
    pipeline.pass_time(12)
    pipeline.upload(WALK)
    pass_two_minutes(pipeline)
    pipeline.run_all()
    assert [notified["status"] for notified in pipeline.notifications()] == ["SUCCEEDED"]


def test_an_empty_file_beside_an_older_picture_is_waited_for(pipeline: Pipeline) -> None:
    pipeline.put(f"{HERO}face.jpg", image("jpeg"))
    pipeline.put(f"{HERO}face.png", b"")  # the later one by its name where S3's seconds are the same
    pipeline.upload(WALK)
    assert pipeline.record()["missing"] == ["face"]
    pass_two_minutes(pipeline)
    assert poses(pipeline) == {"walk": "SUBMITTED"}
    assert sent(pipeline, "face") == image("jpeg")


def test_near_misses_are_in_what_is_missing(pipeline: Pipeline) -> None:
    pipeline.put(f"{HERO}front.jpg", image("jpeg"))
    pipeline.put(f"{HERO}face.jpeg.jpg", image("jpeg"))
    pipeline.upload(WALK)
    record = pipeline.record()
    assert record["missing"] == ["face"]
    assert record["reason"] == ("face.jpeg.jpg is no face: name it face.jpg; front.jpg is no face: name it face.jpg")
    pipeline.upload(FACE)
    assert poses(pipeline) == {"walk": "SUBMITTED"}


def test_an_archived_face_is_notified_once_a_pose(pipeline: Pipeline) -> None:
    pipeline.put(*FACE, StorageClass="GLACIER")
    pipeline.upload(WALK, ("incoming/hero/poses/sit.png", WALK[1]))
    pipeline.run_all()
    notified = pipeline.notifications()
    assert sorted(message["pose"] for message in notified) == ["sit", "walk"]
    assert all(FACE[0] in message["error"]["message"] for message in notified)
    assert {message["error"]["type"] for message in notified} == {"InvalidInput"}


# ---- prepare ---------------------------------------------------------------------------------------------------------


def test_a_picture_that_needs_nothing_is_sent_as_it_is(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    assert pipeline.prepared == []
    assert sent(pipeline, "face") == FACE[1]
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert notified["inputs"]["face"]["prepared"] is None


@pytest.mark.parametrize("transport", ["presigned-url", "base64"])
def test_a_sideways_photograph_is_sent_upright_and_without_its_place(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, transport: str
) -> None:
    monkeypatch.setenv("IMAGE_TRANSPORT", transport)
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    data = (
        sent(pipeline, "face") if transport != "base64" else base64.b64decode(pipeline.provider.posts[0]["face_image"])
    )
    assert size_of(data) == (48, 64)
    assert SECRET not in data
    assert SECRET in SIDEWAYS
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    face = notified["inputs"]["face"]
    upload = hashlib.sha256(SIDEWAYS).hexdigest()
    assert (face["key"], face["sha256"]) == (f"{HERO}face.jpg", upload)
    assert face["prepared"] == {
        "key": f"prepared/1/{upload}.jpg",
        "sha256": hashlib.sha256(data).hexdigest(),
        "what": ["turned", "cleaned"],
    }
    assert notified["inputs"]["pose"]["prepared"] is None


def test_a_heic_face_of_many_poses_is_prepared_once(pipeline: Pipeline) -> None:
    for name in ("a", "b", "c"):
        pipeline.put(f"{HERO}poses/{name}.png", image("png", (8, 8)))
    pipeline.upload((f"{HERO}face.heic", heic(exif=exif(6))))
    assert poses(pipeline) == dict.fromkeys("abc", "SUBMITTED")
    assert pipeline.prepared == [f"{HERO}face.heic"]
    assert {request["face_image"].split("?")[0] for request in pipeline.provider.posts} == {
        pipeline.provider.posts[0]["face_image"].split("?")[0]
    }
    assert size_of(sent(pipeline, "face")) == (48, 64)


def test_the_job_is_known_by_the_uploaded_bytes(pipeline: Pipeline) -> None:
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS))
    pipeline.upload((f"{HERO}face.jpg", encode(picture(size=(64, 48)), "JPEG", quality=95, exif=exif(1))))
    assert len(pipeline.records()) == len(pipeline.provider.posts) == 2


def test_a_prepared_picture_that_expired_is_made_again(pipeline: Pipeline) -> None:
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    first = sent(pipeline, "face")
    pipeline.upload((f"{HERO}poses/a.png", image("png", (9, 9))))
    assert len(pipeline.prepared) == 1
    pipeline.clock.now += 29.5 * DAY
    pipeline.upload((f"{HERO}poses/b.png", image("png", (9, 8))))
    assert len(pipeline.prepared) == 2
    pipeline.s3.delete_object(Bucket=OUTPUTS, Key=pipeline.record_of_pose("b")["inputs"]["face"]["prepared"]["key"])
    pipeline.upload((f"{HERO}poses/c.png", image("png", (8, 9))))
    assert len(pipeline.prepared) == 3
    assert sent(pipeline, "face") == first  # the same bytes each time


def test_a_picture_that_cannot_be_decoded_ends_its_jobs_and_is_tried_once(pipeline: Pipeline) -> None:
    broken = heic()[:-200]
    pipeline.put(f"{HERO}face.heic", broken)
    pipeline.upload(WALK, (f"{HERO}poses/sit.png", image("png", (9, 9))))
    assert poses(pipeline) == {"walk": "FAILED", "sit": "FAILED"}
    assert pipeline.prepared == [f"{HERO}face.heic"]
    pipeline.run_all()
    for notified in pipeline.notifications():
        assert notified["error"]["type"] == "InvalidInput"
        assert notified["error"]["message"].startswith(f"{HERO}face.heic: the picture ")
    assert pipeline.provider.posts == []
    assert pipeline.later == []


def test_an_upload_that_has_gone_before_it_is_prepared(pipeline: Pipeline) -> None:
    face = pipeline.put(f"{HERO}face.jpg", SIDEWAYS)
    version = face["detail"]["object"]["version-id"]

    def delete(event: dict[str, Any]) -> Any:
        pipeline.s3.delete_object(Bucket=BUCKET, Key=event["key"], VersionId=version)
        return answered(pipeline.prepare.handler(event, Context(memory_limit_in_mb=1769)))

    pipeline.instead_of_prepare = iter([delete])
    pipeline.upload(WALK)
    assert pipeline.record()["error"]["message"].endswith("replaced or deleted before the job was sent")


def answered(answer: dict[str, Any], **more: Any) -> Any:
    """A response of Lambda."""
    body = io.BytesIO(json.dumps(answer).encode())
    return SimpleNamespace(status_code=200), {"StatusCode": 200, "Payload": body, **more}


def test_no_response_in_time_brings_the_message_back(pipeline: Pipeline) -> None:
    def too_slow(event: dict[str, Any]) -> Any:
        raise ReadTimeoutError(endpoint_url="https://lambda")

    pipeline.instead_of_prepare = iter([too_slow])
    assert not pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    assert pipeline.record()["status"] == "QUEUED"
    assert [delay for _, delay in pipeline.messages] == [15]
    assert pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"


@pytest.mark.parametrize(("code", "status"), [("TooManyRequestsException", 429), ("ServiceException", 500)])
def test_a_throttled_prepare_costs_no_job(pipeline: Pipeline, code: str, status: int) -> None:
    fault = (
        SimpleNamespace(status_code=status),
        {
            "Error": {"Code": code, "Message": ""},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
    )
    pipeline.instead_of_prepare = iter([lambda event: fault] * 3)
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    for _ in range(10):
        if pipeline.record()["status"] == "SUBMITTED":
            break
        pipeline.resume()
    assert pipeline.record()["status"] == "SUBMITTED"
    assert pipeline.record().get("errors") is None


def test_a_prepare_that_dies_again_and_again_ends_the_job(pipeline: Pipeline) -> None:
    timed_out = {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 60.00 seconds"}
    pipeline.instead_of_prepare = iter([lambda event: answered(timed_out, FunctionError="Unhandled")] * 10)
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    for _ in range(10):
        if not pipeline.later:
            break
        pipeline.resume()
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InternalError")
    assert "Sandbox.Timedout" in record["error"]["message"]
    assert pipeline.provider.posts == []


def test_too_little_time_to_prepare_brings_the_message_back_at_once(pipeline: Pipeline) -> None:
    pipeline.put(f"{HERO}face.jpg", SIDEWAYS)
    assert not pipeline.handle(pipeline.put(*WALK), seconds=50)
    assert pipeline.prepared == []
    assert [delay for _, delay in pipeline.messages] == [1]


def test_without_preparing_pictures_go_as_they_are(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PREPARE_IMAGES", "false")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.upload((f"{HERO}face.jpg", SIDEWAYS), WALK)
    assert sent(pipeline, "face") == SIDEWAYS
    wide = image("png", (8193, 1))
    for name, data in {"a.heic": heic(), "b.png": wide, "c.png": WALK[1] + bytes(21 * 2**20)}.items():
        pipeline.upload((f"{HERO}poses/{name}", data))
    messages = {str(record["pose"]): record.get("error", {}).get("message") for record in pipeline.records().values()}
    assert messages.pop("walk") is None
    assert all("PrepareImages is false" in message for message in messages.values())
    assert pipeline.prepared == []


class Counted:
    """A stream that takes note of how much is read of it at once."""

    def __init__(self, stream: Any, taken: list[int]) -> None:
        self._stream = stream
        self._taken = taken

    def close(self) -> None:
        self._stream.close()

    def read(self, amount: int | None = None) -> bytes:
        data: bytes = self._stream.read(amount)
        self._taken.append(len(data))
        return data


def test_an_upload_over_20_mib_is_never_held_whole(pipeline: Pipeline) -> None:
    taken: list[int] = []
    large = encode(picture(), "JPEG") + bytes(30 * 2**20)  # a film behind a photograph

    def count_reads(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Body"]._raw_stream = Counted(parsed["Body"]._raw_stream, taken)

    pipeline.put(f"{HERO}face.jpg", large)
    events = pipeline.s3.meta.events
    events.register("after-call.s3.GetObject", count_reads)
    pipeline.hooks.append(lambda: events.unregister("after-call.s3.GetObject", count_reads))
    pipeline.upload(WALK)
    assert max(taken) <= 2**20
    assert sum(taken) >= 2 * len(large)  # by intake, and by prepare
    assert sent(pipeline, "face") == encode(picture(), "JPEG")
