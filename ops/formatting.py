"""Numbers and times as people say them."""

import shlex

MINUTE, HOUR, DAY = 60, 3600, 86400
COMMAND = (".venv/bin/python", "-m", "ops")
"""How it is called from a clone."""


def span(seconds: float) -> str:
    """A duration: `4 s`, `3 min`, `2 h 5 min`, `3 d`."""
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
    """An amount of money, to the tenth of a cent where it is small."""
    return f"{amount:.4f} USD" if 0 < amount < 0.1 else f"{amount:.2f} USD" if amount else "0 USD"


def many(count: int, what: str) -> str:
    """A count with its noun: `1 job`, `2 jobs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def command(*words: str) -> str:
    """A command of this program, quoted for a shell."""
    return shlex.join([*COMMAND, *words])


def printable(text: str) -> str:
    """A text without anything that steers a terminal: names and messages come from others."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)
