"""Mutate the modules of money and limits, one operator or number at a time, and check that a test fails each time.

`make mutate` runs it. Cosmic Ray finds and makes the changes, in copies of the tree under .local/mutate/: the work tree
is never changed. The results are kept as long as a module does not change, so a run that was stopped continues where it
ended, and a change that no test noticed is tried again. docs/development.md says what to do about such a change.
"""

import hashlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parent.parent
PACKAGE = Path("layers/posedrop/posedrop")
WORK = ROOT / ".local" / "mutate"
COPIED = ("bench", "events", "functions", "layers", "local", "ops", "tests", "pyproject.toml")

CONFIGURATION = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text(encoding="utf-8"))
MODULES: dict[str, list[str]] = CONFIGURATION["modules"]
# Of each operator's replacements only the nearest: a test that notices - for + also notices << for it.
OPERATORS = {
    "core/ReplaceBinaryOperator_Add_Sub",
    "core/ReplaceBinaryOperator_Sub_Add",
    "core/ReplaceBinaryOperator_Mul_Div",
    "core/ReplaceBinaryOperator_Div_Mul",
    "core/ReplaceBinaryOperator_FloorDiv_Div",
    "core/ReplaceBinaryOperator_Mod_FloorDiv",
    "core/ReplaceBinaryOperator_Pow_Mul",
    "core/ReplaceComparisonOperator_Lt_LtE",
    "core/ReplaceComparisonOperator_LtE_Lt",
    "core/ReplaceComparisonOperator_Gt_GtE",
    "core/ReplaceComparisonOperator_GtE_Gt",
    "core/ReplaceComparisonOperator_Eq_NotEq",
    "core/ReplaceComparisonOperator_NotEq_Eq",
    "core/ReplaceComparisonOperator_Is_IsNot",
    "core/ReplaceComparisonOperator_IsNot_Is",
    "core/ReplaceUnaryOperator_Delete_Not",
    "core/ReplaceUnaryOperator_Delete_USub",
    "core/AddNot",
    "core/ReplaceTrueWithFalse",
    "core/ReplaceFalseWithTrue",
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/ReplaceBreakWithContinue",
    "core/ReplaceContinueWithBreak",
    "core/ExceptionReplacer",
    "core/NumberReplacer",
    "core/RemoveDecorator",
    "core/ZeroIterationForLoop",
}


