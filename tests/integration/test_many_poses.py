"""Characters with many poses: a face or job file makes messages for all, page by page, and a face is read once."""

import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from tests.integration.conftest import BUCKET, Pipeline
from tests.support import image

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
POSE = image("png", (12, 8), "black")
NAMES = ["pose", *(f"{number:02}" for number in range(10))]

Logs = Callable[[], list[dict[str, Any]]]


def poses(pipeline: Pipeline) -> Counter[str]:
    """How many jobs each pose has."""
    return Counter(str(record["pose"]) for record in pipeline.records().values() if record["status"] != "WAITING")


def put_poses(pipeline: Pipeline) -> None:
    """Upload eleven poses: one lies beside the face, one has a file of its own parameters."""
    pipeline.put("incoming/hero/pose.png", POSE)
    for name in NAMES[1:]:
        pipeline.put(f"incoming/hero/poses/{name}.png", POSE)
    pipeline.put("incoming/hero/poses/05.json", {"samples": 2})


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedrop.intake.fan_out.PAGE", 4)


@pytest.fixture
def sent(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The messages about poses that were sent."""
    found: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        request = json.loads(params["body"])
        bodies = [json.loads(entry["MessageBody"]) for entry in request.get("Entries", [request])]
        found.extend(body["job"] for body in bodies if "job" in body)

    pipeline.hook("sqs", "SendMessage", note)
    pipeline.hook("sqs", "SendMessageBatch", note)
    return found


def reads(pipeline: Pipeline, key: str) -> list[str]:
    """The GetObject calls of a key from now on."""
    found: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        if unquote(params["url_path"]).endswith(key):
            found.append(key)

    pipeline.hook("s3", "GetObject", note)
    return found


# ---- from a face to each pose ----------------------------------------------------------------------------------------


def test_each_pose_gets_one_message_however_many_pages_there_are(
    pipeline: Pipeline, sent: list[Any], logs: Logs
) -> None:
    put_poses(pipeline)
    assert pipeline.upload(FACE)
    assert poses(pipeline) == Counter(NAMES)
    assert Counter(body["pose"] for body in sent if body["pose"]) == Counter(NAMES)
    assert [body["after"][-6:] for body in sent if not body["pose"]] == ["03.png", "06.png"]
    assert [line["poses"] for line in logs() if line["message"] == "expanded"] == [5, 3, 3]


def test_a_pose_whose_files_are_on_two_pages_is_one_job(pipeline: Pipeline, sent: list[Any]) -> None:
    for name in ("a.png", "b.png", "c.png", "walk.JPG", "walk.a.png", "walk.json"):
        pipeline.put(f"incoming/hero/poses/{name}", {} if name.endswith("json") else POSE)
    assert pipeline.upload(FACE)
    assert poses(pipeline) == Counter(["a", "b", "c", "walk", "walk.a"])
    assert Counter(body["pose"] for body in sent)["walk"] == 2


def test_the_pages_after_a_job_file_go_the_same_way(pipeline: Pipeline) -> None:
    put_poses(pipeline)
    pipeline.put(*FACE)
    assert pipeline.upload(("incoming/hero/job.json", {"samples": 3}))
    assert poses(pipeline) == Counter(NAMES)
    assert Counter(sent["samples"] for sent in pipeline.provider.posts) == {3: 10, 2: 1}


@pytest.mark.parametrize("names", [[], ["z.png"]])
def test_files_outside_the_contract_do_not_hide_what_is_missing(pipeline: Pipeline, names: list[str]) -> None:
    for number in range(9):
        pipeline.put(f"incoming/hero/poses/{number}/deep.png", b"x")
    for name in names:
        pipeline.put(f"incoming/hero/poses/{name}", POSE)
    assert pipeline.upload(FACE)
    assert poses(pipeline) == Counter(name[0] for name in names)
    assert ("waiting/hero/" in pipeline.records()) is not bool(names)


# ---- faults in between -----------------------------------------------------------------------------------------------


def break_batch(pipeline: Pipeline, number: int, fail: Callable[[], Any]) -> None:
    """Let the batch of messages about poses with this number, from 1, fail."""
    calls = iter(range(1, 1000))

    def before(params: dict[str, Any], **_: Any) -> Any:
        of_poses = "job" in json.loads(json.loads(params["body"])["Entries"][0]["MessageBody"])
        return fail() if of_poses and next(calls) == number else None

    pipeline.hook("sqs", "SendMessageBatch", before)


def throttle() -> Any:
    return SimpleNamespace(status_code=400), {"Error": {"Code": "RequestThrottled", "Message": "slow down"}}


def partly() -> Any:
    return SimpleNamespace(status_code=200), {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}


def die() -> Any:
    raise SystemExit


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("fail", [throttle, partly, die])
def test_a_fault_between_messages_loses_no_pose(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, sent: list[Any], number: int, fail: Callable[[], Any]
) -> None:
    monkeypatch.setattr("posedrop.intake.fan_out.PAGE", 12)
    put_poses(pipeline)
    for other in range(12, 24):
        pipeline.put(f"incoming/hero/poses/{other}.png", POSE)
    break_batch(pipeline, number, fail)
    face = pipeline.put(*FACE)
    if fail is die:
        with pytest.raises(SystemExit):
            pipeline.handle(face)
        pending = [body for body in sent if body.get("after")][-1:]
        pipeline.handle({"job": pending[0]} if pending else face)  # SQS delivers the message of that page again
        pipeline.drain()
    else:
        pipeline.handle(face)
        while pipeline.later:
            pipeline.resume()
    expected = Counter([*NAMES, *map(str, range(12, 24))])
    assert poses(pipeline) == expected
    assert len(pipeline.provider.posts) == expected.total()
    assert len([body for body in sent if body["pose"]]) <= expected.total() + 12


# ---- a face is read once ---------------------------------------------------------------------------------------------


def test_a_face_of_many_poses_is_read_once(pipeline: Pipeline) -> None:
    put_poses(pipeline)
    face = pipeline.put(*FACE)
    read = reads(pipeline, FACE[0])
    assert pipeline.handle(face)
    assert len(read) == 1
    assert len(poses(pipeline)) == len(NAMES)
    inputs = [record["inputs"]["face"] for record in pipeline.records().values()]
    assert inputs == inputs[:1] * len(NAMES)


def test_what_was_read_is_forgotten_after_a_day_and_says_nothing_of_the_file(pipeline: Pipeline) -> None:
    pipeline.put("incoming/hero/pose.png", POSE)
    pipeline.upload(FACE)
    (item,) = [item for item in pipeline.dynamodb.scan()["Items"] if str(item["job_id"]).startswith("read/")]
    assert item.keys() == {"job_id", "sha256", "content_type", "bytes", "changes", "expires_at", "writer"}
    assert item["expires_at"] == int(pipeline.clock.now) + 86400
    assert len(str(item["job_id"])) == len("read/") + 64


def test_another_version_of_a_face_is_read_anew(pipeline: Pipeline) -> None:
    put_poses(pipeline)
    pipeline.upload(FACE)
    read = reads(pipeline, FACE[0])
    pipeline.upload((FACE[0], image("png", (10, 10), "red")))
    assert len(read) == 1
    assert poses(pipeline) == Counter(NAMES * 2)


def test_a_face_that_is_no_image_is_read_for_each_pose(pipeline: Pipeline) -> None:
    put_poses(pipeline)
    face = pipeline.put(FACE[0], FACE[1][:-20])
    read = reads(pipeline, FACE[0])
    assert pipeline.handle(face)
    assert len(read) == len(NAMES)
    assert {record["status"] for record in pipeline.records().values()} == {"FAILED"}


@pytest.mark.parametrize("storage_class", ["STANDARD_IA", "GLACIER"])
def test_a_face_that_may_be_archived_is_read_again(pipeline: Pipeline, storage_class: str) -> None:
    pipeline.put("incoming/hero/pose.png", POSE)
    face = pipeline.put(*FACE, StorageClass=storage_class)
    assert pipeline.handle(face)
    read = reads(pipeline, FACE[0])
    assert pipeline.upload(("incoming/hero/pose.png", image("png", (12, 8), "red")))
    assert len(read) == 1
    archived = storage_class == "GLACIER"
    assert {record["status"] for record in pipeline.records().values()} == {"FAILED" if archived else "SUBMITTED"}


def test_without_versions_a_face_is_read_for_each_pose(pipeline: Pipeline) -> None:
    suspended: Any = {"Status": "Suspended"}
    pipeline.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=suspended)
    for name in NAMES[1:4]:
        pipeline.s3.put_object(Bucket=BUCKET, Key=f"incoming/hero/poses/{name}.png", Body=POSE)
    etag = pipeline.s3.put_object(Bucket=BUCKET, Key=FACE[0], Body=FACE[1])["ETag"].strip('"')
    read = reads(pipeline, FACE[0])
    found = {"bucket": {"name": BUCKET}, "object": {"key": FACE[0], "etag": etag}}
    assert pipeline.handle({"detail-type": "Object Created", "source": "aws.s3", "detail": found})
    assert len(read) == 3
    assert poses(pipeline) == Counter(NAMES[1:4])
