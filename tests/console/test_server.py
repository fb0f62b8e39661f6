"""What the console answers, over a real connection."""

import hashlib
import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import boto3
import pillow_heif
import pytest
from botocore.config import Config
from PIL import Image

from ops.console import pictures
from ops.console.app import Console as App
from ops.console.archive import archive
from ops.console.sheet import sheet
from ops.console.staging import Lost, Staging
from ops.errors import NotFound
from ops.stack import Stack
from posedrop.aws.record import only_jobs
from posedrop.contract.parameters import schema
from posedrop.contract.reasons import ReasonCode
from tests.console.conftest import CYCLE, Console, Dropped
from tests.corpus import SECRET, encode, exif, picture
from tests.integration.conftest import API_KEY, BUCKET, OUTPUTS
from tests.support import ROOT, image, until

HOSTILE = '<img src=x onerror="alert(1)">'
FACE = ("face.png", image("png", (10, 10), "white"))
CARD = {
    *("job_id", "attempt", "character", "pose", "state", "headline", "sentence", "step", "missing"),
    *("created_at", "updated_at", "submitted_at", "completed_at", "eta", "outputs", "width", "height"),
    *("prompt", "seed", "error", "metrics", "cost_usd", "can_retry", "version", "prepared", "stack", "seconds"),
}


def pose(name: str, color: str = "black") -> Dropped:
    """A pose as it is dropped."""
    return f"{name}.png", image("png", (12, 8), color)


def keys(console: Console) -> list[str]:
    """What is uploaded."""
    found = console.pipeline.s3.list_objects_v2(Bucket=BUCKET, Prefix="incoming/").get("Contents", [])
    return [entry["Key"] for entry in found]


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_the_stack(console: Console) -> None:
    found = console.get("/api/stack")
    assert found["schema"] == schema("job")
    assert found["price_usd"] == 0.0294
    assert found["default_prompt"] == "a walk in the rain"
    assert found["command"] == console.stack.command()


def test_what_somebody_must_see_to_without_what_is_in_the_summary(console: Console) -> None:
    assert console.get("/api/problems") == []
    console.refuse_account("it answered 406")
    console.pipeline.sqs.send_message(QueueUrl=console.pipeline.dead_letter_url, MessageBody="?", DelaySeconds=0)
    (problem,) = console.get("/api/problems")
    assert "1 message in the dead-letter queue" in problem["what"]
    assert problem["step"] == console.stack.command("redrive")
    assert problem["action"] == "dead-letters"


def test_pages_of_cards_hold_every_job_once_the_newest_first(console: Console) -> None:
    seeded = console.seed(25)
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(3):
        answer = console.get(f"/api/jobs?limit=10&cursor={cursor}")
        assert answer["total"] == 25
        found += answer["jobs"]
        cursor = answer["next"]
    assert cursor is None
    assert [card["job_id"] for card in found] == [record.job_id for record in seeded]
    assert [card["state"] for card in found[:10]] == list(CYCLE)
    assert answer["characters"] == [
        {"name": "hero-1", "jobs": 7},
        *({"name": f"hero-{number}", "jobs": 6} for number in (2, 3, 4)),
    ]
    assert all(card.keys() == CARD for card in found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("character=hero-2", {1, 5, 9}),
        ("state=failed", {2}),
        ("state=waiting,queued", {4, 5}),
        ("text=NUMBER+8", {7}),
        ("text=blocked+content", {2}),
        ("text=hero-1-pose-1-", {0}),
        ("hours=0.025", {0, 1, 2, 3, 4}),
        ("character=hero-3&state=done", {6}),
        ("character=nobody", set()),
    ],
)
def test_filters(console: Console, query: str, expected: set[int]) -> None:
    seeded = console.seed(10)
    if "blocked" in query:
        console.write([seeded[2]])
        seeded[2] = console.change(seeded[2], error={"type": "Rejected", "message": "blocked content"})
    found = console.get(f"/api/jobs?{query}")
    assert {card["job_id"] for card in found["jobs"]} == {seeded[index].job_id for index in expected}
    assert found["total"] == len(expected)
    assert sum(character["jobs"] for character in found["characters"]) == 10


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "hours=-1", "hours=nan", "state=lost", "cursor=x"])
def test_a_query_without_meaning_is_refused_in_words(console: Console, query: str) -> None:
    assert len(console.get(f"/api/jobs?{query}", status=400)["error"]) > 10


