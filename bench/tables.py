"""Tables for the terminal."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 180


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with its title; the first column is left-aligned, the others are right-aligned."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(head))
    for number, name in enumerate(head):
        made.add_column(name, justify="right" if number else "left")
    for row in rows:
        made.add_row(*map(str, row))
    console = Console(file=io.StringIO(), width=WIDTH)
    with console.capture() as captured:
        console.print(made)
    return "\n".join([title, *(line.rstrip() for line in captured.get().splitlines() if line.strip())])
