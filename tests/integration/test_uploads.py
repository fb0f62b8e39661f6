"""The upload contract, from the upload event to the request to the provider."""

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from moto.s3.models import s3_backends

from posedrop.contract.execution import ExecutionState
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.naming import execution_name
from tests.integration.conftest import BUCKET, Pipeline
from tests.support import image, load_event

Upload = tuple[str, bytes | str | dict[str, Any]]

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.JPG", image("jpeg", (9, 9), "gray"))
JOB_FILE = ("incoming/hero/job.json", {"samples": 2, "quality": 50, "context": {"order": 7}})
WALK_FILE = ("incoming/hero/poses/walk.json", {"samples": 3, "prompt": "walking"})


def statuses(pipeline: Pipeline) -> dict[str, str]:
    """The status of each record, by its pose, or, where uploads wait, by its id."""
    return {
        key if key.startswith("waiting") else str(item["pose"]): str(item["status"])
        for key, item in pipeline.records().items()
    }


def missing(pipeline: Pipeline) -> dict[str, list[str]]:
    """What uploads wait for, by the ids of their records."""
    return {key: item["missing"] for key, item in pipeline.records().items() if item["status"] == "WAITING"}


def set_age(pipeline: Pipeline, key: str, seconds: float) -> None:
    """Let an upload be so old on the pipeline's clock."""
    stored = s3_backends["123456789012"]["aws"].buckets[BUCKET].keys[key]
    stored.last_modified = datetime.fromtimestamp(pipeline.clock.now - seconds, UTC).replace(tzinfo=None)


def parameters_sent(pipeline: Pipeline) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in body.items() if not key.endswith("_image")} for body in pipeline.provider.posts
    ]


# ---- orders of arrival -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", list(permutations([FACE, WALK, SIT])))
def test_every_order_of_arrival_makes_each_job_once(pipeline: Pipeline, files: tuple[Any, ...]) -> None:
    assert pipeline.upload(*files)
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 2
    assert len(pipeline.executions()) == 2


@pytest.mark.parametrize("files", list(permutations([FACE, WALK, JOB_FILE, WALK_FILE]))[::5])
def test_a_settled_folder_makes_the_same_job_in_every_order(pipeline: Pipeline, files: tuple[Upload, ...]) -> None:
    assert pipeline.upload(*files)
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    (sent,) = parameters_sent(pipeline)
    assert (sent["prompt"], sent["samples"], sent["quality"]) == ("walking", 3, 50)


