"""When to poll a job's status, from how long the last jobs took. Pure.

The first poll comes when a fifth of the last jobs had ended. From then on the step is the square root of their spread:
for jobs that end evenly over that time it is the step at which polls and delay cost least, where a poll costs as much
as a second of delay. A job that takes longer than nine tenths of them is polled less and less often.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LONGEST_WAIT = 60  # seconds
LONGEST_JOB = 3600  # seconds; the provider keeps a result for an hour

MEMORY = 32  # jobs: more would follow a change too slowly, fewer would see change in chance
PRIOR_SPREAD = 0.25  # of the logarithm of the duration, before the first job
EARLY = 0.2  # the share of the last jobs that had ended at the first poll
LATE = 0.9  # the share after which a job counts as late
SPREAD = 1.2  # of all jobs, in the seconds between the two
LATE_SHARE = 0.15  # of the elapsed time, to the next poll of a late job

NORMAL_SCORES = (-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534)  # eight equal parts of a distribution


@dataclass(frozen=True)
class Latency:
    """How long the last jobs took, the newest last, in tenths of seconds: integers suit any store."""

    tenths: tuple[int, ...]

    @classmethod
    def typical(cls, seconds: float) -> Self:
        """What is assumed before the first job: as many jobs as there are scores, around `seconds`."""
        return cls(tuple(_tenths(seconds * math.exp(PRIOR_SPREAD * score)) for score in NORMAL_SCORES))

    def observe(self, seconds: float) -> Self:
        """The latency after one more job took `seconds`. What is not a positive number is left out."""
        if not (math.isfinite(seconds) and seconds > 0):
            return self
        return type(self)((*self.tenths, _tenths(seconds))[-MEMORY:])

    def to_dict(self) -> dict[str, list[int]]:
        """As plain data."""
        return {"tenths": list(self.tenths)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From `to_dict`'s data; the numbers may be of any kind. Raises ValueError if there are none."""
        try:
            tenths = tuple(min(max(int(value), 1), LONGEST_JOB * 10) for value in data["tenths"])[-MEMORY:]
        except (KeyError, TypeError, ArithmeticError) as exc:
            raise ValueError("not a latency") from exc
        if not tenths:
            raise ValueError("a latency of no jobs")
        return cls(tenths)


def first_wait(latency: Latency) -> int:
    """Return the seconds from the submission to the first poll, 1 to 60."""
    return next_wait(0, latency)


def next_wait(elapsed_seconds: float, latency: Latency) -> int:
    """Return the seconds to the next poll, 1 to 60, of a job not finished `elapsed_seconds` after its submission.

    A latency of no jobs counts as one of jobs that take no time.
    """
    durations = sorted(tenth / 10 for tenth in latency.tenths) or [0.0]
    early, late = (durations[int(share * len(durations))] for share in (EARLY, LATE))
    step = max(1.0, math.sqrt((late - early) * SPREAD))
    if elapsed_seconds < math.ceil(early) - 0.5:  # a clock that is a little behind makes no poll twice
        wait = early - elapsed_seconds
    elif elapsed_seconds < late:
        wait = step
    else:
        wait = max(step, elapsed_seconds * LATE_SHARE)
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))


def _tenths(seconds: float) -> int:
    """Rounded up, since a poll a moment before a job's end is in vain."""
    return math.ceil(min(max(seconds, 0.1), LONGEST_JOB) * 10 - 1e-6)
