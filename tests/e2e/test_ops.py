"""The operator's command on the deployed stack, in a process of its own as people run it.

What it says of one job as JSON is asked for in this process, which saves a second each time.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.stack import LocalStack
from tests.e2e.conftest import ops
from tests.support import HANGS, ROOT, SAMPLES

FACE = str(SAMPLES / "face-astronaut.png")
POSE = str(SAMPLES / "pose-cameraman.png")

Ops = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(stack: LocalStack) -> Ops:
    """Run a command line on the stack: `command("status")`. `code` is the exit code that is expected."""

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "ops", *words, "--stack", str(stack.state_file)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=HANGS, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    return run


def test_a_pair_is_uploaded_and_followed_to_its_result(command: Ops, stack: LocalStack, tmp_path: Path) -> None:
    done = command("upload", FACE, POSE, "--character", "ops", "--prompt", "a picture", "--wait", "-o", str(tmp_path))
    (path,) = done.stdout.splitlines()
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert done.stderr.splitlines()[0].startswith("posedrop in us-east-1")
    assert done.stderr.splitlines()[-1].endswith("cameraman: succeeded")
    explained = ops(stack, "explain", "incoming/ops/poses/cameraman.png")
    assert explained["reason"] == "done"
    (job,) = ops(stack, "jobs", "--character", "ops")["records"]
    shown = ops(stack, "show", job["job_id"])
    assert shown["execution"]["status"] == "SUCCEEDED"
    assert shown["notification"]["status"] == "SUCCEEDED"
    assert "has not failed" in command("retry", job["job_id"], "--yes", code=4).stderr
    status = json.loads(command("status", "--check", "--json").stdout)
    assert status["jobs"]["by_status"]["SUCCEEDED"] >= 1
    assert status["problems"] == []


def test_a_folder_is_uploaded_reported_and_not_uploaded_twice(command: Ops, tmp_path: Path) -> None:
    hero = tmp_path / "shoot" / "hero"
    (hero / "poses").mkdir(parents=True)
    shutil.copy(FACE, hero / "face.png")
    shutil.copy(POSE, hero / "poses" / "stand.png")
    (hero / "notes.txt").write_text("no picture")
    words = ("upload", str(tmp_path / "shoot"), "--prompt", "a picture", "-o", str(tmp_path / "out"))
    assert "there is no terminal to ask on" in command(*words, code=2).stderr
    done = command(*words, "--yes", "--report", str(tmp_path / "report.json"))
    assert "notes.txt: its name is not that of a picture" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["succeeded"], report["not_sent"]) == (1, 0)
    (result, left_out) = report["results"]
    assert left_out["status"] == "LEFT_OUT"
    assert (result["character"], result["pose"]) == ("shoot/hero", "stand")
    assert Path(result["images"][0]).read_bytes().startswith(b"\x89PNG")
    (hero / "notes.txt").unlink()
    assert "All of these jobs exist already: nothing is sent." in command(*words).stderr


def test_a_failed_job_is_explained_and_tried_again(command: Ops, stack: LocalStack) -> None:
    done = command("upload", FACE, POSE, "--character", "ops-fail", "--prompt", "blocked-content", "--wait", code=4)
    assert "failed at the provider" in done.stdout
    assert f".venv/bin/python -m ops --stack {stack.state_file} retry ops-fail-" in done.stdout
    (job,) = ops(stack, "jobs", "--character", "ops-fail", "--status", "failed")["records"]
    again = json.loads(command("retry", job["job_id"], "--yes", "--wait", "--json", code=4).stdout)
    assert again[0]["explanation"]["reason"] == "failed-at-provider"
    assert ops(stack, "show", job["job_id"])["record"]["attempt"] == 2


def test_dead_letters_and_the_sweep(command: Ops, stack: LocalStack) -> None:
    job = {"bucket": stack.outputs["UploadBucketName"], "character": "nobody", "pose": "", "upload": None}
    stack.client("sqs").send_message(QueueUrl=stack.outputs["DeadLetterQueueUrl"], MessageBody=json.dumps({"job": job}))
    assert "1 message: 1 moved." in command("redrive", "--yes").stdout
    assert set(ops(stack, "sweep")) >= {"WAITING", "QUEUED"}
