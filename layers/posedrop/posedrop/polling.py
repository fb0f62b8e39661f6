"""When to ask for a job's status: whole seconds, from how long jobs take."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Latency:
    """How long jobs take, in seconds."""

    center: float

    @classmethod
    def typical(cls, seconds: float) -> Self:
        """What is known before the first job."""
        return cls(seconds)


def first_wait(latency: Latency) -> int:
    """Seconds from the submission to the first look."""
    return max(1, min(60, round(latency.center)))


def next_wait(elapsed_seconds: float, latency: Latency) -> int:
    """Seconds to the next look."""
    return max(1, min(60, round(max(latency.center - elapsed_seconds, elapsed_seconds * 0.12))))
