"""The problems that `status` reports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A problem that a person must fix, and how. `action` is the code of the console's button for it, if any."""

    what: str
    next_step: str
    action: str = ""
