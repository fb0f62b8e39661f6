"""Nothing grows until nobody reads it whole: modules of 350 lines, classes of 250, functions of 50 at most.

A file that needs more than ten modules of the package does more than one thing.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.support import ROOT

FOLDERS = ("functions", "layers/posedrop/posedrop", "ops", "local", "bench")
LONGEST: dict[type[ast.AST], int] = {ast.ClassDef: 250, ast.FunctionDef: 50, ast.AsyncFunctionDef: 50}
LONGEST_MODULE = 350
PACKAGE = "posedrop"
MOST_IMPORTS = 10


def too_long(source: str) -> Iterator[str]:
    """What of a module is too long."""
    if (lines := len(source.splitlines())) > LONGEST_MODULE:
        yield f"the module has {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST[type(node)]:
                yield f"{node.name} has {lines} lines"


def imports(source: str) -> int:
    """How many statements of a module import from the package, at any place, also for type checks alone."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return sum(name.split(".")[0] == PACKAGE for name in names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_too_long(folder: str) -> None:
    modules = list((ROOT / folder).rglob("*.py"))
    assert modules
    found = [f"{path.relative_to(ROOT)}: {what}" for path in modules for what in too_long(path.read_text())]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_needs_many_modules_of_the_package(folder: str) -> None:
    counts = {str(path.relative_to(ROOT)): imports(path.read_text()) for path in (ROOT / folder).rglob("*.py")}
    assert any(counts.values())
    assert {name: count for name, count in counts.items() if count > MOST_IMPORTS} == {}


def test_what_counts_as_an_import() -> None:
    assert imports("import json, posedrop.settings\nfrom posedrop.aws import items, ledger\n") == 2
    assert imports("if TYPE_CHECKING:\n    from posedrop.aws.items import Items\n") == 1
    assert imports("def f():\n    import posedrop.settings as settings, posedrop.aws.items as items\n") == 2
    assert imports("from posedropped import a\nfrom .posedrop import b\nimport ops.posedrop\n") == 0


def test_what_is_too_long() -> None:
    long = "def long():\n" + "    pass\n" * 50
    assert list(too_long(long)) == ["long has 51 lines"]
    assert list(too_long("class Long:\n" + "    a = 1\n" * 250)) == ["Long has 251 lines"]
    assert list(too_long("a = 1\n" * 351)) == ["the module has 351 lines"]
    assert list(too_long(long.replace("    pass\n", "", 1))) == []
