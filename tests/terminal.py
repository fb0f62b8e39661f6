"""A terminal that tests can read: a program in a pseudo-terminal, and the screen that it draws."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pexpect
import pyte

ROOT = Path(__file__).resolve().parent.parent
HANGS_SECONDS = 120
READ_SECONDS = 0.05


class Terminal:
    """A program in a terminal of `columns` by `rows`. Use it as a context manager, which ends the program."""

    def __init__(self, argv: Sequence[str], columns: int, rows: int = 40, env: Mapping[str, str] | None = None) -> None:
        """Start the program in the project's directory; `env` adds to this process's environment."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._program = pexpect.spawn(
            argv[0],
            list(argv[1:]),
            cwd=ROOT,
            dimensions=(rows, columns),
            echo=False,
            env={**_plain_environment(), "TERM": "xterm-256color", **(env or {})},
            timeout=HANGS_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._program.close(force=True)

    @property
    def pid(self) -> int:
        """Return the program's process id; it leads its own session."""
        pid: int = self._program.pid
        return pid

    @property
    def lines(self) -> list[str]:
        """Return the screen's lines without trailing spaces, and without blank lines at the end."""
        text = "\n".join(line.rstrip() for line in self._screen.display).rstrip()
        return text.split("\n")

    def colour(self, text: str) -> str:
        """Return the colour of a text's first place on the screen, such as `green`."""
        for number, line in enumerate(self._screen.display):
            if text in line:
                return str(self._screen.buffer[number][line.index(text)].fg)
        raise AssertionError(f"{text} is not on the screen:\n{self}")

    def send(self, text: str) -> None:
        """Type a text."""
        self._program.send(text)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._program.sendintr()

    def wait_for(self, shown: Callable[[list[str]], bool], seconds: float = HANGS_SECONDS) -> list[str]:
        """Read the program's output until `shown` accepts the screen; return the screen's lines."""
        deadline = time.monotonic() + seconds
        while not shown(self.lines):
            assert time.monotonic() < deadline, f"not shown in {seconds:.0f} s:\n{self}"
            if not self._draw() and not shown(self.lines):
                raise AssertionError(f"the program has ended:\n{self}")
        return self.lines

    def wait(self, seconds: float = HANGS_SECONDS) -> int:
        """Read the program's output until it ends; return its exit code."""
        deadline = time.monotonic() + seconds
        while self._draw():
            assert time.monotonic() < deadline, f"still running after {seconds:.0f} s:\n{self}"
        self._program.wait()
        code: int = self._program.exitstatus
        return code

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _draw(self) -> bool:
        """Draw the new output; return whether there may be more."""
        try:
            self._stream.feed(self._program.read_nonblocking(65536, READ_SECONDS))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            self._draw_rest()
            return False
        return True

    def _draw_rest(self) -> None:
        """Draw what was written just before the end: pexpect reports the end first if the program ended meanwhile."""
        try:
            while True:
                self._stream.feed(self._program.read_nonblocking(65536, 0))
        except pexpect.EOF:
            return


def _plain_environment() -> dict[str, str]:
    """Return this process's environment without the variables that describe a terminal."""
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CI")
    return {name: value for name, value in os.environ.items() if name not in names}