@pytest.mark.parametrize("files", [(FACE, WALK), (WALK, FACE)])
def test_one_after_the_other(pipeline: Pipeline, files: tuple[Upload, ...]) -> None:
    for file in files:
        pipeline.upload(file)
    assert statuses(pipeline) == {"walk": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 1


def test_a_repeated_event_is_no_new_job(pipeline: Pipeline) -> None:
    events = [pipeline.put(*FACE), pipeline.put(*WALK)]
    assert all(pipeline.handle(event) for event in events * 3)
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 1


def test_an_event_after_the_end_notifies_nothing_twice(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.upload(FACE, WALK)
    assert [notified["status"] for notified in pipeline.notifications()] == ["SUCCEEDED"]
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 1


def test_the_same_files_again_are_the_same_job(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.upload(FACE, WALK)
    pipeline.upload(("incoming/hero/poses/walk.webp", WALK[1]))
    assert len(pipeline.provider.posts) == len(pipeline.records()) == 1


def test_other_content_is_another_job(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.upload((WALK[0], image("png", (12, 8), "red")))
    pipeline.upload((FACE[0], image("png", (10, 10), "red")))
    assert len(pipeline.provider.posts) == len(pipeline.records()) == 3


def test_one_face_with_many_poses(pipeline: Pipeline) -> None:
    poses = [(f"incoming/hero/poses/{number:02}.png", WALK[1]) for number in range(11)]
    for pose in poses:
        pipeline.put(*pose)
    pipeline.upload(FACE)
    assert statuses(pipeline) == {f"{number:02}": "SUBMITTED" for number in range(11)}
    assert len(pipeline.provider.posts) == len(pipeline.executions()) == 11


def test_jobs_of_other_characters_are_apart(pipeline: Pipeline) -> None:
    nested = [("incoming/hero/young/face.png", FACE[1]), ("incoming/hero/young/pose.png", WALK[1])]
    pipeline.upload(FACE, WALK, *nested)
    found = {(item["character"], item["pose"]) for item in pipeline.records().values()}
    assert found == {("hero", "walk"), ("hero/young", "pose")}
    assert len(pipeline.provider.posts) == 2


# ---- what waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([FACE], {"waiting/hero/": ["pose"]}),
        ([JOB_FILE], {"waiting/hero/": ["face", "pose"]}),
        ([FACE, JOB_FILE], {"waiting/hero/": ["pose"]}),
        ([WALK], {"waiting/hero/walk": ["face"]}),
        ([WALK, SIT], {"waiting/hero/walk": ["face"], "waiting/hero/sit": ["face"]}),
        ([WALK_FILE], {"waiting/hero/walk": ["face", "pose"]}),
        ([FACE, WALK_FILE], {"waiting/hero/walk": ["pose"]}),
        ([JOB_FILE, WALK], {"waiting/hero/walk": ["face"]}),
        ([FACE, ("incoming/hero/notes.txt", b"x")], {"waiting/hero/": ["pose"]}),
        ([FACE, ("incoming/hero/poses/.DS_Store", b"x")], {"waiting/hero/": ["pose"]}),
    ],
)
def test_missing_files_are_recorded_until_there_is_a_job(
    pipeline: Pipeline, files: list[Upload], expected: dict[str, list[str]]
) -> None:
    for file in files:
        assert pipeline.upload(file)
    assert missing(pipeline) == expected
    assert pipeline.provider.requests == []
    assert pipeline.executions() == {}
    pipeline.upload(FACE, WALK, SIT)
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "SUBMITTED"}


@pytest.mark.parametrize("bad", [(FACE[0], b"no image"), (WALK[0], b"")])
def test_what_is_missing_decides_before_what_is_bad(pipeline: Pipeline, bad: Upload) -> None:
    pipeline.upload(bad)
    assert set(statuses(pipeline).values()) == {"WAITING"}


def test_the_missing_face_is_recorded_again_after_the_pose_has_arrived(pipeline: Pipeline) -> None:
    pipeline.upload(JOB_FILE)
    pipeline.upload(FACE)
    assert missing(pipeline) == {"waiting/hero/": ["pose"]}


@pytest.fixture
def without_prompt(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_PROMPT_PARAMETER", "")


@pytest.mark.usefixtures("without_prompt")
class TestWithoutPrompt:
    @pytest.mark.parametrize(
        ("file", "metadata"),
        [
            (("incoming/hero/job.json", {"prompt": "a"}), {}),
            (("incoming/hero/poses/walk.json", {"prompt": "a"}), {}),
            (WALK, {"prompt": "a"}),
        ],
    )
    def test_a_job_waits_for_its_prompt(self, pipeline: Pipeline, file: Upload, metadata: dict[str, str]) -> None:
        pipeline.upload(FACE, WALK)
        assert missing(pipeline) == {"waiting/hero/walk": ["prompt"]}
        assert pipeline.provider.requests == []
        pipeline.handle(pipeline.put(*file, Metadata=metadata))
        assert statuses(pipeline) == {"walk": "SUBMITTED"}
        assert parameters_sent(pipeline)[0]["prompt"] == "a"

    def test_bad_input_decides_before_the_prompt(self, pipeline: Pipeline) -> None:
        pipeline.upload(FACE, (WALK[0], WALK[1][:-20]))
        assert statuses(pipeline) == {"walk": "FAILED"}

    def test_the_face_s_metadata_has_no_prompt(self, pipeline: Pipeline) -> None:
        pipeline.put(*FACE, Metadata={"prompt": "of the face"})
        pipeline.upload(WALK)
        assert missing(pipeline) == {"waiting/hero/walk": ["prompt"]}

    def test_a_prompt_that_arrives_in_between_is_found(self, pipeline: Pipeline) -> None:
        pipeline.put(*FACE)
        arrive_while_waiting(pipeline, ("incoming/hero/job.json", {"prompt": "a"}))
        pipeline.upload(WALK)
        assert statuses(pipeline) == {"walk": "SUBMITTED"}


def arrive_while_waiting(pipeline: Pipeline, file: Upload) -> None:
    """Let a file arrive when WAITING is written: its own event may have found nothing to go with."""
    files = iter([file])

    def arrive(params: dict[str, Any], **_: Any) -> None:
        if b"WAITING" in params["body"] and (found := next(files, None)):
            pipeline.put(*found)

    pipeline.hook("dynamodb", "UpdateItem", arrive)


@pytest.mark.parametrize(("first", "then"), [(WALK, FACE), (FACE, WALK), (WALK_FILE, WALK)])
def test_a_file_that_arrives_while_waiting_is_recorded_counts(pipeline: Pipeline, first: Upload, then: Upload) -> None:
    if first is WALK_FILE:
        pipeline.put(*FACE)
    arrive_while_waiting(pipeline, then)
    assert pipeline.upload(first)
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


def test_a_folder_that_keeps_changing_is_read_again(pipeline: Pipeline) -> None:
    colors = iter(range(100))

    def change(**_: Any) -> None:
        pipeline.put(WALK[0], image("png", (12, 8), (next(colors), 0, 0)))  # type: ignore[arg-type]

    pipeline.put(*FACE)
    end = pipeline.hook("s3", "GetObject", change)
    assert not pipeline.upload(WALK)
    end()
    assert pipeline.provider.requests == []
    assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


# ---- what is gone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [FACE, WALK, WALK_FILE, JOB_FILE])
def test_a_file_that_was_deleted_meanwhile_is_ignored(pipeline: Pipeline, file: Upload) -> None:
    event = pipeline.put(*file)
    pipeline.s3.delete_object(Bucket=BUCKET, Key=file[0])
    assert pipeline.handle(event)
    assert pipeline.records() == {}


def test_a_deleted_face_is_missing_again(pipeline: Pipeline) -> None:
    pipeline.put(*FACE)
    event = pipeline.put(*WALK)
    pipeline.s3.delete_object(Bucket=BUCKET, Key=FACE[0])
    assert pipeline.handle(event)
    assert missing(pipeline) == {"waiting/hero/walk": ["face"]}


# ---- settling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("younger", "goes_on"), [(FACE, False), (JOB_FILE, False), (WALK_FILE, False), (SIT, True)])
def test_a_pose_is_left_to_the_event_of_a_newer_input(pipeline: Pipeline, younger: Upload, goes_on: bool) -> None:
    for file in (FACE, JOB_FILE, WALK_FILE):
        pipeline.put(*file)
    pose, other = pipeline.put(*WALK), pipeline.put(*younger)
    set_age(pipeline, WALK[0], 3)
    set_age(pipeline, younger[0], 2)
    assert pipeline.handle(pose)
    assert len(pipeline.provider.posts) == goes_on
    if not goes_on:
        assert pipeline.records() == {}
    assert pipeline.handle(other)
    assert statuses(pipeline)["walk"] == "SUBMITTED"


def test_a_younger_input_whose_event_is_lost_is_found_once_it_has_settled(pipeline: Pipeline) -> None:
    pipeline.watch_queue()
    pose = pipeline.put(*WALK)
    pipeline.put(*FACE)
    set_age(pipeline, WALK[0], 3)
    set_age(pipeline, FACE[0], 2)
    assert pipeline.handle(pose)
    assert pipeline.records() == {}
    assert [seconds for _, seconds in pipeline.later] == [3]
    assert pipeline.resume()
    assert statuses(pipeline) == {"walk": "SUBMITTED"}


def test_a_face_is_left_to_the_event_of_a_younger_pose(pipeline: Pipeline) -> None:
    face, walk, sit = pipeline.put(*FACE), pipeline.put(*WALK), pipeline.put(*SIT)
    set_age(pipeline, FACE[0], 3)
    set_age(pipeline, WALK[0], 1)
    set_age(pipeline, SIT[0], 4)
    assert pipeline.handle(face)
    assert statuses(pipeline) == {"sit": "SUBMITTED"}
    assert pipeline.handle(sit)
    assert pipeline.handle(walk)
    assert statuses(pipeline) == {"sit": "SUBMITTED", "walk": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 2


def test_files_of_the_same_second_make_the_job_once(pipeline: Pipeline) -> None:
    events = [pipeline.put(*FACE), pipeline.put(*WALK)]
    for key in (FACE[0], WALK[0]):
        set_age(pipeline, key, 1)
    assert all(pipeline.handle(event) for event in events)
    assert len(pipeline.provider.posts) == 1


def test_an_upload_that_was_overwritten_is_left_to_the_new_one(pipeline: Pipeline) -> None:
    pipeline.put(*FACE)
    old = pipeline.put(*WALK)
    new = pipeline.put(WALK[0], image("png", (12, 8), "red"))
    set_age(pipeline, WALK[0], 1)
    assert pipeline.handle(old)
    assert pipeline.records() == {}
    assert pipeline.handle(new)
    assert len(pipeline.provider.posts) == 1


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("face.png", "face.jpg"), ("face.jpg", "face.png"), ("poses/walk.webp", "poses/walk.PNG")],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_the_newest_of_one_stem_counts(pipeline: Pipeline, first: str, second: str, newest_first: bool) -> None:
    old, new = f"incoming/hero/{first}", f"incoming/hero/{second}"
    for file in (FACE, WALK):
        if file[0] not in (old, new):
            pipeline.put(*file)
    events = [pipeline.put(old, image("png", (10, 10), "red")), pipeline.put(new, image("png", (10, 10), "blue"))]
    for name in ("face.png", "poses/walk.png"):
        if (found := f"incoming/hero/{name}") not in (old, new):
            set_age(pipeline, found, 100)
    set_age(pipeline, old, 30)
    set_age(pipeline, new, 20)
    for event in reversed(events) if newest_first else events:
        assert pipeline.handle(event)
    record = pipeline.record()
    assert new in {record["inputs"]["face"]["key"], record["inputs"]["pose"]["key"]}
    assert len(pipeline.provider.posts) == 1


def test_pose_and_poses_pose_are_the_same_pose(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, ("incoming/hero/pose.png", WALK[1]))
    assert statuses(pipeline) == {"pose": "SUBMITTED"}
    pipeline.upload(("incoming/hero/poses/pose.png", WALK[1]))
    assert len(pipeline.provider.posts) == 1
    pipeline.upload(("incoming/hero/poses/pose.png", SIT[1]))
    assert [item["pose"] for item in pipeline.records().values()] == ["pose", "pose"]
    assert len(pipeline.provider.posts) == 2


def test_the_single_pose_has_its_parameters_below_poses(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, ("incoming/hero/poses/pose.json", {"samples": 4}), ("incoming/hero/pose.png", WALK[1]))
    assert [sent["samples"] for sent in parameters_sent(pipeline)] == [4]


UNUSUAL = "incoming/Kundin Ä/held + heldin/poses/geh langsam+weit ü.png"


@pytest.mark.parametrize(
    "key",
    [
        UNUSUAL,
        "incoming/a+b/poses/c%20d.png",
        "incoming/歩/poses/く.png",
        "incoming/a&b=c?d#e/poses/x;y,z.png",
        "incoming/A\u0308/poses/A\u0308.png",
        f"incoming/{'ä' * 250}/poses/{'b' * 255}.png",
    ],
)
def test_unusual_keys_work_from_the_event_to_the_url(pipeline: Pipeline, key: str) -> None:
    face = f"{key.partition('/poses/')[0]}/face.png"
    pipeline.put(face, FACE[1])
    assert pipeline.upload((key, WALK[1]))
    (body,) = pipeline.provider.posts
    urls = [urlsplit(body["face_image"]), urlsplit(body["pose_image"])]
    assert [unquote(url.path).removeprefix(f"/{BUCKET}").removeprefix("/") for url in urls] == [face, key]
    (ends,) = [pipeline.run(execution) for execution in pipeline.executions().values()]
    (notification,) = pipeline.notifications()
    assert ends
    assert notification["inputs"]["pose"]["key"] == key


def test_the_sample_event_of_an_unusual_key(pipeline: Pipeline) -> None:
    pipeline.put("incoming/Kundin Ä/held + heldin/face.png", FACE[1])
    pipeline.put(UNUSUAL, WALK[1])
    assert pipeline.handle(load_event("intake-unusual-key.json")["Records"][0]["body"])
    assert statuses(pipeline) == {"geh langsam+weit ü": "SUBMITTED"}


# ---- outside the contract --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("incoming/hero/notes.txt", "none of face.<ext>"),
        ("incoming/face.png", "no character"),
        ("incoming/hero/../face.png", "'..'"),
        ("incoming/hero//face.png", "empty"),
        ("incoming/hero/poses/deep/walk.png", "reserved"),
        ("incoming/hero/poses/wa\u0085lk.png", "control characters"),
        ("incoming/hero/poses/", "a folder"),
        ("incoming/hero/poses/._walk.png", "a hidden file"),
        ("incoming/hero/Thumbs.db", "a side file"),
        ("incoming/hero/poses/walk.jpg.part", "still being written"),
        ("elsewhere/hero/face.png", "not below incoming/"),
    ],
)
def test_uploads_outside_the_contract_are_ignored_with_a_log_line(
    pipeline: Pipeline, logs: Callable[[], list[dict[str, Any]]], key: str, reason: str
) -> None:
    event = pipeline.put(FACE[0], FACE[1])
    event["detail"]["object"]["key"] = key
    assert pipeline.handle(event)
    (line,) = [line for line in logs() if line["message"].startswith("ignored")]
    assert reason in line["reason"]
    assert line["key"] == ascii(key)
    assert pipeline.records() == {}
    assert pipeline.receive(pipeline.dead_letter_url) == []


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_the_later_layer_wins(pipeline: Pipeline) -> None:
    pipeline.put(*FACE)
    pipeline.put(*WALK, Metadata={"prompt": "=?UTF-8?Q?im_B=C3=BCro?="})
    pipeline.upload(JOB_FILE, WALK_FILE)
    assert parameters_sent(pipeline) == [
        {
            "prompt": "im Büro",
            "base_64": False,
            "custom_height": 1024,
            "custom_width": 1024,
            "output_format": "png",
            "quality": 50,
            "samples": 3,
            "seed": 2778725438,
            "use_input_img_dimension": True,
        }
    ]
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert notified["context"] == {"order": 7}
    assert notified["parameters"]["prompt"] == "im Büro"


