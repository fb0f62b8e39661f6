"""Format numbers and times for people."""

import shlex

from posedrop.contract.times import DAY, MINUTE

COMMAND = (".venv/bin/python", "-m", "ops")
"""The command line of the operator's command in a clone."""


def span(seconds: float) -> str:
    """Return a duration: `4 s`, `3 min`, `2 h 5 min`, `3 d`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds % 1 >= 0.05 else f"{seconds:.0f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * MINUTE:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < 2 * DAY:
        hours, minutes = divmod(round(seconds / MINUTE), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / DAY:.0f} d"


def usd(amount: float) -> str:
    """Return an amount of money; small amounts with a tenth of a cent."""
    return f"{amount:.4f} USD" if 0 < amount < 0.1 else f"{amount:.2f} USD" if amount else "0 USD"


def many(count: int, what: str) -> str:
    """Return a count with its noun: `1 job`, `2 jobs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def command(*words: str) -> str:
    """Return a command line of this program, quoted for a shell."""
    return shlex.join([*COMMAND, *words])


def printable(text: str) -> str:
    """Return a text without terminal control characters: names and messages may come from others."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)