def test_one_job(console: Console) -> None:
    failed = console.seed(10)[2]
    found = console.get(f"/api/jobs/{failed.job_id}")
    assert found["card"]["error"] == failed.error
    events = [event["what"] for event in found["events"]]
    assert events == ["queued", "sent", "accepted", "failed", "notified", "face uploaded", "pose uploaded"]
    assert found["parameters"] == failed.parameters
    # The card has the id beside the sentence.
    assert found["explanation"]["sentence"] == re.sub("^It", f"Job {failed.job_id}", found["card"]["sentence"])


def test_one_pose_that_waits(console: Console) -> None:
    waiting = console.seed(10)[5]
    found = console.get(f"/api/jobs/{waiting.job_id}")
    assert found["card"]["state"] == "waiting"
    assert found["card"]["missing"] == ["face"]
    assert found["explanation"]["reason"] == "missing-face"


def test_the_summary(console: Console) -> None:
    console.seed(20)
    found = console.get("/api/summary")
    assert (found["backlog"], found["running"], found["waiting"]) == (2, 6, 2)
    assert (found["done"], found["failed"]) == (8, 2)
    assert sum(failure["count"] for failure in found["failures"]) == 2
    assert found["use"] == {"taken": 0, "limit": 600, "percent": 0}
    assert found["pause"] is None
    assert len(found["durations"]) == 10
    assert set(found["durations"]) == {60}
    assert 20 < found["typical_seconds"] < 40 < found["late_seconds"] < 120


def test_a_pause_is_reported_with_its_reason(console: Console) -> None:
    console.refuse_account("the provider answered 406: no credits")
    found = console.get("/api/summary")["pause"]
    assert found["account"]
    assert "no credits" in found["reason"]
    assert 0 < found["seconds"] <= 600
    assert "buy credits (406)" in found["step"]
    assert "the next probe is sent in 10 min" in found["step"]


def test_one_job_that_is_refused_is_no_pause(console: Console) -> None:
    queued = console.seed(5)[4]
    text = "the provider refused this job: it answered 403: blocked"
    deferred = {"reason": text, "reason_code": ReasonCode.REFUSED, "deferred_until": time.time() + 900}
    job = console.change(queued, refused_at=time.time(), **deferred)
    summary = console.get("/api/summary")
    assert (summary["refused"], summary["pause"]) == (1, None)
    found = console.get(f"/api/jobs/{job.job_id}")
    assert found["card"]["headline"] == "refused for now"
    assert (
        "is deferred, the other jobs continue: the provider refused this job: it answered 403"
        in found["card"]["sentence"]
    )
    assert re.sub("^It", f"Job {job.job_id}", found["card"]["sentence"]) == found["explanation"]["sentence"]
    assert [event["what"] for event in found["events"]].count("refused") == 1


def test_a_refused_job_is_one_of_all_while_the_account_is_paused(console: Console) -> None:
    queued = console.seed(5)[4]
    deferred = {"reason": "403", "reason_code": ReasonCode.REFUSED, "deferred_until": time.time() + 900}
    job = console.change(queued, refused_at=time.time(), **deferred)
    console.refuse_account("it answered 403")
    found = console.get(f"/api/jobs/{job.job_id}")
    assert found["card"]["headline"] != "refused for now"
    assert found["card"]["sentence"] is None
    assert found["explanation"]["reason"] == "paused"
    assert "this job itself was refused" in found["explanation"]["sentence"]


def test_no_response_contains_a_key(console: Console) -> None:
    seeded = console.seed(10)
    texts = [
        console.request("GET", path).data.decode()
        for path in ("/api/stack", "/api/jobs", "/api/summary", *(f"/api/jobs/{record.job_id}" for record in seeded))
    ]
    for text in texts:
        assert API_KEY not in text
        assert not re.search(r"X-Amz-|AWSAccessKeyId|AKIA|\"testing\"", text)


def test_the_stack_is_away_from_the_start(console: Console) -> None:
    console.down = True
    assert "stack.test" in console.get("/api/jobs", status=503)["error"]
    console.down = False
    until(lambda: console.request("GET", "/api/jobs").status == 200)


