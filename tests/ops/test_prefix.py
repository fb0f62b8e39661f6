"""A stack whose uploads lie below a prefix of its own: every command knows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ops.stack import Stack
from tests.integration.conftest import BUCKET, Pipeline
from tests.ops.conftest import FACE, WALK, Run
from tests.support import image

OWN = "clients/drop/"
HERO = ((f"{OWN}hero/face.png", FACE[1]), (f"{OWN}hero/poses/walk.png", WALK[1]))


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The functions' environment, with the other prefix."""
    monkeypatch.setenv("UPLOAD_PREFIX", OWN)
    return {**environment, "UPLOAD_PREFIX": OWN}


def explained(run: Run, key: str) -> dict[str, Any]:
    """What `explain` says of a key."""
    found: dict[str, Any] = json.loads(run("explain", "--json", key).stdout)
    return found


def test_uploads_below_it_make_jobs_and_others_do_not(pipeline: Pipeline, run: Run, stack: Stack) -> None:
    assert stack.layout.prefix == OWN
    pipeline.upload(*HERO)
    pipeline.upload(FACE, WALK)
    (record,) = pipeline.records().values()
    assert record["inputs"]["face"]["key"] == HERO[0][0]
    assert explained(run, HERO[1][0])["reason"] == "running"
    elsewhere = explained(run, FACE[0])
    assert elsewhere["reason"] == "wrong-prefix"
    assert f"{OWN}<character>/face.png" in elsewhere["next_step"]


def test_what_is_missing_is_to_be_uploaded_below_it(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(HERO[1])
    found = explained(run, HERO[1][0])
    assert found["reason"] == "missing-face"
    assert f"{OWN}hero/face" in found["next_step"]


def test_upload_puts_files_below_it(pipeline: Pipeline, run: Run, tmp_path: Path) -> None:
    for name in ("face-hero.png", "pose-walk.png"):
        (tmp_path / name).write_bytes(image("png", (10, 10)))
    run("upload", str(tmp_path / "face-hero.png"), str(tmp_path / "pose-walk.png"), "--prompt", "a walk", "--yes")
    listed = pipeline.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {entry["Key"] for entry in listed} == {key for key, _ in HERO} | {f"{OWN}hero/poses/walk.json"}


def test_backfill_and_forget_find_what_lies_below_it(pipeline: Pipeline, run: Run) -> None:
    for key, body in (*HERO, FACE, WALK):
        pipeline.put(key, body)
    found = json.loads(run("backfill", "--dry-run", "--json").stdout)
    assert found["keys"] == 2
    gone = json.loads(run("forget", f"{OWN}hero", "--yes", "--json").stdout)["gone"]
    assert gone["uploads"] == 2
    left = pipeline.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {entry["Key"] for entry in left} == {FACE[0], WALK[0]}
