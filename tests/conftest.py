"""How the tests are shared out among workers, what belongs together, in which order; and how examples are made."""

import gc
import os
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# The same examples each time in CI, new ones elsewhere; and none fails because the machine is busy.
settings.register_profile(
    "posedrop",
    deadline=None,
    database=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("posedrop")

GROUPS = {
    "tests/e2e/test_console.py": "console-stack",
    "tests/e2e/test_demo.py": "demo-stack",
    "tests/e2e": "stack",
    "tests/crash": "crash",
}
"""Tests that share a stack, by the longest of these paths. All others are with those of their file."""

LONGEST = (
    "tests/e2e/test_operations.py",
    "tests/e2e/test_console.py",
    "tests/console/test_browser_jobs.py",
    "tests/console/test_browser_page.py",
    "tests/crash",
    "tests/e2e",
    "tests/console",
    "tests/property",
    "tests/integration",
)
"""What takes long begins first, so that no worker still has a long file when the others are done."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give the tests of a group to one worker, whatever `--dist` says."""
    return GroupScheduling(config, log)


class GroupScheduling(LoadScopeScheduling):
    """Share out whole groups of tests, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((GROUPS[place] for place in _places(path) if place in GROUPS), path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    items.sort(key=lambda item: _rank(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Leave what was imported alone when garbage is collected: it is much, and none of it."""
    gc.collect()
    gc.freeze()


def _rank(path: str) -> int:
    return min((LONGEST.index(place) for place in _places(path) if place in LONGEST), default=len(LONGEST))


def _places(path: str) -> list[str]:
    """A path and those above it, the longest first."""
    found = PurePosixPath(path)
    return [found.as_posix(), *(parent.as_posix() for parent in found.parents)]
