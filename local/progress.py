"""What the demo shows while it runs: a live table on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

ENDED = ("SUCCEEDED", "FAILED")
STYLES = {"SUCCEEDED": "green", "FAILED": "red", "SUBMITTED": "cyan", "SUBMITTING": "cyan"}


@dataclass
class Line:
    """One job's line: its name, its state, what to say of it, and the seconds since its upload until it ended."""

    name: str
    state: str = "UPLOADED"
    detail: str = ""
    seconds: float | None = None


class Progress:
    """The display of some jobs, from their upload on."""

    def __init__(self, console: Console, lines: Sequence[Line]) -> None:
        self._console = console
        self._lines = lines
        self._started = time.monotonic()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the upload."""
        return time.monotonic() - self._started

    def change(self, line: Line, state: str, detail: str = "") -> None:
        """Show a job's new state; nothing happens if it is the old one."""
        if (state, detail) == (line.state, line.detail):
            return
        line.state, line.detail = state, detail
        if state in ENDED and line.seconds is None:
            line.seconds = self.elapsed
        if not self._console.is_terminal:
            self._console.print(f"{self.elapsed:6.1f} s  {line.name}: {state}  {detail}".rstrip(), soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("Job", "State", "Time", ""):
            justify: JustifyMethod = "right" if heading == "Time" else "left"
            table.add_column(heading, justify=justify, header_style="dim", no_wrap=True, overflow="ellipsis")
        for line in self._lines:
            style = STYLES.get(line.state, "")
            state = Text(line.state, style) if line.state in ENDED else Spinner("dots", Text(line.state, style))
            seconds = self.elapsed if line.seconds is None else line.seconds
            table.add_row(line.name, state, f"{seconds:.1f} s", Text(line.detail, "dim"))
        return table
