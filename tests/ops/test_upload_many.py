"""Uploads of folders and of lists: what is shown and asked before, what goes, and what is reported."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import EndpointConnectionError

from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.record import AnyRecord
from tests.integration.conftest import BUCKET, Pipeline
from tests.ops.conftest import FACE, SIT, WALK, Run
from tests.support import image

Ask = Callable[..., Any]
PRICE = 0.0294
FAILED = httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})
COMPLETED = httpx.Response(200, json={"status": "COMPLETED", "metrics": {}})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this machine with two characters; the command runs beside them."""
    for name, body in (
        ("shoot/hero/face.png", FACE[1]),
        ("shoot/hero/poses/walk.png", WALK[1]),
        ("shoot/hero/poses/sit.png", SIT[1]),
        ("shoot/anna/face-anna.png", image("png", (20, 20), "red")),
        ("shoot/anna/run.png", image("png", (12, 9), "blue")),
        ("shoot/.DS_Store", b"x"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def work_on(pipeline: Pipeline, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline works whenever the command waits."""

    def work(seconds: float) -> None:
        pipeline.clock.sleep(seconds)
        with redirect_stdout(io.StringIO()):  # the functions' metrics
            for message in pipeline.receive(pipeline.queue_url):
                pipeline.handle(message["Body"])
            for name in {
                key.removeprefix("incoming/").rpartition("/")[0].removesuffix("/poses") for key in keys(pipeline)
            }:
                pipeline.handle({"job": {"bucket": BUCKET, "character": name, "pose": "", "upload": None}})
            pipeline.run_all()

    monkeypatch.setattr("ops.cli.shell.find", lambda target: replace(stack, sleep=work))


def keys(pipeline: Pipeline) -> list[str]:
    """What is in the upload bucket."""
    listed = pipeline.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(entry["Key"] for entry in listed)


def versions(pipeline: Pipeline) -> int:
    """How many uploads there were."""
    return len(pipeline.s3.list_object_versions(Bucket=BUCKET).get("Versions", []))


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_folders_is_uploaded_followed_and_reported(
    pipeline: Pipeline, run: Run, here: Path, work_on: None
) -> None:
    (answer,) = pipeline.provider.results
    assert isinstance(answer, httpx.Response)
    body = answer.json()
    body["metrics"]["cost"] = 0.03
    pipeline.provider.results = [httpx.Response(200, json=body)]
    result = run("upload", "shoot", "--yes", "-o", "out", "--report", "report.json")
    assert keys(pipeline) == [
        "incoming/shoot/anna/face.png",
        "incoming/shoot/anna/poses/run.png",
        "incoming/shoot/hero/face.png",
        "incoming/shoot/hero/poses/sit.png",
        "incoming/shoot/hero/poses/walk.png",
    ]
    assert "1 side file ignored." in result.stderr
    assert result.stdout.splitlines()[-1] == "3 jobs: 3 succeeded. Cost: 0.0900 USD."
    images = result.stdout.splitlines()[:-1]
    assert len(images) == 3
    assert all((here / path).read_bytes() == next(iter(pipeline.outputs().values())) for path in images)
    report = json.loads((here / "report.json").read_text())
    assert (report["jobs"], report["succeeded"], report["cost_usd"], report["cost_unknown"]) == (3, 3, 0.09, 0)
    assert {(each["character"], each["pose"], each["picture"]) for each in report["results"]} == {
        ("shoot/anna", "run", "shoot/anna/run.png"),
        ("shoot/hero", "sit", "shoot/hero/poses/sit.png"),
        ("shoot/hero", "walk", "shoot/hero/poses/walk.png"),
    }
    assert {path for each in report["results"] for path in each["images"]} == set(images)


def test_one_folder_is_a_character_of_its_name_or_of_another(
    pipeline: Pipeline, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("upload", "shoot/hero/", "--yes", "--no-wait")
    assert {record["character"] for record in settled(pipeline)} == {"hero"}
    monkeypatch.chdir(here / "shoot" / "anna")
    run("upload", ".", "--yes", "--no-wait", "--character", "client/eva", "--prompt", "x", "--param", "seed=4")
    (made,) = [record for record in settled(pipeline) if record["character"] == "client/eva"]
    assert (made["parameters"]["seed"], made["parameters"]["prompt"]) == (4, "x")
    assert (
        "--character names one character, but there are 2"
        in run("upload", str(here / "shoot"), "--character", "x", "--yes", code=4).stderr
    )
    assert (
        "two folders make the same character: hero"
        in run("upload", *[str(here / "shoot" / "hero")] * 2, "--yes", code=4).stderr
    )


def settled(pipeline: Pipeline) -> list[dict[str, Any]]:
    """All records, once the folders have been read."""
    for key in keys(pipeline):
        folder = key.removeprefix("incoming/").rpartition("/")[0].removesuffix("/poses")
        pipeline.handle({"job": {"bucket": BUCKET, "character": folder, "pose": "", "upload": None}})
    pipeline.clock.now += 60
    return list(pipeline.records().values())


def test_it_shows_what_it_would_do_and_asks(
    pipeline: Pipeline, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "shoot/hero/poses/broken.png").write_bytes(b"not a picture")
    (here / "shoot/hero/notes.txt").write_bytes(b"x")
    (here / "shoot/lonely").mkdir()
    (here / "shoot/lonely/face.png").write_bytes(FACE[1])
    assert "Add --yes: there is no terminal to ask on." in run("upload", "shoot", code=2).stderr
    monkeypatch.setattr("ops.cli.shell.has_terminal", lambda: True)
    asked = run("upload", "shoot", code=1, answer="n\n").stderr
    assert keys(pipeline) == []
    rows = {line.split("   ")[0].strip(): line.split()[1:] for line in asked.splitlines()}
    assert rows["shoot/anna"] == ["1", "-", "-", "0.0294", "USD"]
    assert rows["shoot/hero"] == ["2", "-", "1", "0.0588", "USD"]
    assert "! shoot/hero/poses/broken.png: this is text: upload a picture" in asked
    assert "! shoot/hero/notes.txt: its name is not that of a picture" in asked
    assert "! shoot/lonely/face.png: a face without poses makes no job" in asked
    assert "Upload 5 files for 3 new jobs, about 0.0882 USD?" in asked
    done = run("upload", "shoot", "--no-wait", answer="y\n", code=4)
    assert "incoming/shoot/lonely/face.png" not in keys(pipeline)
    assert len(keys(pipeline)) == 5
    assert done.stdout.splitlines()[-1] == "5 jobs: 2 not sent, 3 not finished. Cost so far: 0 USD."
    assert done.stderr.endswith("Error: 2 not sent\n")


def test_what_makes_nothing_is_refused(pipeline: Pipeline, run: Run, here: Path) -> None:
    (here / "empty").mkdir()
    asked = run("upload", "empty", "--yes", code=4).stderr
    assert "! empty: the folder is empty" in asked
    assert "no file makes a job: nothing was sent" in asked
    (here / "empty" / "a.png").write_bytes(WALK[1])
    (here / "empty" / "b.png").write_bytes(SIT[1])
    asked = run("upload", "empty", "--yes", code=4).stderr
    assert "empty/a.png: no picture here is named as the face of empty: name it face" in asked
    assert "there is no file shot. Did you mean shoot?" in run("upload", "shot", "--yes", code=2).stderr
    assert "they cannot be mixed" in run("upload", "shoot", "shoot/hero/face.png", code=2).stderr
    assert "add a pose" in run("upload", "shoot/hero/face.png", code=2).stderr
    assert keys(pipeline) == []


def test_the_same_folder_again_uploads_nothing(
    pipeline: Pipeline, ask: Ask, run: Run, here: Path, work_on: None
) -> None:
    first = ask("upload", "shoot", "--yes")
    there = versions(pipeline)
    again = ask("upload", "shoot", "--yes")
    assert versions(pipeline) == there
    assert (again["known"], again["succeeded"], again["cost_usd"]) == (3, 3, 0)
    assert [each["job_id"] for each in again["results"]] == [each["job_id"] for each in first["results"]]
    assert "All of these jobs exist already: nothing is sent." in run("upload", "shoot").stderr


def test_an_upload_that_was_cut_goes_on_where_it_stopped(
    pipeline: Pipeline, run: Run, ask: Ask, here: Path, work_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.act.sender.SENDERS", 1)
    went: list[str] = []
    refused = (SimpleNamespace(status_code=403), {"Error": {"Code": "AccessDenied", "Message": "by the test"}})

    def put(params: dict[str, Any], **_: Any) -> Any:
        went.append(params["url_path"])
        return refused if len(went) == 4 else None

    pipeline.hook("s3", "PutObject", put)
    cut = run("upload", "shoot", "--yes", "--report", "report.csv", code=1)
    assert "AccessDenied" in cut.stderr
    assert "Run the same command again to continue." in cut.stderr
    rows = list(csv.DictReader((here / "report.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert sum(row["status"] == "NOT_SENT" for row in rows) >= 1
    assert versions(pipeline) == 3
    made = ask("upload", "shoot", "--yes")
    assert made["succeeded"] == 3
    shared = [key for key in keys(pipeline) if key.endswith("face.png")]
    counts = [len(pipeline.s3.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]) for key in shared]
    assert counts == [1, 1]


def test_an_interrupt_stops_after_the_files_under_way_and_the_next_run_goes_on(
    pipeline: Pipeline, run: Run, ask: Ask, here: Path, work_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.act.sender.SENDERS", 1)
    interrupted = threading.Event()
    under_way = threading.Event()

    class Interrupted(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            if timeout is not None and not interrupted.is_set():
                under_way.wait()
                interrupted.set()
                raise KeyboardInterrupt
            super().join(timeout)

    def put(params: dict[str, Any], **_: Any) -> None:
        under_way.set()
        interrupted.wait()

    monkeypatch.setattr("ops.cli.uploading.threading", SimpleNamespace(Thread=Interrupted))
    pipeline.hook("s3", "PutObject", put)
    cut = run("upload", "shoot", "--yes", code=130)
    assert "Run the same command again to continue." in cut.stderr
    assert versions(pipeline) < 5
    assert ask("upload", "shoot", "--yes")["succeeded"] == 3


def test_failures_are_reported_with_their_reasons(pipeline: Pipeline, run: Run, here: Path, work_on: None) -> None:
    pipeline.provider.statuses = [FAILED, COMPLETED, COMPLETED]
    result = run("upload", "shoot", "--yes", "--report", "report.csv", code=4)
    assert "out of luck" in result.stdout
    assert "2 succeeded, 1 failed" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next  Retry: .venv/bin/python -m ops retry shoot-")
    assert result.stderr.endswith("Error: 1 job failed\n")
    rows = list(csv.DictReader((here / "report.csv").read_text().splitlines()))
    assert sorted(row["status"] for row in rows) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert sum("out of luck" in row["why"] for row in rows) == 1


def test_what_does_not_end_in_time_is_reported_as_open(run: Run, here: Path) -> None:
    result = run("upload", "shoot", "--yes", "--timeout", "2", "--report", "report.json", code=6)
    assert "3 not finished" in result.stdout
    assert json.loads((here / "report.json").read_text())["open"] == 3


@pytest.mark.parametrize(("name", "said"), [("r.txt", "ends in .json or .csv"), ("no/r.csv", "there is no folder no")])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_sent(
    pipeline: Pipeline, run: Run, here: Path, name: str, said: str
) -> None:
    assert said in " ".join(run("upload", "shoot", "--yes", "--report", name, code=2).stderr.split())
    assert keys(pipeline) == []


def test_a_break_of_the_connection_while_jobs_are_followed_is_survived(
    run: Run, here: Path, work_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    class Unwell(Records):
        def get(self, job_ids: Iterable[str]) -> dict[str, AnyRecord]:
            reads.append(1)
            if len(reads) in (2, 3):
                raise EndpointConnectionError(endpoint_url="http://dynamodb.test")
            return super().get(job_ids)

    monkeypatch.setattr("ops.act.uploading.Records", Unwell)
    result = run("upload", "shoot", "--yes")
    assert result.stderr.count("The read is repeated until it succeeds.") == 1
    assert "3 succeeded" in result.stdout


def test_five_hundred_files(pipeline: Pipeline, ask: Ask, tmp_path: Path) -> None:
    for character in range(10):
        folder = tmp_path / "large" / f"c{character}"
        (folder / "poses").mkdir(parents=True)
        (folder / "face.png").write_bytes(image("png", (10 + character, 10), "white"))
        for pose in range(49):
            (folder / "poses" / f"p{pose}.png").write_bytes(image("png", (10 + pose, 12), "black"))
    found = ask("dry-run", str(tmp_path / "large"))
    assert len(found["jobs"]) == 490
    assert found["usd"] == pytest.approx(490 * PRICE)
    assert not found["problems"]


def test_files_that_are_named_one_by_one_are_all_checked(pipeline: Pipeline, run: Run, here: Path) -> None:
    for name in ("a.png", "b.png"):
        (here / name).write_text("text")
    (here / "face.png").write_bytes(FACE[1])
    said = run("upload", "face.png", "a.png", "shoot/hero/poses/walk.png", "b.png", "--character", "x", code=4).stderr
    assert "a.png: this is text" in said
    assert "b.png: this is text" in said
    assert "incoming/" not in said
    assert said.endswith("Error: 2 files make no job: nothing was sent\n")
    assert keys(pipeline) == []


# ---- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_is_uploaded_with_its_parameters(pipeline: Pipeline, ask: Ask, here: Path, work_on: None) -> None:
    lines = ["face;poses;prompt;seed;character", "hero/face.png;hero/poses/walk.png|hero/poses/sit.png;im Büro;7;"]
    lines += ["anna/face-anna.png;anna/run.png;;;client/anna"]
    (here / "shoot" / "jobs.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    made = ask("upload", "shoot/jobs.csv", "--yes", "--prompt", "otherwise")
    assert (made["jobs"], made["succeeded"]) == (3, 3)
    records = {record["pose"]: record for record in pipeline.records().values()}
    assert {pose: record["character"] for pose, record in records.items()} == {
        "walk": "hero",
        "sit": "hero",
        "run": "client/anna",
    }
    assert [
        (records[pose]["parameters"]["prompt"], records[pose]["parameters"]["seed"]) for pose in ("sit", "walk")
    ] == [("im Büro", 7)] * 2
    assert records["run"]["parameters"]["prompt"] == "otherwise"


def test_a_list_with_mistakes_is_refused_before_anything_is_sent(pipeline: Pipeline, run: Run, here: Path) -> None:
    (here / "jobs.jsonl").write_text('{"face": "shoot/hero/face.png", "poses": "wlak.png", "smaples": 2}\n')
    for command in ("upload", "dry-run"):
        said = run(command, "jobs.jsonl", code=2).stderr
        assert "jobs.jsonl, line 1: 'smaples' is not a field. Did you mean samples?" in said
        assert "jobs.jsonl, line 1, poses: there is no file wlak.png" in said
        assert said.endswith("Error: 2 mistakes in jobs.jsonl: nothing was sent\n")
    assert keys(pipeline) == []


def test_what_a_picture_of_a_list_is_not_is_said_by_its_name(run: Run, here: Path) -> None:
    (here / "text.png").write_text("text")
    (here / "jobs.csv").write_text("face,poses\nshoot/hero/face.png,text.png|shoot/anna/run.png\n")
    assert "! text.png: this is text" in run("dry-run", "jobs.csv", code=4).stdout
