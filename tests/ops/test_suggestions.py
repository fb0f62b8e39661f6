"""What was meant is said, where a word is none that is known."""

from pathlib import Path

import pytest

from ops.inspect.suggestions import did_you_mean
from tests.integration.conftest import Pipeline
from tests.ops.conftest import FACE, WALK, Run


@pytest.mark.parametrize(
    ("word", "meant"),
    [("stauts", "status"), ("STATUS", "status"), ("re", "redrive"), ("xyz", ""), ("", "")],
)
def test_what_is_closest_is_named(word: str, meant: str) -> None:
    found = did_you_mean(word, ["status", "jobs", "redrive", "retry"])
    assert found == (f" Did you mean {meant}?" if meant else "")


def test_commands_and_statuses(run: Run) -> None:
    assert "No such command 'stauts'. Did you mean status?" in run("stauts", code=2).stderr
    assert run("quux", code=2).stderr.endswith("No such command 'quux'.\n")
    said = run("jobs", "--status", "faild", code=2).stderr
    assert (
        "'faild' is not one of waiting, queued, submitting, submitted, succeeded, failed. Did you mean failed?" in said
    )
    assert "'DONE' is not one of waiting, queued," in run("jobs", "--status", "DONE", code=2).stderr
    assert "Did you mean character?" in run("costs", "--by", "charcter", code=2).stderr


def test_files(run: Run, tmp_path: Path) -> None:
    for name in ("face-hero.png", "walk.png"):
        (tmp_path / name).write_bytes(WALK[1])
    said = run("upload", str(tmp_path / "face-hreo.png"), str(tmp_path / "walk.png"), code=2).stderr
    assert f"there is no file {tmp_path}/face-hreo.png. Did you mean face-hero.png?" in " ".join(said.split())
    said = run("dry-run", str(tmp_path / "face-hero.png"), str(tmp_path / "wlk.png"), code=2).stderr
    assert "Did you mean walk.png?" in said
    assert "Did you mean" not in run("upload", "nowhere/face.png", str(tmp_path / "walk.png"), code=2).stderr


def test_ids_of_jobs(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    wrong = job_id[:-1] + ("0" if job_id[-1] != "0" else "1")
    for words in (["show", wrong], ["retry", wrong, "--yes"], ["cancel", wrong, "--yes"], ["explain", job_id[:-4]]):
        said = run(*words, code=3).stderr
        assert f"there is no job {words[1]}. Did you mean {job_id}?" in said
    assert run("show", "another-thing", code=3).stderr.endswith("there is no job another-thing\n")
