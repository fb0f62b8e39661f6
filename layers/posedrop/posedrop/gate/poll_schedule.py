"""Decide when to poll a job's status, from the durations of the last jobs. Pure.

The first poll is at the time by which a fifth of the last jobs had ended. After that, the step between polls is the
square root of the spread of the durations in seconds. This step has the lowest total cost if jobs end evenly over the
spread and a poll costs as much as a second of delay. A job that takes longer than nine tenths of the others is polled
less and less often.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LONGEST_WAIT = 60  # seconds
LONGEST_JOB = 3600  # seconds; the provider keeps a result for an hour

MEMORY = 32  # jobs: with more, a real change shows too slowly; with fewer, chance looks like a change
PRIOR_SPREAD = 0.25  # the assumed spread of the logarithm of the duration, before the first job
EARLY = 0.2  # the share of the last jobs that had ended at the first poll
LATE = 0.9  # the share after which a job counts as late
SPREAD = 1.2  # the spread of all jobs, as a multiple of the time between EARLY and LATE
LATE_SHARE = 0.15  # the wait until the next poll of a late job, as a share of the elapsed time

NORMAL_SCORES = (-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534)
"""The middles of eight equal parts of a normal distribution."""


@dataclass(frozen=True)
class Latency:
    """The durations of the last jobs in tenths of a second, newest last. Integers are easy to store."""

    tenths: tuple[int, ...]

    @classmethod
    def typical(cls, seconds: float) -> Self:
        """Return the latency that is assumed before the first job: eight jobs with durations around `seconds`."""
        return cls(tuple(_tenths(seconds * math.exp(PRIOR_SPREAD * score)) for score in NORMAL_SCORES))

    def observe(self, seconds: float) -> Self:
        """Return the latency with one more job of `seconds`. A value that is not a positive number is ignored."""
        if not (math.isfinite(seconds) and seconds > 0):
            return self
        return type(self)((*self.tenths, _tenths(seconds))[-MEMORY:])

    def to_dict(self) -> dict[str, list[int]]:
        """Return the latency as plain data."""
        return {"tenths": list(self.tenths)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the latency from the data of `to_dict`, with numbers of any type. Raises ValueError if it has none."""
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
    """Return the seconds until the next poll, 1 to 60, of a job not finished `elapsed_seconds` after its submission.

    An empty latency counts as jobs with a duration of 0.
    """
    durations = sorted(tenth / 10 for tenth in latency.tenths) or [0.0]
    early, late = (durations[int(share * len(durations))] for share in (EARLY, LATE))
    step = max(1.0, math.sqrt((late - early) * SPREAD))
    if elapsed_seconds < math.ceil(early) - 0.5:  # 0.5: a slow clock must not cause two first polls
        wait = early - elapsed_seconds
    elif elapsed_seconds < late:
        wait = step
    else:
        wait = max(step, elapsed_seconds * LATE_SHARE)
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))


def _tenths(seconds: float) -> int:
    """Round up to tenths of a second, because a poll just before the job's end is wasted."""
    return math.ceil(min(max(seconds, 0.1), LONGEST_JOB) * 10 - 1e-6)
