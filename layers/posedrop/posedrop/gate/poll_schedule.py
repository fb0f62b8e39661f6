"""Decide how long to wait before the next poll of a job, from the durations of the last jobs. Pure.

A poll that comes too early is wasted, and a poll that comes too late delays the result. So there are three rules:

1. The first poll is when a fifth of the last jobs had ended.
2. The next polls follow in equal steps. The step is the square root of the spread of the durations, both in seconds.
3. A job that takes longer than nine tenths of the last jobs is late. It is polled less and less often: each wait is
   15% of the elapsed time, but at least one step.

Rule 2 assumes that a job ends at any time within the spread with the same probability, and that a poll costs as much
as one second of delay. A step of s seconds in a spread of w seconds then costs w / 2s polls and s / 2 seconds of delay
on average. The sum is lowest for s = sqrt(w).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LONGEST_WAIT = 60  # seconds
LONGEST_JOB = 3600  # seconds; the provider keeps a result for an hour

MEMORY = 32  # jobs: with more, a real change shows too slowly; with fewer, chance looks like a change
PRIOR_SPREAD = 0.25  # the assumed spread of the logarithm of the duration, before the first job
EARLY = 0.2  # the first poll is when this share of the last jobs had ended
LATE = 0.9  # a job is late when this share of the last jobs had ended
SPREAD = 1.2  # the spread of the durations, as a multiple of the time from EARLY to LATE
LATE_SHARE = 0.15  # the wait of a late job, as a share of the elapsed time

NORMAL_SCORES = (-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534)
"""The medians of eight equally likely parts of the standard normal distribution."""


@dataclass(frozen=True)
class Latency:
    """The durations of the last jobs, one at least, in tenths of a second, newest last. Integers are easy to store."""

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
        """Return the latency from the data of `to_dict`. Values may also be texts or decimals. Raises ValueError."""
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
    """Return the seconds until the next poll, 1 to 60, of a job that is not finished after `elapsed_seconds`."""
    durations = sorted(tenth / 10 for tenth in latency.tenths)
    early, late = (durations[int(share * len(durations))] for share in (EARLY, LATE))
    step = math.sqrt((late - early) * SPREAD)
    if elapsed_seconds < math.ceil(early) - 0.5:  # 0.5: a first poll that came slightly early is not repeated
        wait = early - elapsed_seconds
    elif elapsed_seconds < late:
        wait = step
    else:
        wait = max(step, elapsed_seconds * LATE_SHARE)
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))


def _tenths(seconds: float) -> int:
    """Round up to tenths of a second, because a poll just before the job's end is wasted."""
    return math.ceil(min(max(seconds, 0.1), LONGEST_JOB) * 10 - 1e-6)
