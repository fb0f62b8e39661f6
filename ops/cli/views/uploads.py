"""Show an upload: what it would become, its progress, and its results."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.text import Text

from ops.cli.screen import SHOWN, STYLES, Grid, Part, Wrapped, shorten, step, text, word
from ops.formatting import many, printable, usd
from ops.inspect.batch import Item, Prepared
from ops.inspect.plan import Outcome
from ops.inspect.upload_report import NOT_SENT, Result, UploadReport
from ops.stack import Stack
from posedrop.aws.record import Status

NAME = 40
"""The most columns of a character's name."""


def preview(found: Prepared) -> list[Part]:
    """Return what an upload would become: its characters, jobs, cost and problems."""
    by_character: dict[str, list[Item]] = defaultdict(list)
    for item in found.items:
        by_character[item.job.character].append(item)
    table = Grid("Character", *NUMBERS, right=NUMBERS)
    for name, items in list(by_character.items())[:SHOWN]:
        counts = [_count(items, outcome) for outcome in (Outcome.NEW, Outcome.KNOWN)]
        wrong = _count(items, Outcome.REFUSED) + _count(items, Outcome.WAITING)
        cost = usd(round(sum(item.job.usd for item in items), 4))
        cells = (*(f"{count:,}" if count else "-" for count in counts), Text(f"{wrong:,}", "yellow") if wrong else "-")
        table.add(text(shorten(name, NAME)), *cells, cost)
    parts: list[Part] = [table] if by_character else []
    if len(by_character) > SHOWN:
        parts.append(text(f"and {len(by_character) - SHOWN:,} more characters", "dim"))
    wrong_items = [*found.of(Outcome.REFUSED), *found.of(Outcome.WAITING)]
    wrong_lines = [str(problem) for problem in found.problems]
    wrong_lines += [_with_picture(item.picture, item.why or "") for item in wrong_items]
    if wrong_lines:
        parts += [Text(), text("Not sent:", "yellow"), *_listed(wrong_lines)]
    if found.left_out:
        parts += [Text(), text("Left out:", "dim"), *_listed([str(left) for left in found.left_out])]
    if found.side:
        parts.append(text(f"{many(found.side, 'side file')} ignored.", "dim"))
    if found.others:
        also = (
            f"{many(len(found.others), 'other pose')} in the bucket are made again: they share a new face or job file."
        )
        parts.append(Wrapped(text(also, "yellow")))
    return parts


NUMBERS = ("New jobs", "Existing", "Not sent", "Cost")


def _count(items: Sequence[Item], outcome: Outcome) -> int:
    return sum(item.job.outcome is outcome for item in items)


def _with_picture(picture: str, why: str) -> str:
    return why if not picture or picture in why else f"{picture}: {why}"


def _listed(lines: Sequence[str]) -> list[Part]:
    """Return the first of some lines, and the number of the others."""
    parts: list[Part] = [Wrapped(Text.assemble(("  ! ", "yellow"), printable(line)), 4) for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        parts.append(text(f"  and {len(lines) - SHOWN:,} more: --report FILE lists all", "dim"))
    return parts


# ---- sending ---------------------------------------------------------------------------------------------------------


def sending(shown: Console, files: int, size: int, send: Callable[[Callable[[Mapping[str, Any]], None]], None]) -> None:
    """Show the progress of an upload while `send` works: a bar on a terminal, else a line per tenth of the files.

    `send` gets a function to report the upload's progress with, from several threads. `size` is in bytes.
    """
    if not shown.is_terminal:
        _send_in_lines(shown, files, send)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20, complete_style="cyan", finished_style="dim"),
        DownloadColumn(),
    )
    with Progress(*columns, console=shown) as progress:
        task = progress.add_task(f"Uploading {many(files, 'file')}", total=size)
        noted: list[str] = []

        def report(standing: Mapping[str, Any]) -> None:
            description = f"Uploaded {standing['done']:,} of {many(files, 'file')}"
            progress.update(task, description=description, completed=standing["sent"])
            if standing["note"] and standing["note"] not in noted:
                noted.append(standing["note"])
                progress.console.print(text(standing["note"], "yellow"))

        send(report)


def _send_in_lines(shown: Console, files: int, send: Callable[[Callable[[Mapping[str, Any]], None]], None]) -> None:
    said: list[Any] = []

    def report(standing: Mapping[str, Any]) -> None:
        tenth = standing["done"] * 10 // files
        for line, key in ((standing["note"], standing["note"]), (f"Uploaded {standing['done']:,} of {files:,}", tenth)):
            if key and key not in said:
                said.append(key)
                shown.print(text(line), soft_wrap=True)

    send(report)


# ---- results ---------------------------------------------------------------------------------------------------------


def report(found: UploadReport) -> list[Part]:
    """Return the results of an upload: the failures with their reasons, where the images are, and the sums."""
    parts: list[Part] = []
    wrong = [result for result in found.results if result.status in (Status.FAILED, NOT_SENT)]
    if wrong:
        parts += [text("Not made:", "red"), *_listed([_failure(result) for result in wrong])]
    images = [image for result in found.results for image in result.images]
    parts += [text(image) for image in images[:SHOWN]]
    if len(images) > SHOWN:
        parts.append(text(f"and {len(images) - SHOWN:,} more images: --report FILE lists all", "dim"))
    counts = [
        (found.succeeded, Status.SUCCEEDED, "succeeded"),
        (found.failed, Status.FAILED, "failed"),
        (found.not_sent, Status.WAITING, "not sent"),
        (found.open, Status.SUBMITTED, "not finished"),
    ]
    summed = Text(f"{many(found.jobs, 'job')}: ")
    for number, (count, style, name) in enumerate(each for each in counts if each[0]):
        summed.append(", " if number else "").append(f"{count:,} {name}", STYLES[style])
    cost = ". Cost so far: " if found.open else ". Cost: "
    cost += usd(found.cost_usd) if found.cost_usd or not found.cost_unknown else "unknown"
    if found.cost_usd and found.cost_unknown:
        cost += f", and unknown for {many(found.cost_unknown, 'job')}"
    cost += f"; {many(found.known, 'job')} existed already" if found.known else ""
    return [*parts, Wrapped(summed.append(f"{cost}."))]


def _failure(result: Result) -> str:
    name = result.picture or f"{result.character}/{result.pose}".strip("/")
    return _with_picture(name, result.why or word(result.status))


def next_step(failed: Sequence[str], stack: Stack) -> list[Part]:
    """Return how to retry the failed jobs, if they are few enough for one command."""
    return [step("Next  ", f"Retry: {stack.command('retry', *failed)}")] if 0 < len(failed) <= SHOWN else []
