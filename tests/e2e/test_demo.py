"""The demo that ends with the page, in a process of its own as people run it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from rich.console import Console

from local import demo
from tests.support import ROOT

OWN_DIRECTORY = """
import sys
from pathlib import Path
from local import demo

here = Path(sys.argv.pop(1))
demo.RESULTS, demo.UP_DIRECTORY, demo.UP_STATE_FILE = here / "demo", here / "up", here / "stack.json"
sys.exit(demo.main())
"""
"""The demo, with all that it leaves in a directory of its own: a stack that is up stays as it is."""

JOBS = {
    ("astronaut", "cameraman", "done"),
    ("astronaut", "cameraman-mirrored", "done"),
    ("blocked", "cameraman", "failed"),
}


def living(directory: Path) -> list[int]:
    """The ids of all processes whose temporary files are below a directory. Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            if f"TMPDIR={directory}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def test_the_page_shows_the_jobs_until_ctrl_c_and_nothing_is_left_running(tmp_path: Path) -> None:
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    demonstration = subprocess.Popen(
        [sys.executable, "-c", OWN_DIRECTORY, str(tmp_path), "--console", "--latency", "1"],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it and the page, as in a terminal
    )
    said = []
    try:
        assert demonstration.stdout
        for line in demonstration.stdout:
            said.append(line)
            if line.startswith("http://127.0.0.1:"):
                break
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}\n", said[-1]), "".join(said)
        page = urlsplit(said[-1].strip())
        with httpx.Client(base_url=f"http://{page.netloc}", trust_env=False, follow_redirects=True) as browser:
            assert "posedrop" in browser.get(f"/?{page.query}").text
            jobs = browser.get("/api/jobs").json()["jobs"]
        assert {(job["character"], job["pose"], job["state"]) for job in jobs} == JOBS
        assert len(living(tmp_path)) >= 4  # the demo, the page, AWS and the provider
        for _ in range(2):  # a second Ctrl-C changes nothing
            os.killpg(demonstration.pid, signal.SIGINT)
        rest = demonstration.communicate(timeout=60)[0]
        assert demonstration.returncode == 0, rest
        assert "The page and the stack are stopped." in rest
        assert "Traceback" not in rest
        assert living(tmp_path) == []
        assert not (tmp_path / "stack.json").exists()
        assert (tmp_path / "demo" / "contact-sheet.png").exists()
    finally:
        for pid in living(tmp_path):
            os.kill(pid, signal.SIGKILL)
        demonstration.wait()


# ---- how it ends -----------------------------------------------------------------------------------------------------

ShowPage = Callable[[str], int]


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    """The state file of a stack that is up."""
    path = tmp_path / "stack.json"
    path.touch()
    return path


@pytest.fixture
def show_page(monkeypatch: pytest.MonkeyPatch, state_file: Path) -> Iterator[ShowPage]:
    """Show a page that is a program of the test's, and give the exit code. The stack is stopped once."""
    start, stops = subprocess.Popen, []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(demo, "PAGE_GRACE_SECONDS", 0.1)

    def show(program: str) -> int:
        argv = [sys.executable, "-c", program, str(state_file)]
        monkeypatch.setattr(demo.subprocess, "Popen", lambda command, cwd: start(argv))
        stack = SimpleNamespace(state_file=state_file, stop=lambda: stops.append("stopped"))
        return demo._show_page(stack, Console(quiet=True))  # type: ignore[arg-type]

    yield show
    signal.signal(signal.SIGINT, before)
    assert stops == ["stopped"]


def test_a_page_that_ends_by_itself_is_a_failure(show_page: ShowPage) -> None:
    assert show_page("raise SystemExit(3)") == 1


@pytest.mark.parametrize("stubborn", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_a_stack_that_is_stopped_from_elsewhere_takes_the_page_with_it(show_page: ShowPage, stubborn: str) -> None:
    program = f"import signal, sys, pathlib; {stubborn}pathlib.Path(sys.argv[1]).unlink(); signal.pause()"
    assert show_page(program) == 0
