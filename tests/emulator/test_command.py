"""The command line: starting, printing, ending."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import HANGS, until

ROOT = Path(__file__).parents[2]


def _start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local.segmind", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"faults": [{"fault": "hang", "on": "submit", "seconds": 2 * HANGS}]}))
    return file


def test_it_prints_its_url_keeps_secrets_and_ends_at_once(plan: Path) -> None:
    process = _start("--port", "0", "--api-key", "SG_secret", "--latency", "2:0.1", "--faults", str(plan))
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        body = {"face_image": "http://127.0.0.1:1/f?X-Sig=abc", "pose_image": "http://127.0.0.1:1/p", "prompt": "p"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{url}/v2/consistent-character-with-pose",
                headers={"x-api-key": "SG_secret"},
                json=body,
                timeout=httpx.Timeout(HANGS, read=0.3),
            )
        until(lambda: httpx.get(f"{url}/_emulator/requests").json())
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=HANGS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    lines = log.splitlines()
    assert len(lines) == 1, log
    assert "accepted" in lines[0]
    assert "SG_secret" not in log
    assert "abc" not in log


@pytest.mark.parametrize("options", [["--faults", "missing.json"], ["--latency", "soon"], ["--rpm", "-1"]])
def test_it_says_why_it_cannot_start(options: list[str]) -> None:
    process = _start(*options)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    assert "cannot start" in output
    assert len(output.splitlines()) == 1