# ---- pictures --------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> tuple[str | None, tuple[int, int]]:
    """Format and size of an image."""
    with Image.open(io.BytesIO(data)) as found:
        return found.format, found.size


@pytest.mark.parametrize(("size", "expected"), [("thumb", ("WEBP", (480, 320))), ("large", ("WEBP", (1600, 1067)))])
def test_pictures_are_made_smaller_once(console: Console, size: str, expected: tuple[str, tuple[int, int]]) -> None:
    done = console.seed(1)[0]
    console.pipeline.s3.put_object(Bucket=OUTPUTS, Key=done.outputs[0]["key"], Body=image("png", (1800, 1200)))
    reads: list[str] = []
    console.pipeline.hook("s3", "GetObject", lambda **_: reads.append(size))
    path = f"/api/pictures/{done.job_id}?what=output&attempt=1&size={size}"
    answers = [console.request("GET", path) for _ in range(3)]
    assert {answer.data for answer in answers} == {answers[0].data}
    assert decoded(answers[0].data) == expected
    assert answers[0].headers["Content-Type"] == "image/webp"
    assert "immutable" in answers[0].headers["Cache-Control"]
    assert len(reads) == 1


def test_an_original_is_served_as_it_is(console: Console) -> None:
    done = console.seed(1)[0]
    answer = console.request("GET", f"/api/pictures/{done.job_id}?what=output&size=original&download=1")
    assert answer.data == image("png", (90, 120), "teal")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{done.job_id}-output-1.png"'
    assert "immutable" not in answer.headers["Cache-Control"]


@pytest.mark.parametrize("what", ["face", "pose"])
def test_inputs_are_shown_before_there_is_an_output(console: Console, what: str) -> None:
    running = console.seed(4)[3]
    assert decoded(console.request("GET", f"/api/pictures/{running.job_id}?what={what}").data)[0] == "WEBP"
    assert console.get(f"/api/pictures/{running.job_id}?what=output", status=404)["error"]


def test_what_waits_is_shown_as_far_as_it_came(console: Console) -> None:
    console.pipeline.upload(("incoming/hero/poses/walk.png", image("png", (12, 8), "black")))
    path = "/api/pictures/waiting/hero/walk?what="
    assert decoded(console.request("GET", f"{path}pose").data) == ("WEBP", (12, 8))
    assert console.request("GET", f"{path}face").status == 404


def huge_png() -> bytes:
    """A PNG that says it is 20,000 pixels wide, and is whole."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", ["thumb", "original"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<script>alert(1)</script>",
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        b"GIF89a<script>alert(1)</script>",
        image("png", (90, 120))[:-20],
        huge_png(),
    ],
    ids=["empty", "html", "svg", "gif", "cut", "huge"],
)
def test_what_is_no_image_is_not_served(console: Console, data: bytes, size: str) -> None:
    done = console.seed(1)[0]
    console.pipeline.s3.put_object(Bucket=OUTPUTS, Key=done.outputs[0]["key"], Body=data, ContentType="text/html")
    answer = console.request("GET", f"/api/pictures/{done.job_id}?what=output&size={size}")
    assert answer.status == 415
    assert answer.headers["Content-Type"] == "application/json"
    assert b"script" not in answer.data


def test_what_cannot_be_shown_is_read_once(console: Console) -> None:
    done = console.seed(1)[0]
    console.pipeline.s3.put_object(Bucket=OUTPUTS, Key=done.outputs[0]["key"], Body=b"no image")
    reads: list[str] = []
    console.pipeline.hook("s3", "GetObject", lambda **_: reads.append("read"))
    path = f"/api/pictures/{done.job_id}?what=output"
    assert [console.request("GET", path).status for _ in range(3)] == [415] * 3
    assert len(reads) == 1


def test_large_images_are_decoded_one_at_a_time(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    made = console.seed(1)[0]
    large = image("png", (2100, 2000))
    for stored in (made.outputs[0], *made.inputs.values()):
        console.pipeline.s3.put_object(Bucket=stored["bucket"], Key=stored["key"], Body=large)
    under_way: list[int] = []
    most: list[int] = []

    def slow(picture: pictures.Picture, _side: int) -> pictures.Picture:
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.1)
        under_way.pop()
        return picture

    monkeypatch.setattr(pictures, "_smaller", slow)
    found = pictures.Pictures(console.stack)
    with ThreadPoolExecutor(3) as pool:
        sources = [found.source(made, what) for what in ("face", "pose", "output")]
        assert [picture.data for picture in pool.map(found.get, sources, ["thumb"] * 3)] == [large] * 3
    assert most == [1] * 3


def test_the_largest_image_of_the_contract_takes_little_more_than_its_pixels() -> None:
    code = """
