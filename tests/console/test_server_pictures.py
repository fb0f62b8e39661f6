"""The pictures that the console shows and gives to download, over a real connection."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from PIL import Image

from ops.console import pictures
from ops.console.app import Console as App
from ops.console.archive import archive
from ops.console.sheet import sheet
from ops.errors import NotFound
from ops.stack import Stack
from tests.console.conftest import Console
from tests.corpus import SECRET, encode, exif, picture
from tests.integration.conftest import OUTPUTS
from tests.support import ROOT, image


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


def selected(console: Console, *job_ids: str) -> str:
    """The address of a selection, without its ending."""
    return f"/api/selection/{console.post('/api/selection', {'jobs': list(job_ids)})['selection']}"


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
