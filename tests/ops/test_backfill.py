"""`backfill`: it finds what made no job, says what that costs, and sends it as the event that was lost."""

import json
import unicodedata
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import moto.backends
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID

from ops.act.backfill.finding import under_prefix
from ops.act.backfill.windows import pages, windows
from ops.stack import Stack
from posedrop.aws.upload_bucket import Listed, UploadBucket
from posedrop.contract.upload_layout import UploadLayout
from tests.integration.conftest import BUCKET, OUTPUTS, Pipeline
from tests.many_files import PAGE, Watched, many_files
from tests.ops.conftest import FACE, SIT, WALK, Run
from tests.support import image

Ask = Callable[..., Any]
PRICE = 0.03


def lose(pipeline: Pipeline, *files: tuple[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Upload files whose events are lost."""
    for key, body in files:
        pipeline.put(key, body, Metadata=metadata or {})


def uploaded_at(key: str, time: float, bucket: str = BUCKET) -> None:
    """Let a file have been uploaded at a time (seconds since the epoch)."""
    s3: Any = moto.backends.get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    s3.buckets[bucket].keys[key].last_modified = datetime.fromtimestamp(time, UTC).replace(tzinfo=None)


@pytest.fixture(autouse=True)
def learned(pipeline: Pipeline) -> None:
    """What a job with one sample costs is known."""
    pipeline.dynamodb.put_item(Item={"job_id": "price", "usd_1_input": Decimal(str(PRICE))})


def outcomes(found: Any) -> dict[str, str]:
    """The outcome of each upload that was found, by its pose."""
    return {upload["pose"]: upload["outcome"] for upload in found["uploads"]}


def handle_sent(pipeline: Pipeline) -> int:
    """Let `intake` handle what was sent, and return how many messages there were."""
    messages = pipeline.receive(pipeline.queue_url)
    for message in messages:
        assert pipeline.handle(message["Body"])
    return len(messages)


def test_a_lost_event_is_sent_again_and_makes_its_job(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    lose(pipeline, SIT, ("incoming/hero/poses/sit.json", {"prompt": "sits", "samples": 2}))
    asked = run("backfill", answer="n\n", code=1)
    assert "Send 1 upload? Their jobs cost at most 0.0600 USD." in asked.stderr
    assert "incoming/hero/poses/sit.png" in asked.stdout
    assert pipeline.receive(pipeline.queue_url) == []
    found = ask("backfill", "--yes")
    assert (found["keys"], found["with_jobs"], found["sent"], found["usd"]) == (4, 1, 1, 2 * PRICE)
    assert outcomes(found) == {"sit": "to-send"}
    assert handle_sent(pipeline) == 1
    record = pipeline.record_of_pose("sit")
    assert (record["status"], record["parameters"]["prompt"]) == ("SUBMITTED", "sits")
    again = ask("backfill", "--yes")
    assert (again["with_jobs"], again["sent"], again["uploads"]) == (2, 0, [])
    assert "There is nothing to send." in run("backfill").stdout


def test_a_folder_from_before_the_stack(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    lose(pipeline, FACE, WALK, SIT, ("incoming/hero/job.json", {"seed": 7}), ("incoming/solo/face.jpg", FACE[1]))
    lose(pipeline, ("incoming/solo/pose.png", WALK[1]), ("incoming/notes.txt", "x"))
    found = ask("backfill", "--dry-run")
    assert outcomes(found) == {"walk": "to-send", "sit": "to-send", "pose": "to-send"}
    assert (found["outside_contract"], found["sent"], found["usd"]) == (1, 0, 3 * PRICE)
    assert pipeline.receive(pipeline.queue_url) == []
    assert "3 uploads sent. Follow: .venv/bin/python -m ops jobs" in run("backfill", "--yes").stdout
    handle_sent(pipeline)
    assert {record["status"] for record in pipeline.records().values()} == {"SUBMITTED"}
    assert len(pipeline.records()) == 3


def test_a_lost_event_of_a_shared_file(pipeline: Pipeline, ask: Ask) -> None:
    """A newer face, a newer job file and a newer file of one pose each make other jobs of what has one."""
    pipeline.upload(FACE, WALK, SIT)
    assert ask("backfill", "--dry-run")["uploads"] == []
    lose(pipeline, ("incoming/hero/poses/sit.json", {"seed": 5}))
    assert outcomes(ask("backfill", "--dry-run")) == {"sit": "to-send"}
    lose(pipeline, ("incoming/hero/job.json", {"samples": 4}))
    assert outcomes(ask("backfill", "--dry-run")) == {"sit": "to-send", "walk": "to-send"}
    assert ask("backfill", "--yes")["usd"] == pytest.approx(8 * PRICE)
    assert handle_sent(pipeline) == 2
    assert ask("backfill", "--dry-run")["uploads"] == []
    lose(pipeline, ("incoming/hero/face.heic", image("jpeg", (11, 11))))
    uploaded_at("incoming/hero/face.heic", pipeline.clock.now)
    assert outcomes(ask("backfill", "--dry-run")) == {"sit": "to-send", "walk": "to-send"}


def test_the_same_content_again_has_its_job(pipeline: Pipeline, ask: Ask, stack: Stack, monkeypatch: Any) -> None:
    job_file = ("incoming/hero/job.json", {"prompt": "one"})
    pipeline.upload(FACE, job_file)
    pipeline.handle(pipeline.put(*WALK, Metadata={"prompt": "two"}))
    lose(pipeline, FACE, job_file, ("incoming/hero/poses/walk.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "))
    lose(pipeline, WALK, metadata={"prompt": "two"})
    for key in (FACE[0], WALK[0], job_file[0], "incoming/hero/poses/walk.mov"):
        uploaded_at(key, pipeline.clock.now + 100)
    assert ask("backfill", "--dry-run")["with_jobs"] == 1
    lose(pipeline, WALK, metadata={"prompt": "three"})
    uploaded_at(WALK[0], pipeline.clock.now + 200)
    assert outcomes(ask("backfill", "--dry-run")) == {"walk": "to-send"}


def test_another_default_prompt_makes_no_other_job(
    pipeline: Pipeline, ask: Ask, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.upload(FACE, WALK)
    other = replace(stack, parameters={**stack.parameters, "DefaultPrompt": "another one"})
    monkeypatch.setattr("ops.cli.shell.find", lambda target: other)
    assert ask("backfill", "--dry-run")["uploads"] == []


def test_what_failed_has_its_job(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, ("incoming/hero/poses/walk.png", WALK[1][:-20]), ("incoming/hero/poses/sit.json", "{"), SIT)
    assert {record["status"] for record in pipeline.records().values()} == {"FAILED"}
    found = ask("backfill", "--dry-run")
    assert (found["uploads"], found["with_jobs"]) == ([], 2)


def test_what_has_outputs_is_listed_and_not_sent(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    lose(pipeline, ("incoming/hero/walk/face.png", FACE[1]), ("incoming/hero/walk/pose.png", SIT[1]))
    record = pipeline.record()
    pipeline.dynamodb.delete_item(Key={"job_id": record["job_id"]})
    found = ask("backfill", "--yes")
    assert outcomes(found) == {"walk": "has-outputs", "pose": "to-send"}  # `hero/walk` is another character
    assert found["sent"] == 1
    assert "has outputs already, so its job was paid for" in run("backfill", "incoming/hero/poses").stdout
    # What was uploaded since has none.
    lose(pipeline, WALK)
    for key in pipeline.outputs():
        uploaded_at(key, pipeline.clock.now - 200, OUTPUTS)
    assert outcomes(ask("backfill", "hero/poses/", "--dry-run")) == {"walk": "to-send"}


def test_what_is_older_than_the_records_is_listed_and_not_sent(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("RECORD_RETENTION_DAYS", "7")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    ask: Ask = request.getfixturevalue("ask")
    lose(pipeline, FACE, WALK, SIT)
    uploaded_at(FACE[0], pipeline.clock.now - 30 * 86400)
    uploaded_at(WALK[0], pipeline.clock.now - 7 * 86400 - 60)
    uploaded_at(SIT[0], pipeline.clock.now - 7 * 86400 + 60)
    found = ask("backfill", "--yes")
    assert outcomes(found) == {"walk": "too-old", "sit": "to-send"}
    assert found["sent"] == 1
    uploaded_at(FACE[0], pipeline.clock.now - 3600)  # a new face makes a new job of each
    assert outcomes(ask("backfill", "--dry-run")) == {"walk": "to-send", "sit": "to-send"}


def test_what_is_no_job_yet_or_would_be_refused(
    pipeline: Pipeline, ask: Ask, run: Run, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(pipeline, ("incoming/faceless/pose.png", WALK[1]), ("incoming/poseless/face.png", FACE[1]))
    lose(pipeline, FACE, WALK, SIT, ("incoming/hero/poses/sit.json", {"sedd": 7}))
    lose(pipeline, ("incoming/empty/poses/run.json", {"seed": 1}), ("incoming/empty/face.png", FACE[1]))
    bare = replace(stack, parameters={**stack.parameters, "DefaultPrompt": ""})
    monkeypatch.setattr("ops.cli.shell.find", lambda target: bare)
    found = ask("backfill", "--yes")
    details = {upload["character"] + "/" + upload["pose"]: upload["detail"] for upload in found["uploads"]}
    assert details == {
        "faceless/pose": "lacks a face",
        "poseless/": "lacks a pose",
        "hero/walk": "lacks a prompt",
        "hero/sit": "incoming/hero/poses/sit.json: sedd is not a parameter of the model; did you mean seed?",
        "empty/run": "lacks a pose",
    }
    assert found["counts"] == {"to-send": 0, "has-outputs": 0, "too-old": 0, "incomplete": 4, "refused": 1}
    assert "did you mean seed?" in run("backfill").stdout
    lose(pipeline, WALK, metadata={"prompt": "in its metadata"})
    assert outcomes(ask("backfill", "hero/poses/walk", "--dry-run")) == {"walk": "to-send"}


def test_names_with_two_spellings_and_folders_of_any_case(pipeline: Pipeline, ask: Ask) -> None:
    nfc, nfd = "Zoë", unicodedata.normalize("NFD", "Zoë")
    lose(pipeline, (f"incoming/{nfc}/face.png", FACE[1]), (f"incoming/{nfd}/poses/geht früh.png", WALK[1]))
    lose(pipeline, ("incoming/big/FACE.PNG", FACE[1]), ("incoming/big/Poses/walk.PNG", WALK[1]))
    lose(pipeline, ("incoming/big/poses/walk.json", {"samples": 2}), ("incoming/big/poses/pose.png", SIT[1]))
    found = ask("backfill", "--yes")
    assert outcomes(found) == {"geht früh": "to-send", "walk": "to-send", "pose": "to-send"}
    assert {upload["pose"]: round(upload["usd"] / PRICE) for upload in found["uploads"]}["walk"] == 2
    handle_sent(pipeline)
    assert {record["status"] for record in pipeline.records().values()} == {"SUBMITTED"}
    assert ask("backfill", "--dry-run")["with_jobs"] == 3
    assert ask("backfill", f"{nfd}/", "--dry-run")["with_jobs"] == 1


def test_a_prefix_is_accepted_in_each_of_its_forms(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    lose(pipeline, FACE, WALK, ("incoming/other/face.png", FACE[1]), ("incoming/other/pose.png", WALK[1]))
    for prefix in ("hero", "incoming/hero/", f"s3://{BUCKET}/incoming/hero/poses/w"):
        assert outcomes(ask("backfill", prefix, "--dry-run")) == {"walk": "to-send"}
    assert ask("backfill", "nobody", "--dry-run")["keys"] == 0
    assert "not in the upload bucket" in run("backfill", "s3://elsewhere/incoming/", code=4).stderr
    bucket = UploadBucket(pipeline.s3, "b", UploadLayout("in/"))
    assert under_prefix("", bucket) == under_prefix("s3://b/", bucket) == "in/"


def test_all_that_was_found_is_in_the_report(pipeline: Pipeline, run: Run, tmp_path: Path) -> None:
    lose(pipeline, FACE, *((f"incoming/hero/poses/{number:02}.png", WALK[1]) for number in range(30)))
    report = tmp_path / "report.jsonl"
    said = run("backfill", "--dry-run", "--report", str(report)).stdout
    assert "30 uploads to send: each made no job" in said
    assert "and 10 more: --report FILE lists all" in said
    assert "30 uploads would be sent, their jobs cost at most 0.90 USD. Nothing was sent." in said
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [line["pose"] for line in lines] == [f"{number:02}" for number in range(30)]
    assert "--json cannot ask" in run("backfill", "--json", code=2).stderr


def test_what_the_queue_did_not_take_is_reported(pipeline: Pipeline, run: Run) -> None:
    lose(pipeline, FACE, WALK, SIT)
    failed = {"Successful": [], "Failed": [{"Id": "1", "SenderFault": False, "Code": "InternalError"}]}
    pipeline.hook("sqs", "SendMessageBatch", lambda **_: (SimpleNamespace(status_code=200), failed))
    assert "the queue refused 1 message of 2: run it again" in run("backfill", "--yes", code=1).stderr


# ---- bounded memory --------------------------------------------------------------------------------------------------


def listed(key: str) -> Listed:
    return Listed(key, '"e"', 1, datetime(2026, 11, 26, tzinfo=UTC))


def test_a_window_parts_no_stem() -> None:
    names = ["a.jpg", "b.jpg", "walk", "walk-2.png", "walk-3.png", "walk.jpg", "walk.json", "wall.png"]
    keys = [f"incoming/hero/poses/{name}" for name in names]
    assert keys == sorted(keys)
    walks = {f"incoming/hero/poses/{name}" for name in ("walk", "walk.jpg", "walk.json")}
    for page in range(1, len(keys) + 1):
        for size in range(1, len(keys) + 1):
            some = [[listed(key) for key in keys[start : start + page]] for start in range(0, len(keys), page)]
            found = [{entry.key for entry in window} for window in windows(some, size)]
            assert sorted(key for window in found for key in window) == keys
            assert any(walks <= window for window in found)


def test_the_keys_in_memory_do_not_grow_with_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many pages two windows are held, one while the other is read. Counted are the files that live, anywhere."""
    monkeypatch.setattr("ops.act.backfill.windows.Listed", Watched)
    for characters in (6, 24):
        Watched.alive, Watched.most = weakref.WeakSet(), 0
        _, finder = many_files(characters, window=1000)
        assert sum(found.outcome == "to-send" for found in finder.find()) == characters * 500
        assert finder.seen.keys == characters * 502
        assert 1000 < Watched.most < 2 * 1000 + PAGE


def test_pages_are_read_as_they_are_wanted() -> None:
    s3, _ = many_files(100)
    listing = windows((files for files, _ in pages(s3, "uploads", "incoming/")), 2000)  # type: ignore[arg-type]
    assert s3.calls == 0
    next(listing)
    assert s3.calls == 2
