"""Print to a terminal or a pipe, in the right width. Foreign texts are printed as they are, never as markup.

On a terminal sentences are wrapped between words, and texts that do not fit into a table are shortened between words.
Texts to copy (commands, addresses, ids) stay in one piece, on their own lines. In a pipe nothing is wrapped, shortened
or coloured, and a line is a record.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ops.formatting import COMMAND, printable
from ops.inspect.plan import Outcome

STYLES = {
    "WAITING": "yellow",
    "QUEUED": "cyan",
    "SUBMITTING": "cyan",
    "SUBMITTED": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    Outcome.NEW: "cyan",
    Outcome.KNOWN: "green",
    Outcome.WAITING: "yellow",
    Outcome.REFUSED: "red",
}
WORDS = {"SUBMITTED": "in the model"}
SHOWN = 20
"""The most items that are listed if their number is not limited."""
PIPE_WIDTH = 240
"""Columns if the output is not a terminal: nothing is cut."""
WIDEST = 120
"""The most columns for prose: longer lines are hard to read."""
ELLIPSIS = "…"
TOGETHER = "\u00a0"
"""A space at which a line must not break."""
COMMANDS = (" ".join(COMMAND), "aws ")
"""The beginning of a command that users copy."""


@dataclass(frozen=True)
class Wrapped:
    """A text that is wrapped between words on a terminal; its further lines are indented by `hang` columns."""

    content: Text
    hang: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Wrap the text, or print it on one line if the output is not a terminal."""
        if console.is_terminal:
            lines = _lines(self.content, min(options.max_width, WIDEST), self.hang)
        else:
            lines = iter([self.content.copy()])
        for line in lines:
            line.plain = line.plain.replace(TOGETHER, " ")
            yield line


class Grid:
    """Cells below headings: a table on a terminal, else one line for each row, with the last cell unshortened.

    The columns in `right` are numbers. These columns and those in `whole` are never broken.
    """

    def __init__(self, *headings: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> None:
        self._headings, self._right, self._whole = headings, right, whole
        self._rows: list[list[Text]] = []

    def add(self, *cells: Text | str) -> None:
        """Add a row."""
        self._rows.append([Text(cell) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        if console.is_terminal:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
            for heading in self._headings:
                right = heading in self._right
                table.add_column(
                    heading,
                    justify="right" if right else "left",
                    no_wrap=right or heading in self._whole,
                    overflow="fold",
                )
            for row in self._rows:
                table.add_row(*row)
            yield table
            return
        lines = [[Text(heading) for heading in self._headings], *self._rows]
        widths = [max(row[column].cell_len for row in lines) for column in range(len(self._headings))]
        for row in lines:
            cells = [cell.plain + " " * (width - cell.cell_len) for cell, width in zip(row, widths, strict=True)]
            yield Text("   ".join(cells).rstrip())


@dataclass(frozen=True)
class Step:
    """A next step: a sentence that may end with a command. A long command gets its own line, to be copied."""

    label: str
    sentence: str
    command: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print it on one line if it fits, or if the output is not a terminal."""
        width, indent = min(options.max_width, WIDEST), len(self.label)
        whole = Text.assemble((self.label, "dim"), " ".join(filter(None, [self.sentence, self.command])))
        if not self.command or not console.is_terminal or whole.cell_len <= width:
            yield Wrapped(whole, indent)
            return
        yield Wrapped(Text.assemble((self.label, "dim"), self.sentence), indent)
        yield Text(" " * indent + self.command)


@dataclass(frozen=True)
class Beside:
    """A detail next to its heading; below it, indented, if the terminal is too narrow."""

    heading: Text
    detail: Text
    indent: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print both."""
        fits = self.heading.cell_len + self.detail.cell_len <= min(options.max_width, WIDEST)
        if fits or not console.is_terminal:
            yield Text.assemble(self.heading, self.detail)
            return
        heading = self.heading.copy()
        heading.rstrip()
        if heading:
            yield heading
        yield Wrapped(Text.assemble(" " * self.indent, self.detail), self.indent)


Part = Text | Grid | Wrapped | Step | Beside
"""A text that is never broken, so that it can be copied; cells; or a text that is wrapped between words."""


def console(*, stderr: bool = False) -> Console:
    """Return a console for results, or for messages on stderr."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return (
        made
        if made.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)
    )


def show(where: Console, parts: Sequence[Part]) -> None:
    """Print parts below each other."""
    for part in parts:
        # A table must not be wider than the terminal; other parts may be.
        where.print(part, soft_wrap=not isinstance(part, Grid) or not where.is_terminal)


def text(content: str, style: str = "") -> Text:
    """Return a foreign text without control characters."""
    return Text(printable(content), style)


def prose(content: str, style: str = "", *, indent: int = 0) -> Wrapped:
    """Return a foreign sentence without control characters; it is wrapped between words."""
    return Wrapped(text(" " * indent + content, style), indent)


def word(status: str) -> str:
    """Return a status as shown to people."""
    return WORDS.get(status, status.lower())


def rows(found: Sequence[tuple[str, Text | str]]) -> list[Part]:
    """Return lines of names and values. A value without a space is never broken."""
    width = max(len(name) for name, _ in found)
    parts: list[Part] = []
    for name, content in found:
        heading = Text(f"  {name:{width}}   ", "dim")
        value = Text(content) if isinstance(content, str) else content
        whole = " " not in value.plain.strip()
        parts.append(Beside(heading, value, 4) if whole else Wrapped(Text.assemble(heading, value), width + 5))
    return parts


def step(label: str, content: str) -> Step:
    """Return a next step, whose sentence may end with a command to copy."""
    content = printable(content)
    start = min((at for at in (content.find(f": {begin}") for begin in COMMANDS) if at >= 0), default=len(content))
    return Step(label, content[: start + 1], content[start + 2 :])


def shorten(content: str, width: int) -> str:
    """Return a text on one line of at most `width` columns, cut between words with an ellipsis if it is longer."""
    line = " ".join(content.split())
    if cell_len(line) <= width:
        return line
    if width < 1:
        return ""
    kept = _first(line, width - 1)
    at = kept.rfind(" ")
    # A text without spaces, such as a Chinese one, is cut anywhere.
    if not line[len(kept) :].startswith(" ") and at >= len(kept) // 3:
        kept = kept[:at]
    return kept.rstrip(" ,;:.") + ELLIPSIS


def _first(content: str, width: int) -> str:
    """Return the first characters that fit into `width` columns."""
    used = 0
    for number, char in enumerate(content):
        used += cell_len(char)
        if used > width:
            return content[:number]
    return content


def _lines(content: Text, width: int, hang: int) -> Iterator[Text]:
    """Yield a text in lines of `width` columns, broken between words; further ones are indented. Words stay whole."""
    first = True
    for paragraph in content.split("\n", allow_blank=True):
        plain = paragraph.plain
        breaks, start, used = [], 0, 0 if first else hang
        for word in re.finditer(r" *[^ ]+", plain):
            size = cell_len(word[0])
            if used + size > width and word.start() > start:
                start = word.end() - len(word[0].lstrip())
                breaks.append(start)
                used = hang + cell_len(plain[start : word.end()])
            else:
                used += size
        for line in paragraph.divide(breaks):
            line.rstrip()
            yield line if first else Text.assemble(" " * hang, line)
            first = False
