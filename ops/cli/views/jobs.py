"""Show a list of jobs: two lines each on a terminal, one line each in a pipe."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ops.cli.screen import STYLES, WIDEST, Grid, Part, shorten, text, word
from ops.formatting import many, span, usd
from ops.inspect.records import Page
from ops.inspect.timeline import seconds_to_result
from posedrop.aws.record import AnyRecord, Status

STATUS = 12
"""Columns of a job's status."""
DOT = " · "
LEAST_PROMPT = 16
"""The least columns of a prompt beside a long reason."""


def jobs(page: Page, now: float) -> list[Part]:
    """Return a page of jobs; `now` is in seconds since the epoch."""
    return [JobList(page.records, now)] if page.records else [Text("No jobs.", "dim")]


class JobList(Grid):
    """Jobs below headings."""

    def __init__(self, records: list[AnyRecord], now: float) -> None:
        super().__init__("Job", "Status", "Changed", "Result", "Prompt")
        self._records, self._now = records, now
        for record in records:
            status = Text(word(record.status), STYLES[record.status])
            prompt = text(" ".join(_prompt(record).split()))
            self.add(text(record.job_id), status, _changed(record, now), text(result(record)), prompt)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the list. On a terminal the second line has the time of the last change, the result and the prompt."""
        if not console.is_terminal:
            yield from super().__rich_console__(console, options)
            return
        width = min(options.max_width, WIDEST)
        yield Text(f"{'Status':{STATUS}} Job", "dim")
        yield Text(f"{'':{STATUS}} Changed · Result · Prompt", "dim")
        for record in self._records:
            # Other commands need the id, so it is never cut.
            status = (f"{word(record.status):{STATUS}} ", STYLES[record.status])
            job_id, about = text(record.job_id), list(_second(record, self._now, width - STATUS - 1))
            if STATUS + 1 + job_id.cell_len <= width:
                yield Text.assemble(status, job_id)
                yield Text.assemble(" " * (STATUS + 1), *about)
            else:
                yield Text.assemble(status, *about)
                yield Text.assemble("  ", job_id)


def _second(record: AnyRecord, now: float, width: int) -> Iterator[Text]:
    """Yield the time of a job's last change, its result and its prompt, in so many columns."""
    changed = Text(_changed(record, now), "dim")
    yield changed
    left = width - changed.cell_len
    prompt, said = f"“{_prompt(record)}”" if _prompt(record) else "", result(record)
    if said:
        # The job's id contains the folder already.
        said = said.replace(_folder(record), "")
        spare = min(len(prompt), LEAST_PROMPT) + len(DOT) if prompt else 0
        shown = text(shorten(said, left - len(DOT) - spare), "red" if record.status is Status.FAILED else "")
        yield Text(DOT, "dim")
        yield shown
        left -= len(DOT) + shown.cell_len
    if prompt:
        yield Text(DOT, "dim")
        yield _quoted(prompt, left - len(DOT))


def _folder(record: AnyRecord) -> str:
    """Return the prefix of a job's files, from one of their keys; empty if there is none."""
    for read in () if record.status is Status.WAITING else record.inputs.values():
        before, found, _ = str(read["key"]).partition(f"{record.character}/")
        if found:
            return before + found
    return ""


def _quoted(prompt: str, width: int) -> Text:
    """Return a prompt in quotation marks, shortened between words."""
    cut = shorten(prompt, width)
    return text(cut if cut.endswith("”") or not cut else shorten(prompt, width - 1) + "”", "dim")


def _prompt(record: AnyRecord) -> str:
    return "" if record.status is Status.WAITING else str(record.parameters.get("prompt", ""))


def _changed(record: AnyRecord, now: float) -> str:
    return f"{span(now - record.updated_at)} ago"


def result(record: AnyRecord) -> str:
    """Return the result of a job, or what it waits for, in a few words."""
    if record.status is Status.WAITING:
        hints = f" ({record.reason})" if record.missing and record.reason else record.reason or ""
        return "missing: " + " and ".join(record.missing) + hints if record.missing else hints
    if record.error:
        return f"{record.error['type']}: {record.error['message']}"
    if record.status is Status.SUCCEEDED:
        seconds = seconds_to_result(record)
        duration = f" in {span(seconds)}" if seconds is not None else ""
        cost = f", {usd(record.cost_usd)}" if record.cost_usd else ""
        return f"{many(len(record.outputs), 'image')}{duration}{cost}"
    return record.reason or ""