@dataclass(frozen=True)
class Change:
    """One change of one line of a module."""

    line: int
    before: str
    after: str

    @classmethod
    def of(cls, item: WorkItem, diff: str) -> "Change":
        """Return the change from Cosmic Ray's diff."""
        lines = [line for line in diff.splitlines() if line]
        before = [line[1:] for line in lines if line.startswith("-") and not line.startswith("---")]
        after = [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")]
        return cls(
            item.mutations[0].start_pos[0], " ".join(" ".join(before).split()), " ".join(" ".join(after).split())
        )


@dataclass(frozen=True)
class Crew:
    """The processes that test, each in its copy of the tree."""

    pool: ProcessPoolExecutor
    workers: int


def tree(number: int) -> Path:
    """Create a worker's copy of the files that the tests need, and return its path."""
    target = WORK / f"tree-{number}"
    shutil.rmtree(target, ignore_errors=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    return target


def test_command(tests: list[str]) -> list[str]:
    """Return the command that runs a module's tests in such a copy, up to the first failure."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    return [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]


def enter(numbers: Any) -> None:
    """Begin a worker in its own copy."""
    os.chdir(WORK / f"tree-{numbers.get()}")


def attempt(item: WorkItem, command: str, timeout: float) -> WorkResult:
    """Make one change and run the tests on it. `timeout` in seconds ends an endless loop, which counts as noticed."""
    return mutate_and_test(item.mutations, command, timeout)


@contextmanager
def session(module: str) -> Iterator[tuple[WorkDB, list[WorkItem]]]:
    """Yield the stored results for the present content of a module, and the changes that are still to be tried."""
    source = ROOT / PACKAGE / module
    digest = hashlib.sha256(source.read_bytes() + repr(sorted(OPERATORS)).encode()).hexdigest()[:16]
    path = WORK / f"{module.replace('/', '-')}-{digest}.sqlite"
    new = not path.exists()
    with use_db(str(path)) as db:
        if new:
            init([PACKAGE / module], db, {})
        noticed = {job for job, result in db.results if result.test_outcome == TestOutcome.KILLED}
        chosen = [item for item in db.work_items if item.mutations[0].operator_name in OPERATORS]
        chosen.sort(key=lambda item: item.mutations[0].start_pos)
        yield db, [item for item in chosen if item.job_id not in noticed]


def results(
    items: list[WorkItem], command: list[str], timeout: float, crew: Crew, until: float
) -> Iterator[tuple[WorkItem, WorkResult]]:
    """Try changes until the time `until` of time.monotonic(), and yield each with its result."""
    waiting = iter(items)
    running: dict[Future[WorkResult], WorkItem] = {}
    while True:
        spare = 0 if time.monotonic() > until else 2 * crew.workers - len(running)
        for item in itertools.islice(waiting, spare):
            running[crew.pool.submit(attempt, item, shlex.join(command), timeout)] = item
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()


def run(module: str, crew: Crew, until: float) -> int:
    """Try the changes of a module until the time `until` of time.monotonic(); return how many no test noticed."""
    command = test_command(MODULES[module])
    started = time.monotonic()
    # This also writes the tests' bytecode, which the runs on changes do not write.
    for number in range(crew.workers):
        subprocess.run(command, cwd=WORK / f"tree-{number}", check=True, stdout=subprocess.DEVNULL)
    timeout = 30 + 10 * (time.monotonic() - started) / crew.workers
    known = {
        (change["before"], change["after"]) for change in CONFIGURATION["equivalent"] if change["module"] == module
    }
    tried = survived = impossible = 0
    with session(module) as (db, items):
        for item, result in results(items, command, timeout, crew, until):
            tried += 1
            change = Change.of(item, result.diff or "")
            if result.test_outcome == TestOutcome.KILLED:
                db.set_result(item.job_id, result)
            elif result.test_outcome != TestOutcome.SURVIVED:
                impossible += 1  # Cosmic Ray cannot change `except (*ERRORS, Another)`
            elif (change.before, change.after) not in known:
                survived += 1
                print(f"{module}:{change.line}\n    - {change.before}\n    + {change.after}", flush=True)
    print(
        f"{module}: {tried} of {len(items)} changes tried, {survived} not noticed, {impossible} impossible",
        flush=True,
    )
    if tried < len(items):
        raise click.ClickException(f"Time is up; {len(items) - tried} changes of {module} are left: run it again.")
    return survived


@click.command()
@click.argument("modules", nargs=-1, type=click.Choice(list(MODULES)))
@click.option("--seconds", default=480.0, show_default=True, help="Stop after this time; run it again to continue.")
@click.option("--workers", default=2, show_default=True, help="The number of concurrent processes.")
def main(modules: tuple[str, ...], seconds: float, workers: int) -> None:
    """Try the changes of MODULES (all of them by default)."""
    until = time.monotonic() + seconds
    os.environ["CI"] = "true"  # Hypothesis then uses the same examples each time
    WORK.mkdir(parents=True, exist_ok=True)
    context = get_context("spawn")
    numbers = context.Queue()
    for number in range(workers):
        tree(number)
        numbers.put(number)
    survived = 0
    with ProcessPoolExecutor(workers, context, initializer=enter, initargs=(numbers,)) as pool:
        for module in modules or MODULES:
            survived += run(module, Crew(pool, workers), until)
    if survived:
        raise click.ClickException(f"{survived} changes were not noticed.")


if __name__ == "__main__":
    main()
