"""Draw a list of jobs again and again, until it is interrupted."""

from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ops.cli.screen import Part, prose
from ops.errors import AWS_ERRORS, sentence
from ops.stack import Stack

PACE_SECONDS = 2.0
SLOWEST_SECONDS = 30.0
"""Between two reads while the stack does not respond."""


def watch(shown: Console, stack: Stack, read: Callable[[], Sequence[Part]]) -> None:
    """Draw what `read` gives every two seconds, until Ctrl-C. The first read must succeed.

    After an error the last list stays, with the error below it, and is read again, later and later.
    """
    parts = list(read())
    pause = PACE_SECONDS
    with Live(console=shown, auto_refresh=False, vertical_overflow="crop") as live:
        live.update(_page(parts, "Ctrl-C ends it."), refresh=True)
        try:
            while True:
                stack.sleep(pause)
                try:
                    parts = list(read())
                except AWS_ERRORS as exc:
                    pause = min(pause * 2, SLOWEST_SECONDS)
                    said = f"{sentence(exc)} It is read again in {pause:.0f} s. Ctrl-C ends it."
                    live.update(_page(parts, said, "yellow"), refresh=True)
                else:
                    pause = PACE_SECONDS
                    live.update(_page(parts, "Ctrl-C ends it."), refresh=True)
        except KeyboardInterrupt:
            live.update(Group(*parts), refresh=True)


def _page(parts: Sequence[Part], said: str, style: str = "dim") -> Group:
    return Group(*parts, Text(), prose(said, style))


def rows_that_fit(shown: Console) -> int:
    """How many jobs of two lines fit below the headings and above what is said."""
    return max(1, (shown.size.height - 6) // 2)
