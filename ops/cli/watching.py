"""Draw a list of jobs repeatedly, until Ctrl-C."""

from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ops.cli.screen import Part, prose
from ops.errors import AWS_ERRORS, sentence
from ops.stack import Stack

PACE_SECONDS = 2.0
SLOWEST_SECONDS = 30.0
"""Seconds between two reads while the stack does not respond: at first, and at most."""


def watch(shown: Console, stack: Stack, read: Callable[[], Sequence[Part]]) -> None:
    """Draw the result of `read` every two seconds, until Ctrl-C. The first read must succeed.

    After an error the last list stays, with the error below it; the pauses between the reads grow.
    """
    parts = list(read())
    pause = PACE_SECONDS
    with Live(console=shown, auto_refresh=False, vertical_overflow="crop") as live:
        live.update(_page(parts, "Ctrl-C stops it."), refresh=True)
        try:
            while True:
                stack.sleep(pause)
                try:
                    parts = list(read())
                except AWS_ERRORS as exc:
                    pause = min(pause * 2, SLOWEST_SECONDS)
                    said = f"{sentence(exc)} Next try in {pause:.0f} s. Ctrl-C stops it."
                    live.update(_page(parts, said, "yellow"), refresh=True)
                else:
                    pause = PACE_SECONDS
                    live.update(_page(parts, "Ctrl-C stops it."), refresh=True)
        except KeyboardInterrupt:
            live.update(Group(*parts), refresh=True)


def _page(parts: Sequence[Part], said: str, style: str = "dim") -> Group:
    return Group(*parts, Text(), prose(said, style))


def rows_that_fit(shown: Console) -> int:
    """Return how many jobs of two lines fit between the headings and the last line."""
    return max(1, (shown.size.height - 6) // 2)
