"""What is dropped on the console: it is planned, then uploaded, and nothing of it is lost."""

import hashlib
import io
import json
import random
import socket
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from ops.console.staging import Lost, Staging
from tests.console.conftest import Console
from tests.console.dropped import FACE, keys, pose
from tests.corpus import encode, exif, picture
from tests.support import image, until

HOSTILE = '<img src=x onerror="alert(1)">'


def test_a_plan_sends_nothing_and_says_what_it_costs(console: Console) -> None:
    found = console.plan(FACE, pose("walk"), pose("sit", "gray"), parameters={"seed": 7})
    assert [(job["pose"], job["outcome"], job["usd"]) for job in found["jobs"]] == [
        ("sit", "new", 0.0294),
        ("walk", "new", 0.0294),
    ]
    assert found["usd"] == 0.0588
    assert found["refused"] == []
    assert keys(console) == []


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("walk.pdf", b"%PDF-1.7", "this is a PDF: save the picture as JPEG or PNG"),
        ("walk.png", b"no image", "this is text: upload a picture"),
        ("walk.png", b"", "empty"),
        ("walk.png", image("png", (90, 120))[:-20], "truncated"),
        ("a\x01b.png", image(), "control characters"),
        ("walk.json", b"{}", "would be another kind of upload"),
    ],
)
def test_a_plan_says_what_the_contract_refuses(console: Console, name: str, data: bytes, why: str) -> None:
    found = console.plan(FACE, pose("sit"), (name, data))
    reasons = [job["why"] for job in found["jobs"] if job["outcome"] == "refused"]
    reasons += [refused["why"] for refused in found["refused"]]
    assert len(reasons) == 1
    assert why in reasons[0]
    assert "incoming/" not in reasons[0]
    assert found["usd"] == 0.0294


def test_a_plan_says_which_file_is_wrong_where_it_is_not_the_pose_s(console: Console) -> None:
    found = console.plan((FACE[0], FACE[1][:-20]), pose("sit"))
    (why,) = [job["why"] for job in found["jobs"]]
    assert why.startswith("hero/face.png: ")
    assert "truncated" in why


def test_a_plan_knows_what_is_there_already(console: Console) -> None:
    console.upload(FACE, pose("walk"))
    until(lambda: len(keys(console)) == 2)
    console.handle()
    (job,) = console.plan(pose("walk"))["jobs"]
    assert (job["outcome"], job["usd"]) == ("known", 0)
    assert "submitted" in job["why"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"poses": []}, "choose a face or a pose"),
        ({"character": " "}, "name the character"),
        ({"parameters": []}, ""),
        ({"parameters": [1]}, "not a JSON object"),
        ({"poses": ["walk.png"]}, "is described by"),
        ({"poses": [{"file": "walk.png", "sha256": 7}]}, "is described by"),
        ({"poses": [{"file": "walk.png", "bytes": 7}]}, "is described by"),
        ({"poses": 5001 * [{"file": "walk.png"}]}, "at most 5000"),
        ({"characters": [7]}, "a list of objects"),
        ({"characters": 2 * [{"character": "hero", "poses": [{"file": "walk.png"}]}]}, "the same name: hero"),
    ],
)
def test_a_drop_that_is_none(console: Console, changes: dict[str, Any], error: str) -> None:
    drop = {**console.drop(pose("walk")), **changes}
    assert error in console.post("/api/plan", drop, status=409 if error else 200).get("error", "")


def test_a_file_comes_once_and_is_kept_until_it_is_uploaded(console: Console) -> None:
    drop = console.drop(FACE, pose("walk"))
    for seed in (1, 2):
        assert console.post("/api/plan", {**drop, "parameters": {"seed": seed}})["usd"] == 0.0294
    assert console.post("/api/uploads", {**drop, "usd": 0.0294}, status=202)["files"] == 2
    # An upload is announced as done a moment before its files are let go.
    until(lambda: console.request("POST", "/api/plan", drop).status == 410)
    refused = console.post("/api/plan", drop, status=410)
    assert refused["lost"] == [drop["face"]["sha256"], drop["poses"][0]["sha256"]]