import resource, sys
from ops.console.pictures import Pictures, checked
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Pictures(None)._smaller(checked("a", open(sys.argv[1], "rb").read()), 480)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.new("RGBA", (8192, 8192), "teal").save(file, "PNG")
        file.flush()
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'posedrop'}"}
        command = [sys.executable, "-c", code, file.name]
        taken = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert int(taken.stdout) < 400  # MB; the pixels alone are 256


def test_whole_in_its_container_yet_nothing_inside(console: Console) -> None:
    done = console.seed(1)[0]
    png = bytearray(huge_png())
    png[16:24] = (8).to_bytes(4, "big") * 2
    import zlib

    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    console.pipeline.s3.put_object(Bucket=OUTPUTS, Key=done.outputs[0]["key"], Body=bytes(png))
    assert console.get(f"/api/pictures/{done.job_id}?what=output", status=415)["error"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("what=output&n=2", 404),
        ("what=secret", 404),
        ("what=output&attempt=2", 404),
        ("what=output&n=x", 400),
        ("size=huge", 400),
    ],
)
def test_pictures_that_are_not_there(console: Console, query: str, status: int) -> None:
    done = console.seed(1)[0]
    assert console.get(f"/api/pictures/{done.job_id}?{query}", status=status)["error"]


def test_a_contact_sheet(console: Console) -> None:
    console.seed(10, characters=1)
    answer = console.request("GET", "/api/sheet/hero-1.png")
    assert answer.headers["Content-Type"] == "image/png"
    assert decoded(answer.data) == ("PNG", (1056, 92 + 5 * (320 + 66) + 24))
    assert console.get("/api/sheet/nobody.png", status=404)["error"] == "nobody has no pictures yet"


