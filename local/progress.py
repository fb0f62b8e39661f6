"""Show the demo's progress: a live table on a terminal, else a line for each change."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

ENDED = ("SUCCEEDED", "FAILED")
STYLES = {"SUCCEEDED": "green", "FAILED": "red", "SUBMITTED": "cyan", "SUBMITTING": "cyan"}
WAITING_STYLE = "yellow"
"""The text for all other states: nothing was sent to the provider yet."""

JOB_WIDTH = 64  # at most, so that a state is near its job on a wide terminal
STATE_WIDTH = 12  # a spinner and the longest state
TIME_WIDTH = 8
GAP = 2
INDENT = 2
DETAIL_LINES = 2
"""A limit, so that no text hides the jobs: the provider's text can have a thousand characters."""


@dataclass
class Line:
    """One job's line: its name, state and detail, and the seconds from its upload to its end."""

    name: str
    state: str = "UPLOADED"
    detail: str = ""
    seconds: float | None = None


class Progress:
    """The progress of some jobs, from their upload on. A terminal's table is drawn so many times per second."""

    def __init__(self, console: Console, lines: Sequence[Line], draws_per_second: float = 8) -> None:
        self._console = console
        self._lines = lines
        self._started = time.monotonic()
        self._spinner = Spinner("dots")
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=draws_per_second)

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_live:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Return seconds since the upload."""
        return time.monotonic() - self._started

    def change(self, line: Line, state: str, detail: str = "") -> None:
        """Show a job's new state; do nothing if it has not changed."""
        if (state, detail) == (line.state, line.detail):
            return
        line.state, line.detail = state, detail
        if state in ENDED and line.seconds is None:
            line.seconds = self.elapsed
        if not self._is_live:
            self._console.print(f"{self.elapsed:6.1f} s  {line.name}: {state}  {detail}".rstrip(), soft_wrap=True)

    def _table(self) -> Table:
        """Return the table. State and Time have a fixed width; names and texts share the rest."""
        room = max(1, min(JOB_WIDTH, self._console.width - STATE_WIDTH - TIME_WIDTH - 2 * GAP))
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
        table.add_column("Job", width=room)
        table.add_column("State", width=STATE_WIDTH, no_wrap=True)
        table.add_column("Time", width=TIME_WIDTH, no_wrap=True, justify="right")
        for line in self._lines:
            seconds = self.elapsed if line.seconds is None else line.seconds
            table.add_row(self._job(line, room), self._state(line), f"{seconds:.1f} s")
        return table

    def _job(self, line: Line, room: int) -> RenderableType:
        """Return a job's name with its detail below, cut to `room` columns and a few lines."""
        name = Text(line.name, no_wrap=True, overflow="ellipsis")
        if not line.detail:
            return name
        rows = Text(line.detail, "dim").wrap(self._console, max(1, room - INDENT))
        if len(rows) > DETAIL_LINES:
            last = rows[DETAIL_LINES - 1]
            last.rstrip()
            last.append(" …")
            last.truncate(max(1, room - INDENT), overflow="ellipsis")
        return Group(name, *(Padding(row, (0, 0, 0, INDENT)) for row in rows[:DETAIL_LINES]))

    def _state(self, line: Line) -> Text:
        state = Text(line.state, STYLES.get(line.state, WAITING_STYLE))
        if line.state in ENDED:
            return state
        return Text.assemble(str(self._spinner.render(self._console.get_time())), " ", state)


def show(progress: Progress, lines: Mapping[tuple[str, str], Line], found: Sequence[Mapping[str, Any]]) -> None:
    """Show the ledger's records; `lines` has each job's line by its character and pose."""
    for record in found:
        if line := lines.get((record["character"], record["pose"])):
            error = record.get("error") or {}
            progress.change(line, record["status"], error.get("message") or record.get("reason") or "")
