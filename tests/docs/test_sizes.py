"""Nothing grows until nobody reads it whole: modules of 350 lines, classes of 250, functions of 50 at most."""

import ast
from collections.abc import Iterator

import pytest

from tests.support import ROOT

FOLDERS = ("functions", "layers/posedrop/posedrop", "ops", "local", "bench")
LONGEST: dict[type[ast.AST], int] = {ast.ClassDef: 250, ast.FunctionDef: 50, ast.AsyncFunctionDef: 50}
LONGEST_MODULE = 350


def too_long(source: str) -> Iterator[str]:
    """What of a module is too long."""
    if (lines := len(source.splitlines())) > LONGEST_MODULE:
        yield f"the module has {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST[type(node)]:
                yield f"{node.name} has {lines} lines"


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_too_long(folder: str) -> None:
    modules = list((ROOT / folder).rglob("*.py"))
    assert modules
    found = [f"{path.relative_to(ROOT)}: {what}" for path in modules for what in too_long(path.read_text())]
    assert found == []


def test_what_is_too_long() -> None:
    long = "def long():\n" + "    pass\n" * 50
    assert list(too_long(long)) == ["long has 51 lines"]
    assert list(too_long("class Long:\n" + "    a = 1\n" * 250)) == ["Long has 251 lines"]
    assert list(too_long("a = 1\n" * 351)) == ["the module has 351 lines"]
    assert list(too_long(long.replace("    pass\n", "", 1))) == []
