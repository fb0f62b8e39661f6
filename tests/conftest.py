"""Distribute the tests among workers: their groups and order; and configure Hypothesis."""

import gc
import os
import sys
from pathlib import PurePosixPath
from typing import Any

import pytest
from botocore.client import BaseClient
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# In CI the examples are always the same, elsewhere new ones. No test fails because the machine is busy.
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
    "tests/e2e": "stack",
    "tests/crash": "crash",
}
"""Tests that share a stack, by the longest of these paths. All other tests are grouped by file."""

LONGEST = (
    "tests/e2e/test_operations.py",
    "tests/e2e/test_console.py",
    "tests/console/test_browser_jobs.py",
    "tests/console/test_browser_page.py",
    "tests/crash",
    "tests/e2e",
    "tests/console",
    "tests/property",
    "tests/lint/test_pairs.py",
    "tests/bench/test_simulation.py",
    "tests/integration",
    "tests/ops",
)
"""Slow tests begin first, so that no worker still has a slow file when the others have finished."""

LATE = "tests/e2e/test_early.py"
"""The last of its group: it waits until two minutes after the group's first test. The demo fills a part of them."""

UNCOVERED = (
    "tests/console/test_browser",
    "tests/crash",
    "tests/docs",
    "tests/e2e",
    "tests/emulator",
    "tests/lint",
    "tests/processes",
    "tests/property",
    "tests/unit/gate/test_poll_schedule.py::test_cost_is_near_the_optimum",
    "tests/bench/test_simulation.py",
)
"""Tests without coverage: their code runs in other processes, or in other tests as well."""


def pytest_configure(config: pytest.Config) -> None:
    """If a tracer measures coverage, do not trace boto3 and moto, which would be slow."""
    if config.pluginmanager.hasplugin("_cov"):
        BaseClient._make_api_call = _untraced(BaseClient._make_api_call)  # type: ignore[attr-defined]


def _untraced(function: Any) -> Any:
    def call(*arguments: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*arguments)
        finally:
            sys.settrace(tracer)
            _begin_tracing()

    return call


def _begin_tracing() -> None:
    """Do nothing but be called: a tracer begins with the next call."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give the tests of a group to one worker, whatever `--dist` says."""
    return GroupScheduling(config, log)


class GroupScheduling(LoadScopeScheduling):
    """Distributes whole groups of tests, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((GROUPS[place] for place in _places(path) if place in GROUPS), path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first, and of the same rank those last that wait for what others began."""
    for item in items:
        if item.nodeid.startswith(UNCOVERED):
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: (_rank(item.nodeid.partition("::")[0]), item.nodeid.startswith(LATE)))


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and never in the imported modules: otherwise it takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _rank(path: str) -> int:
    return min((LONGEST.index(place) for place in _places(path) if place in LONGEST), default=len(LONGEST))


def _places(path: str) -> list[str]:
    """Return a path and its parents, the longest first."""
    found = PurePosixPath(path)
    return [found.as_posix(), *(parent.as_posix() for parent in found.parents)]
