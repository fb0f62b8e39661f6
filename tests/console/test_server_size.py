"""How the console does with many jobs. The figures are printed, not asserted: machines differ."""

import time

import pytest

from ops.console.feed import Looker
from tests.console.conftest import Console

JOBS = 2000


def test_many_jobs(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    console.seed(JOBS, characters=40)
    figures = {}

    def measure(name: str, path: str) -> None:
        began = time.monotonic()
        console.get(path)
        figures[name] = time.monotonic() - began

    looker = Looker(console.stack)
    began = time.monotonic()
    known = looker.whole(None)
    figures["whole look"] = time.monotonic() - began
    began = time.monotonic()
    looker.changes(known, {})
    figures["look at changes"] = time.monotonic() - began
    began = time.monotonic()
    known.glance()
    figures["glance"] = time.monotonic() - began
    console.get("/api/glance")
    measure("first page", "/api/jobs?limit=60")
    measure("text", "/api/jobs?limit=60&text=rain")
    with capsys.disabled():
        print(f"\n{JOBS} jobs: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in figures.items()))
    assert console.get("/api/jobs?limit=60")["total"] == JOBS