def test_a_file_that_is_too_large_is_refused_without_being_sent(console: Console) -> None:
    found = console.post("/api/plan", {**console.drop(FACE, pose("sit")), "poses": [{"file": "walk.png"}]})
    assert "more than 104857600 bytes" in found["refused"][0]["why"]
    assert "104857600" in console.post("/api/files", bytes(100 * 2**20 + 1), status=413)["error"]


def test_a_file_whose_size_is_not_known_is_refused(console: Console) -> None:
    chunked = console.request("POST", "/api/files", FACE[1], chunked=True)
    assert chunked.status == 411


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 7])
def test_a_file_of_any_size_is_known_by_its_content(console: Console, size: int) -> None:
    data = random.Random(size).randbytes(size)
    kept = console.post("/api/files", data)
    assert kept == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": size}
    staged = console.server.console.acting.staging.get([kept["sha256"]])[kept["sha256"]]  # type: ignore[union-attr]
    assert staged.read() == data
    assert staged.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_response_is_sent_at_once(console: Console) -> None:
    """Without TCP_NODELAY the body of each response waits 40 ms for the acknowledgement of its headers."""
    with socket.create_connection(("127.0.0.1", int(console.base.rpartition(":")[2]))):
        connections = until(lambda: list(console.server.server_state.connections))  # type: ignore[union-attr]
        (option,) = {
            connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for connection in connections
        }
    assert option


def test_what_is_kept_is_bounded_on_disk() -> None:
    staging = Staging(limit=100)
    first, *others = (staging.put(bytes([number]) * 30) for number in range(3))
    staging.pin([first.sha256])
    others += [staging.put(bytes([number]) * 30) for number in range(3, 5)]
    with pytest.raises(Lost) as lost:
        staging.get([first.sha256, *(file.sha256 for file in others)])
    assert lost.value.hashes == [file.sha256 for file in others[:2]]  # the oldest but what is being uploaded
    assert [file.path.exists() for file in (first, *others)] == [True, False, False, True, True]
    staging.release([first.sha256])
    assert not first.path.exists()
    staging.close()
    assert not others[-1].path.exists()


def test_parameters_outside_the_schema_are_refused_by_the_contract(console: Console) -> None:
    (job,) = console.plan(FACE, pose("walk"), parameters={"quality": 1000})["jobs"]
    assert job["outcome"] == "refused"
    assert "quality" in job["why"]
    assert "quality" in console.upload(FACE, pose("walk"), parameters={"quality": 1000}, status=409)["error"]
    assert keys(console) == []


def test_a_plan_says_which_parameters_will_count(console: Console) -> None:
    console.pipeline.put("incoming/hero/job.json", {"samples": 4, "seed": 2**63 - 1})
    (job,) = console.plan(FACE, pose("walk"), parameters={"quality": 50})["jobs"]
    assert job["parameters"]["samples"] == 4
    assert job["parameters"]["seed"] == 2**63 - 1
    assert job["parameters"]["quality"] == 50
    assert not {"face_image", "pose_image"} & job["parameters"].keys()
    # What somebody chose counts, though it is the default.
    (job,) = console.plan(FACE, pose("walk"), parameters={"samples": 1})["jobs"]
    assert job["parameters"]["samples"] == 1


@pytest.mark.parametrize("data", [b"no image", b"", image("png")[:-20]], ids=["text", "empty", "cut"])
def test_a_face_alone_is_checked_too(console: Console, data: bytes) -> None:
    found = console.plan(("face.png", data))
    assert [(refused["file"], bool(refused["why"])) for refused in found["refused"]] == [("face.png", True)]
    assert "face.png" in console.upload(("face.png", data), status=409)["error"]
    assert keys(console) == []


def test_an_upload_is_bound_to_the_price_that_was_agreed_to(console: Console) -> None:
    drop = console.drop(FACE, pose("walk"))
    usd = console.post("/api/plan", drop)["usd"]
    console.pipeline.put("incoming/hero/poses/sit.png", image("png", (9, 9), "gray"))
    assert "check the plan again" in console.post("/api/uploads", {**drop, "usd": usd}, status=409)["error"]
    assert console.post("/api/uploads", drop, status=400)["error"]
    assert keys(console) == ["incoming/hero/poses/sit.png"]
    assert console.post("/api/uploads", {**drop, "usd": 2 * usd}, status=202)


