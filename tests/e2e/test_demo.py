"""The demo that ends with the page, in a terminal as people run it."""

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
from tests.terminal import Terminal

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

ROW = re.compile(r"(\S+ / \S+) +([A-Z]+) +\d+\.\d s")
"""A line of the table: a job that has ended, its state and its time."""


def living(directory: Path) -> list[int]:
    """The ids of all processes whose temporary files are below a directory. Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            if f"TMPDIR={directory}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def test_the_demo_on_a_terminal_of_80_columns_and_its_page_until_ctrl_c(tmp_path: Path) -> None:
    screens = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    argv = [sys.executable, "-c", OWN_DIRECTORY, str(tmp_path), "--console", "--latency", "1"]
    with Terminal(argv, columns=80, rows=60, env={**screens, "TMPDIR": str(tmp_path)}) as terminal:
        try:
            lines = terminal.wait_for(lambda lines: any(line.startswith("http://127.0.0.1:") for line in lines))
            ends = [match.groups() for line in lines if (match := ROW.fullmatch(line))]
            assert sorted(ends) == [
                ("astronaut / cameraman", "SUCCEEDED"),
                ("astronaut / cameraman-mirrored", "SUCCEEDED"),
                ("blocked / cameraman", "FAILED"),
            ]
            failed = next(number for number, line in enumerate(lines) if line.startswith("blocked / cameraman"))
            assert lines[failed + 1].startswith("  The request was blocked by")
            assert (terminal.colour("SUCCEEDED"), terminal.colour("FAILED")) == ("green", "red")
            first = next(number for number, line in enumerate(lines) if line.startswith("Open this first: "))
            assert "".join(lines[first : first + 3]).partition("contact-sheet.png")[1]
            (url,) = [line for line in lines if line.startswith("http://127.0.0.1:")]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
            page = urlsplit(url)
            with httpx.Client(base_url=f"http://{page.netloc}", trust_env=False, follow_redirects=True) as browser:
                assert "posedrop" in browser.get(f"/?{page.query}").text
                jobs = browser.get("/api/jobs").json()["jobs"]
            assert {(job["character"], job["pose"], job["state"]) for job in jobs} == JOBS
            assert len(living(tmp_path)) >= 4  # the demo, the page, AWS and the provider
            for _ in range(2):  # a second Ctrl-C changes nothing
                terminal.interrupt()
            assert terminal.wait() == 0, str(terminal)
            assert terminal.lines[-1] == "The page and the stack are stopped."
            assert "Traceback" not in str(terminal)
            assert living(tmp_path) == []
            assert not (tmp_path / "stack.json").exists()
            assert (tmp_path / "demo" / "contact-sheet.png").exists()
        finally:
            for pid in living(tmp_path):
                os.kill(pid, signal.SIGKILL)


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
        monkeypatch.setattr("local.demo.subprocess.Popen", lambda command, cwd: start(argv))
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