def test_a_later_job_file_makes_new_jobs(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK, SIT)
    pipeline.upload(JOB_FILE)
    assert [sent["samples"] for sent in parameters_sent(pipeline)] == [1, 1, 2, 2]
    pipeline.upload(JOB_FILE)
    assert len(pipeline.provider.posts) == 4


def test_a_job_file_that_says_what_is_so_anyway_makes_no_new_job(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.upload(("incoming/hero/job.json", {"samples": 1.0, "quality": 95}))
    assert len(pipeline.provider.posts) == len(pipeline.records()) == 1


def test_a_pose_file_is_for_its_pose_alone(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK, SIT, WALK_FILE)
    assert sorted(sent["samples"] for sent in parameters_sent(pipeline)) == [1, 3]


def too_many_pixels() -> bytes:
    """A PNG whose header says more pixels than are taken."""
    data = image("png", (8, 6))
    header = data[12:16] + struct.pack(">II", 20_001, 10_000) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


# ---- bad input -------------------------------------------------------------------------------------------------------

FACE_KEY, WALK_KEY, JOB_KEY, WALK_JSON = FACE[0], WALK[0], JOB_FILE[0], WALK_FILE[0]
BAD = [
    pytest.param([(FACE_KEY, "hello, this is a text")], [FACE_KEY, "this is text", "upload a picture"], id="text"),
    pytest.param(
        [(FACE_KEY, FACE[1] + bytes(UPLOAD_LIMIT))], [FACE_KEY, "bytes, more than 104857600"], id="over 100 MiB"
    ),
    pytest.param([(WALK_KEY, b"")], [WALK_KEY, "an empty file"], id="empty pose"),
    pytest.param([(WALK_KEY, WALK[1][:-20])], [WALK_KEY], id="cut image"),
    pytest.param([(WALK_KEY, too_many_pixels())], [WALK_KEY, "20001 x 10000 pixels", "200 million"], id="200 Mpx"),
    pytest.param([(JOB_KEY, "samples: 2")], [JOB_KEY, "not JSON"], id="not JSON"),
    pytest.param([(JOB_KEY, {"smaples": 2})], [JOB_KEY, "smaples", "did you mean samples"], id="unknown name"),
    pytest.param([(JOB_KEY, {"custom_width": 10})], [JOB_KEY, "custom_width", "bigger than or equal to 64"], id="px"),
    pytest.param([(JOB_KEY, {"context": {"a": "x" * 2**20}})], [JOB_KEY, "larger than 65536"], id="1 MB context"),
    pytest.param([(JOB_KEY, {"context": {"a": "x" * 5000}})], [JOB_KEY, "context", "5008 bytes"], id="5 KB context"),
    pytest.param([(JOB_KEY, "[" * 10_000)], [JOB_KEY, "nested too deeply"], id="nested"),
    pytest.param([(WALK_JSON, {"seed": "1"})], [WALK_JSON, "seed", "integer"], id="pose file"),
    pytest.param([(WALK_JSON, {"face_image": "https://x"})], [WALK_JSON, "face_image"], id="an image as parameter"),
    pytest.param(
        [(FACE_KEY, ""), (WALK_KEY, "x"), (JOB_KEY, "x"), (WALK_JSON, {"x": 1})],
        [FACE_KEY, WALK_KEY, JOB_KEY, WALK_JSON],
        id="all at once",
    ),
]


@pytest.mark.parametrize(("bad", "texts"), BAD)
def test_bad_input_is_notified_and_never_sent(pipeline: Pipeline, bad: list[Upload], texts: list[str]) -> None:
    for file in (FACE, WALK):
        pipeline.put(*file)
    assert pipeline.upload(*bad, WALK) if WALK_KEY not in dict(bad) else pipeline.upload(*bad)
    pipeline.pass_time(120)
    while pipeline.messages:  # what may still have been in the queue
        pipeline.resume()
    record = pipeline.record()
    assert (record["status"], record["error"]["type"]) == ("FAILED", "InvalidInput")
    ((name, given),) = pipeline.executions().items()
    assert name == f"{record['job_id']}-1"
    assert ExecutionState.of(given) == ExecutionState(str(record["job_id"]), 1, finished=True, tenths=[])  # type: ignore[arg-type]
    pipeline.run_all()
    (notification,) = pipeline.notifications()
    assert (notification["status"], notification["error"]["type"]) == ("FAILED", "InvalidInput")
    assert all(text in notification["error"]["message"] for text in texts)
    assert pipeline.provider.requests == []
    assert pipeline.receive(pipeline.dead_letter_url) == []
    assert pipeline.later == []


def test_bad_input_of_a_job_file_ends_the_job_of_every_pose(pipeline: Pipeline) -> None:
    for file in (FACE, WALK, SIT):
        pipeline.put(*file)
    pipeline.upload((JOB_KEY, {"samples": 9}))
    assert statuses(pipeline) == {"walk": "FAILED", "sit": "FAILED"}


def test_a_fixed_file_makes_a_new_job(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK, (JOB_KEY, {"samples": 9}))
    pipeline.upload((JOB_KEY, {"samples": 3}))
    assert sorted(item["status"] for item in pipeline.records().values()) == ["FAILED", "SUBMITTED"]
    assert [sent["samples"] for sent in parameters_sent(pipeline)] == [3]


def test_the_same_bad_file_again_is_notified_once(pipeline: Pipeline) -> None:
    for _ in range(2):
        pipeline.upload(FACE, WALK, (JOB_KEY, "no JSON"))
        pipeline.run_all()
    assert len(pipeline.notifications()) == 1


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_a_presigned_url_serves_the_version_that_was_read(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    (body,) = pipeline.provider.posts
    record = pipeline.record()
    for name, file in (("face", FACE), ("pose", WALK)):
        read = record["inputs"][name]
        assert read["sha256"] == hashlib.sha256(file[1]).hexdigest()
        query = parse_qs(urlsplit(body[f"{name}_image"]).query)
        assert query["versionId"] == [read["version_id"]]
        assert query["response-content-type"] == ["image/png"]
        assert query["X-Amz-Expires"] == ["3600"]
        pipeline.put(file[0], image("png", (5, 5), "red"))
        version = pipeline.s3.get_object(Bucket=BUCKET, Key=file[0], VersionId=read["version_id"])
        assert version["Body"].read() == file[1]


def test_the_content_type_is_that_of_the_bytes(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, ("incoming/hero/poses/walk.png", SIT[1]))
    (body,) = pipeline.provider.posts
    assert parse_qs(urlsplit(body["pose_image"]).query)["response-content-type"] == ["image/jpeg"]


@pytest.mark.parametrize("files", [(FACE, WALK)])
def test_base64_carries_the_bytes(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, files: tuple[Any, ...]
) -> None:
    monkeypatch.setenv("IMAGE_TRANSPORT", "base64")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    pipeline.upload(*files)
    (body,) = pipeline.provider.posts
    assert base64.b64decode(body["face_image"], validate=True) == FACE[1]
    assert base64.b64decode(body["pose_image"], validate=True) == WALK[1]


def test_a_bucket_without_versions_works(pipeline: Pipeline) -> None:
    pipeline.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    for key, data in (FACE, WALK):
        pipeline.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    event = load_event("intake-pose.json")["Records"][0]["body"]
    assert pipeline.handle(event)
    assert pipeline.record()["status"] == "SUBMITTED"


def test_the_execution_knows_where_the_job_is(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    record = pipeline.record()
    ((name, given),) = pipeline.executions().items()
    assert name == execution_name(str(record["job_id"]), 1)
    state = ExecutionState.of(given)
    assert (state.job_id, state.attempt, state.character, state.pose) == (record["job_id"], 1, "hero", "walk")
    assert (state.request_id, state.polls, state.finished, state.error) == ("request-1", 0, False, None)
    assert state.submitted_at == pytest.approx(pipeline.clock.now, abs=0.01)
    assert isinstance(given["wait_seconds"], int)
    assert 15 <= given["wait_seconds"] <= 40


def test_the_record_says_what_was_sent(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [httpx.Response(200, json={"request_id": "2c7f59ea", "status_url": "https://x"})]
    pipeline.upload(FACE, WALK, JOB_FILE)
    record = pipeline.record()
    assert (record["request_id"], record["attempt"], record["parameters"]["samples"]) == ("2c7f59ea", 1, 2)
    assert {request.url.host for request in pipeline.provider.requests} == {"segmind.test"}