def test_the_folder_is_listed_once_for_any_number_of_poses(console: Console) -> None:
    drop = console.drop(FACE, *(pose(f"walk-{number}", f"#0000{number:02}") for number in range(20)))
    lists: list[str] = []
    console.pipeline.hook("s3", "ListObjectsV2", lambda **_: lists.append("list"))
    assert len(console.post("/api/plan", drop)["jobs"]) == 20
    assert len(lists) == 2


def test_an_upload_becomes_jobs(console: Console) -> None:
    files = [("face-anna.png", FACE[1]), pose("walk"), pose("pose-sit", "gray")]
    found = console.upload(*files, character="", parameters={"prompt": "a hall"})
    until(lambda: len(keys(console)) == 5)
    assert keys(console) == [
        "incoming/anna/face.png",
        "incoming/anna/poses/sit.json",
        "incoming/anna/poses/sit.png",
        "incoming/anna/poses/walk.json",
        "incoming/anna/poses/walk.png",
    ]
    console.handle()
    cards = until(lambda: console.get("/api/jobs?character=anna")["jobs"])
    assert {(card["pose"], card["prompt"]) for card in cards} == {("walk", "a hall"), ("sit", "a hall")}
    assert {card["job_id"] for card in cards} == {job["job_id"] for job in found["jobs"]}


@pytest.mark.parametrize("name", ["pose-1", "pose_sit", "pose", "face-up", "walk.v2", "größe"])
def test_a_pose_that_somebody_named_keeps_its_name(console: Console, name: str) -> None:
    drop = console.drop(FACE, pose("anything"))
    drop["poses"][0]["pose"] = name
    (job,) = console.post("/api/plan", drop)["jobs"]
    assert (job["pose"], job["outcome"]) == (name, "new")
    console.post("/api/uploads", {**drop, "usd": 1}, status=202)
    until(lambda: f"incoming/hero/poses/{name}.png" in keys(console))


@pytest.mark.parametrize("name", ["a/b", "a\x01"])
def test_a_name_that_is_no_poses_is_refused_whole(console: Console, name: str) -> None:
    drop = console.drop(FACE, pose("walk"))
    drop["poses"][0]["pose"] = name
    (refused,) = console.post("/api/plan", drop)["refused"]
    assert (refused["file"], refused["pose"]) == ("walk.png", name)


def test_what_is_refused_is_left_out_and_the_rest_is_sent(console: Console) -> None:
    console.upload(FACE, pose("walk"), ("bad.png", image("png")[:-20]))
    until(lambda: len(keys(console)) == 2)
    assert keys(console) == ["incoming/hero/face.png", "incoming/hero/poses/walk.png"]


def characters(console: Console, *names: str, poses: int = 2) -> dict[str, Any]:
    """Several characters as the page describes them."""
    drops = []
    for number, name in enumerate(names):
        face = ("face.png", image("png", (10, 10), f"#00{number:02}00"))
        drops.append(
            console.drop(face, *(pose(f"p{at}", f"#{number:02}{at:02}00") for at in range(poses)), character=name)
        )
    return {"characters": drops, "parameters": {"prompt": "a hall"}}


def test_several_characters_are_planned_and_uploaded_as_one(console: Console) -> None:
    body = characters(console, "client/a", "client/b", "c")
    planned = console.post("/api/plan", body)
    assert [(job["character"], job["pose"]) for job in planned["jobs"]] == [
        (name, each) for name in ("client/a", "client/b", "c") for each in ("p0", "p1")
    ]
    assert planned["usd"] == round(6 * 0.0294, 4)
    found = console.post("/api/uploads", {**body, "usd": planned["usd"]}, status=202)
    assert found["files"] == 15
    until(lambda: len(keys(console)) == 15)
    console.handle()
    cards = until(lambda: (page := console.get("/api/jobs"))["total"] == 6 and page["jobs"])
    assert {card["job_id"] for card in cards} == {job["job_id"] for job in found["jobs"]}


