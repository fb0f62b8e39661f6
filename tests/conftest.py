"""How the tests are shared out among workers: what belongs together, and in which order."""

from pathlib import PurePosixPath

import pytest

GROUPS = {
    "tests/e2e/test_console.py": "console-stack",
    "tests/e2e/test_demo.py": "demo-stack",
    "tests/e2e": "stack",
    "tests/crash": "crash",
}
"""Tests that share a stack, by the longest of these paths. A browser is shared by the tests of one file."""

LONGEST = (
    "tests/e2e/test_operations.py",
    "tests/e2e/test_console.py",
    "tests/console/test_browser_page.py",
    "tests/e2e",
    "tests/console/test_browser_watch.py",
    "tests/crash",
    "tests/console",
    "tests/property",
)
"""What takes long begins first, so that no worker still has a long test when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the groups, and put the longest first."""
    for item in items:
        path = item.nodeid.partition("::")[0]
        group = next((GROUPS[place] for place in _places(path) if place in GROUPS), None)
        if path.startswith("tests/console/test_browser"):
            group = PurePosixPath(path).stem
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _rank(item.nodeid.partition("::")[0]))


def _rank(path: str) -> int:
    return min((LONGEST.index(place) for place in _places(path) if place in LONGEST), default=len(LONGEST))


def _places(path: str) -> list[str]:
    """A path and those above it, the longest first."""
    found = PurePosixPath(path)
    return [found.as_posix(), *(parent.as_posix() for parent in found.parents)]
