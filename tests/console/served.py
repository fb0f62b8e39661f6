"""`python -m ops console` in a process of its own, for a local stack."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.stack import LocalStack
from tests.support import HANGS, ROOT


@dataclass(frozen=True)
class Served:
    """A console that runs."""

    url: str


@contextmanager
def served(stack: LocalStack, log: Path) -> Iterator[Served]:
    """Run the console of a stack. At the end Ctrl-C ends it, though pages are open, without a traceback in its log."""
    argv = [sys.executable, "-m", "ops", "console", "--no-open", "--stack", str(stack.state_file)]
    with (
        log.open("w") as errors,
        subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            yield Served(url)
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(HANGS)
    assert code == 0
    assert "Traceback" not in log.read_text()