def test_what_is_there_already_is_not_uploaded_again(console: Console) -> None:
    body = characters(console, "a", "b")
    console.post("/api/uploads", {**body, "usd": 9}, status=202)
    until(lambda: len(keys(console)) == 10)
    console.handle()
    until(lambda: console.get("/api/jobs")["total"] == 4)
    body = characters(console, "a", "b", poses=3)
    planned = console.post("/api/plan", body)
    assert sorted(job["outcome"] for job in planned["jobs"]) == ["known"] * 4 + ["new"] * 2
    found = console.post("/api/uploads", {**body, "usd": planned["usd"]}, status=202)
    assert found["files"] == 4  # the two new poses and their parameters, and no face
    until(lambda: len(keys(console)) == 14)
    assert "exists already" in console.post("/api/uploads", {**characters(console, "a"), "usd": 9}, status=409)["error"]


def test_a_pose_of_a_folder_keeps_its_own_job_file(console: Console) -> None:
    drop = console.drop(FACE, pose("walk"), pose("sit", "gray"))
    own = {"walk": {"prompt": "a field", "seed": 3}, "": {"prompt": "all"}}
    kept = {name: console.post("/api/files", json.dumps(value).encode())["sha256"] for name, value in own.items()}
    drop["poses"][0]["parameters"] = kept["walk"]
    drop["job_file"] = kept[""]
    jobs = console.post("/api/plan", drop)["jobs"]
    assert {job["pose"]: (job["parameters"]["prompt"], job["parameters"].get("seed")) for job in jobs} == {
        "walk": ("a field", 3),
        "sit": ("all", jobs[0]["parameters"].get("seed")),
    }
    jobs = console.post("/api/plan", {**drop, "parameters": {"prompt": "x"}})["jobs"]
    assert {(job["parameters"]["prompt"]) for job in jobs} == {"x"}
    assert [job["parameters"]["seed"] for job in jobs if job["pose"] == "walk"] == [3]
    drop["poses"][0]["parameters"] = console.post("/api/files", b"no JSON")["sha256"]
    (refused,) = console.post("/api/plan", {**drop, "parameters": {"prompt": "x"}})["refused"]
    assert "not JSON" in refused["why"]


def test_paths_are_arranged_as_characters(console: Console) -> None:
    paths = ["c/a/face.jpg", "c/a/walk.jpg", "c/a/.DS_Store", "c/a/notes.txt", "c/a/job.json"]
    assert console.post("/api/arrange", {"paths": paths}) == {
        "characters": [
            {
                "name": "c/a",
                "face": "c/a/face.jpg",
                "poses": [{"path": "c/a/walk.jpg", "name": "walk"}],
                "parameters": {"": "c/a/job.json"},
            }
        ],
        "left_out": [{"path": "c/a/notes.txt", "why": "its name is not that of a picture"}],
        "side_files": 1,
    }
    assert console.post("/api/arrange", {"paths": []}, status=400)["error"]


@pytest.mark.parametrize("kind", ["jpeg", "heic"])
def test_a_chosen_file_is_shown_upright_as_it_will_be_sent(console: Console, kind: str) -> None:
    if kind == "heic":
        out = io.BytesIO()
        pillow_heif.from_pillow(picture(size=(64, 48))).save(out, exif=exif(6))
        data = out.getvalue()
    else:
        data = encode(picture(size=(64, 48)), "JPEG", exif=exif(6))
    sha256 = console.post("/api/files", data)["sha256"]
    shown = console.request("GET", f"/api/files/{sha256}")
    with Image.open(io.BytesIO(shown.data)) as image:
        assert image.size == (48, 64)
    assert console.request("GET", f"/api/files/{'0' * 64}").status == 410
    (job,) = console.plan(FACE, (f"walk.{kind}", data))["jobs"]
    assert "converted" in job["changes"]["pose"] if kind == "heic" else "turned" in job["changes"]["pose"]


def test_names_that_attack_stay_data(console: Console) -> None:
    console.upload(FACE, (f"{HOSTILE}.png".replace('"', "'"), pose("x")[1]), character=HOSTILE)
    until(lambda: len(keys(console)) == 2)
    console.handle()
    answer = until(lambda: (a := console.request("GET", "/api/jobs")) and json.loads(a.data)["jobs"] and a)
    assert answer.headers["Content-Type"] == "application/json"
    (card,) = json.loads(answer.data)["jobs"]
    assert card["character"] == HOSTILE
    found = console.get(f"/api/jobs/{card['job_id']}")
    assert found["card"]["character"] == HOSTILE