def test_a_contact_sheet_says_whose_it_is_and_what_it_leaves_out(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = console.seed(10, characters=1)
    titles: list[str] = []
    monkeypatch.setattr("ops.console.sheet.draw", lambda _rows, _target, title: titles.append(title))
    for rows in (40, 3):
        monkeypatch.setattr("ops.console.sheet.ROWS", rows)
        sheet(pictures.Pictures(console.stack), records, "hero-1")
    assert titles == ["hero-1", "hero-1: pictures 1 to 3 of 5"]


def test_many_pictures_stand_in_a_grid_that_a_screen_shows(console: Console) -> None:
    console.seed(80, states=("done",), characters=1)
    assert console.get("/api/sheet/hero-1.json") == {"pictures": 80}
    shapes = []
    for page in (1, 2, 3):
        answer = console.request("GET", f"/api/sheet/hero-1.png?page={page}")
        with Image.open(io.BytesIO(answer.data)) as drawn:
            shapes.append(drawn.width / drawn.height)
    assert all(1.2 < shape < 2.2 for shape in shapes)
    assert "no pictures" in console.get("/api/sheet/hero-1.png?page=4", status=404)["error"]
    assert console.get("/api/sheet/hero-1.png?page=0", status=400)["error"] == "page is a number from 1 to 1000"


# ---- dropping --------------------------------------------------------------------------------------------------------


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


# ---- once more -------------------------------------------------------------------------------------------------------


def test_a_retry_asks_first(console: Console) -> None:
    failed = console.seed(3)[2]
    path = f"/api/jobs/{failed.job_id}/retry"
    asked = console.post(path, {})
    assert asked["usd"] == 0.0294
    assert "attempt 2" in asked["asks"]
    assert console.pipeline.receive(console.pipeline.queue_url) == []
    assert console.post(path, {"confirm": True}, status=202) == {"job_id": failed.job_id, "attempt": 2}
    (message,) = console.pipeline.receive(console.pipeline.queue_url)
    assert json.loads(message["Body"]) == {"retry": failed.job_id}


def test_a_retry_in_vain_is_refused(console: Console) -> None:
    seeded = console.seed(3)
    assert "has not failed" in console.post(f"/api/jobs/{seeded[0].job_id}/retry", {}, status=409)["error"]
    assert console.post("/api/jobs/none/retry", {"confirm": True}, status=404)["error"]


def test_a_body_that_is_no_object_is_refused(console: Console) -> None:
    failed = console.seed(3)[2]
    assert console.post(f"/api/jobs/{failed.job_id}/retry", [], status=400)["error"]
    assert console.post(f"/api/jobs/{failed.job_id}/again", {"seed": "7"}, status=400)["error"]
    assert console.post(f"/api/jobs/{failed.job_id}/again", {"seed": 2**63}, status=400)["error"]


def made(console: Console, name: str = "walk") -> dict[str, Any]:
    """A job that was made of an upload, and came to its end."""
    drop = console.drop(FACE, pose("walk"), parameters={"prompt": "a hall", "seed": 5}, usd=1)
    drop["poses"][0]["pose"] = name
    console.post("/api/uploads", drop, status=202)
    until(lambda: len(keys(console)) == 3)
    console.handle()
    console.finish()
    found: dict[str, Any] = until(lambda: console.get("/api/jobs?state=done")["jobs"])[0]
    return found


def again(console: Console, card: dict[str, Any], **values: Any) -> list[dict[str, Any]]:
    """Make a job's pair with other seeds; return the planned jobs."""
    sent = console.post(f"/api/jobs/{card['job_id']}/again", {**values, "confirm": True}, status=202)
    found: list[dict[str, Any]] = sent["jobs"]
    return found


def test_again_with_another_seed_is_a_new_job_of_the_same_pair(console: Console) -> None:
    card = made(console)
    asked = console.post(f"/api/jobs/{card['job_id']}/again", {})
    assert (asked["usd"], len(asked["seeds"])) == (0.0294, 1)
    assert len(keys(console)) == 3
    (job,) = again(console, card, seed=77)
    assert (job["character"], job["pose"]) == ("hero", "walk-77")
    until(lambda: len(keys(console)) == 5)
    console.handle()
    other = until(lambda: console.get("/api/jobs?text=walk-77")["jobs"])[0]
    assert (other["seed"], other["prompt"]) == (77, "a hall")
    records = console.pipeline.records()
    new, old = (records[job_id] for job_id in (other["job_id"], card["job_id"]))
    assert {**new["parameters"], "seed": 5} == old["parameters"]
    assert [new["inputs"][name]["sha256"] for name in ("face", "pose")] == [
        old["inputs"][name]["sha256"] for name in ("face", "pose")
    ]
    assert console.get(f"/api/jobs/{card['job_id']}")["card"]["state"] == "done"


@pytest.mark.parametrize("name", ["pose", "pose-sit", "pose_2"])
def test_again_with_another_seed_of_a_pose_of_any_name(console: Console, name: str) -> None:
    card = made(console, name)
    assert again(console, card, seed=77)[0]["pose"] == f"{name}-77"
    until(lambda: len(keys(console)) == 5)
    console.handle()
    assert until(lambda: console.get(f"/api/jobs?text={name}-77")["jobs"])[0]["seed"] == 77


def test_again_with_another_seed_of_the_single_pose(console: Console) -> None:
    console.pipeline.upload(("incoming/hero/face.png", FACE[1]), ("incoming/hero/pose.png", pose("x")[1]))
    console.finish()
    card = until(lambda: console.get("/api/jobs?state=done")["jobs"])[0]
    assert (card["pose"], again(console, card, seed=77)[0]["pose"]) == ("pose", "pose-77")
    until(lambda: "incoming/hero/poses/pose-77.png" in keys(console))


def test_again_with_the_same_seed_is_known(console: Console) -> None:
    card = made(console)
    again(console, card, seed=77)
    until(lambda: len(keys(console)) == 5)
    console.handle()
    other = until(lambda: console.get("/api/jobs?text=walk-77")["jobs"])[0]
    path = f"/api/jobs/{card['job_id']}/again"
    assert "exists already" in console.post(path, {"seed": 77}, status=409)["error"]
    assert again(console, other, seed=78)[0]["pose"] == "walk-78"


def test_several_seeds_at_once_for_the_price_of_all(console: Console) -> None:
    card = made(console)
    path = f"/api/jobs/{card['job_id']}/again"
    assert console.post(path, {"count": 8})["usd"] == round(8 * 0.0294, 4)
    assert "not 0.0300 USD" in console.post(path, {"count": 3, "confirm": True, "usd": 0.03}, status=409)["error"]
    jobs = again(console, card, count=3, usd=0.0882)
    assert len({job["pose"] for job in jobs}) == 3
    until(lambda: len(keys(console)) == 9)
    for count in (0, 9, True, "2"):
        assert console.post(path, {"count": count}, status=400)["error"]


def test_again_with_another_face_there_is_a_character_of_its_own(console: Console) -> None:
    card = made(console)
    console.pipeline.put("incoming/hero/face.png", image("png", (11, 11), "red"))
    (job,) = again(console, card, seed=77)
    assert (job["character"], job["pose"], job["outcome"]) == ("hero-4ded", "walk-77", "new")
    until(lambda: "incoming/hero-4ded/face.png" in keys(console))
    body = console.pipeline.s3.get_object(Bucket=BUCKET, Key="incoming/hero-4ded/face.png")["Body"]
    assert body.read() == FACE[1]


def test_a_job_is_described_so_that_it_can_be_changed_and_sent_again(console: Console) -> None:
    card = made(console)
    found = console.post("/api/edit", {"jobs": [card["job_id"]]})
    (character,) = found["characters"]
    assert character["character"] == "hero"
    assert [pose["pose"] for pose in character["poses"]] == ["walk-2"]
    assert found["parameters"]["prompt"] == "a hall"
    assert found["notes"] == []
    (job,) = console.post("/api/plan", {**found, "parameters": {"prompt": "a field"}})["jobs"]
    assert (job["outcome"], job["parameters"]["prompt"], job["parameters"]["seed"]) == ("new", "a field", 5)
    assert console.post("/api/edit", {"jobs": ["none"]}, status=404)["error"]
    assert console.post("/api/edit", {"jobs": []}, status=400)["error"]


def test_a_pose_that_waits_can_be_completed(console: Console) -> None:
    console.pipeline.put("incoming/hero/poses/walk.png", pose("walk")[1])
    console.handle()
    (card,) = until(lambda: console.get("/api/jobs?state=waiting")["jobs"])
    found = console.post("/api/edit", {"jobs": [card["job_id"]]})
    (character,) = found["characters"]
    assert character["face"] is None
    assert [each["pose"] for each in character["poses"]] == ["walk"]
    face = console.post("/api/files", FACE[1])["sha256"]
    character["face"] = {"file": "face.png", "sha256": face}
    (job,) = console.post("/api/plan", {"characters": [character]})["jobs"]
    assert job["outcome"] == "new"


def test_all_failed_jobs_among_some_are_tried_again_for_the_price_of_all(console: Console) -> None:
    seeded = console.seed(23)
    failed = [record.job_id for record in only_jobs(seeded) if record.error]
    body = {"jobs": [record.job_id for record in seeded]}
    asked = console.post("/api/retry", body)
    assert (asked["jobs"], asked["usd"]) == (2, 0.0588)
    assert "lacks a face" in asked["refused"][0]  # its files do not exist any more
    assert console.pipeline.receive(console.pipeline.queue_url) == []
    assert console.post("/api/retry", {**body, "confirm": True}, status=202)["jobs"] == 2
    retried = [json.loads(message["Body"])["retry"] for message in console.pipeline.receive(console.pipeline.queue_url)]
    assert sorted(retried) == sorted(failed[:2])


def test_a_photograph_is_shown_before_and_after(console: Console) -> None:
    upload = encode(picture(size=(64, 48)), "JPEG", quality=95, exif=exif(6))
    console.pipeline.upload(("incoming/hero/face.jpg", upload), ("incoming/hero/poses/walk.png", image("png", (9, 9))))
    (job_id,) = console.pipeline.records()
    card = console.get(f"/api/jobs/{job_id}")["card"]
    assert card["prepared"] == {"face": ["turned", "cleaned"]}
    address = f"/api/pictures/{job_id}?size=original&what="
    before, after = (console.request("GET", f"{address}{what}").data for what in ("face", "face-sent"))
    assert before == upload
    with Image.open(io.BytesIO(after)) as sent:
        assert sent.size == (48, 64)
    assert SECRET not in after
    assert console.request("GET", f"{address}pose-sent").status == 404


def test_a_picture_of_a_stack_that_hangs_is_given_up(console: Console) -> None:
    done = console.seed(1)[0]
    console.get("/api/jobs")
    console.patience = 0.5
    console.answering.clear()
    path = f"/api/pictures/{done.job_id}?what=output&attempt=1&size=thumb"
    assert "Read timeout" in console.get(path, status=502)["error"]
    console.answering.set()
    assert console.request("GET", path).status == 200


def test_pictures_come_by_the_client_that_gives_up_soon(stack: Stack) -> None:
    def client(service: str, config: Config | None = None) -> Any:
        return boto3.client(service) if config else None  # type: ignore[call-overload]

    with pytest.raises(NotFound, match="does not exist any more"):
        App(replace(stack, client=client)).pictures.get(pictures.Source(OUTPUTS, "outputs/none.png"), "thumb")


# ---- many at once ----------------------------------------------------------------------------------------------------


def selected(console: Console, *job_ids: str) -> str:
    """The address of a selection, without its ending."""
    return f"/api/selection/{console.post('/api/selection', {'jobs': list(job_ids)})['selection']}"


def test_all_that_fit_are_selected(console: Console) -> None:
    seeded = console.seed(25)
    cards = console.get("/api/ids?state=failed")
    assert [card["job_id"] for card in cards] == [record.job_id for record in only_jobs(seeded) if record.error]
    assert all(card.keys() == CARD for card in cards)
    assert console.get("/api/ids?state=lost", status=400)["error"]


def test_a_selection_is_downloaded_as_one_file_that_says_what_is_missing(console: Console) -> None:
    done = console.seed(9, states=("done",), characters=2)
    gone = replace(done[0], outputs=[{**done[0].outputs[0], "key": "outputs/none.png"}])
    twin = replace(done[1], job_id="hero-2-twin-0000000000000000")
    console.write([gone, twin])
    response = console.request("GET", f"{selected(console, *(record.job_id for record in (*done[:3], twin)))}.zip")
    assert response.status == 200
    assert response.headers["Content-Disposition"] == 'attachment; filename="posedrop.zip"'
    with zipfile.ZipFile(io.BytesIO(response.data)) as found:
        assert found.testzip() is None
        assert found.namelist() == [
            "hero-2/pose-2.png",
            "hero-1/pose-3.png",
            "hero-2/pose-2-0000000000000000.png",
            "jobs.json",
            "missing.txt",
        ]
        assert found.read("hero-2/pose-2.png") == image("png", (90, 120), "coral")
        files = {job["job_id"]: job["files"] for job in json.loads(found.read("jobs.json"))}
        assert files[gone.job_id] == []
        assert files[twin.job_id] == ["hero-2/pose-2-0000000000000000.png"]
        assert b"outputs/none.png does not exist any more" in found.read("missing.txt")


def test_the_download_is_streamed(console: Console) -> None:
    done = console.seed(3, states=("done",))
    parts = list(archive(console.stack, done))
    assert len(parts) == 4  # one for each picture, and the list at the end
    assert all(parts)


def test_a_selection_has_a_contact_sheet(console: Console) -> None:
    seeded = console.seed(10)
    address = selected(console, *(record.job_id for record in seeded))
    with Image.open(io.BytesIO(console.request("GET", f"{address}.png").data)) as sheet_of_all:
        assert sheet_of_all.format == "PNG"
    failed = selected(console, seeded[2].job_id)
    assert "no pictures yet" in console.get(f"{failed}.png", status=404)["error"]
    assert "none of these jobs has a result" in console.get(f"{failed}.zip", status=404)["error"]
    assert "select the jobs again" in console.get("/api/selection/none.zip", status=404)["error"]
