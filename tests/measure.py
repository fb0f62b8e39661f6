"""Coverage by what the code itself notes: `pytest -p tests.measure`, then `coverage combine` and `coverage report`.

A tracer is called for each line of Python that runs, that of boto3 and of moto too: on Python 3.11, which has nothing
cheaper, tests take half as long again. Here each statement of the measured code notes that it is reached, and nothing
else becomes slower. coverage.py reads those notes as it would its own.
"""

import ast
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest
from coverage import Coverage, CoverageData

ROOT = Path(__file__).parent.parent
NOTES = "__reached__"
"""The name, in each measured module, of the lines that were reached."""

_original = SourceFileLoader.get_code
_reached: dict[str, dict[int, None]] = {}
"""The lines by their files: those at which a statement begins, which coverage.py reports by."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Compile the measured code with notes from now on."""
    sources = tuple(f"{source}/" for source in _sources())

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = str(Path(loader.path).resolve())
        if not path.startswith(sources):
            return _original(loader, name)
        return compiled(loader.get_data(path), path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    """Write down what this process has reached."""
    if any(_reached.values()):
        data = CoverageData(basename=str(ROOT / ".coverage"), suffix=True)
        data.add_lines({path: list(lines) for path, lines in _reached.items() if lines})
        data.touch_files(str(path) for source in _sources() for path in source.rglob("*.py"))
        data.write()


def _sources() -> list[Path]:
    """The directories that are measured."""
    return [(ROOT / source).resolve() for source in Coverage().config.source or []]


def notes(path: str) -> dict[int, None]:
    """The lines of a file that were reached so far."""
    return _reached.setdefault(path, {})


def compiled(source: bytes, path: str) -> CodeType:
    """Compile a module whose statements note that they are reached."""
    tree = ast.parse(source, path)
    start = ast.parse(
        f"from tests.measure import _reached\n{NOTES} = _reached.setdefault({path!r}, {{}})\ndel _reached"
    )
    first = _first(tree)
    _Noting().visit(tree)
    tree.body[first:first] = start.body
    return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Noting(ast.NodeTransformer):
    """Puts a note before each statement."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, name, None), list):
                first = _first(node) if name == "body" else 0
                noted = [part for found in statements[first:] for part in (*_notes(found), found)]
                passed = [_note(found.lineno) for found in statements[:first] if isinstance(found, ast.ImportFrom)]
                setattr(node, name, [*statements[:first], *passed, *noted])
        if isinstance(node, ast.ExceptHandler):  # a match_case has no line of its own
            node.body[:0] = [_note(node.lineno)]
        if isinstance(node, ast.match_case):
            node.body[:0] = [_note(node.pattern.lineno)]
        return node


def _notes(statement: ast.stmt) -> list[ast.stmt]:
    """The notes before a statement: on its line, and on those of its decorators."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return [_note(line) for line in sorted({statement.lineno, *(found.lineno for found in decorators)})]


def _note(line: int) -> ast.stmt:
    (note,) = ast.parse(f"{NOTES}[{line}] = None").body
    for found in ast.walk(note):
        if "lineno" in found._attributes:
            found.lineno = found.end_lineno = line  # type: ignore[attr-defined]
            found.col_offset = found.end_col_offset = 0  # type: ignore[attr-defined]
    return note


def _first(node: ast.AST) -> int:
    """The place of the first statement before which something may come: behind a docstring and changes of Python."""
    body: list[ast.stmt] = getattr(node, "body", [])
    first = int(hasattr(node, "name") or isinstance(node, ast.Module)) and int(_is_text(body[:1]))
    while first < len(body) and isinstance(found := body[first], ast.ImportFrom) and found.module == "__future__":
        first += 1
    return first


def _is_text(statements: list[ast.stmt]) -> bool:
    return any(isinstance(found, ast.Expr) and isinstance(found.value, ast.Constant) for found in statements)
