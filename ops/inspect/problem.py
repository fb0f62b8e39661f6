"""What `status` reports: something that somebody must see to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something that somebody must see to, and how. `action` names what can be done about it from the console."""

    what: str
    next_step: str
    action: str = ""
