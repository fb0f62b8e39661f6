"""When to ask for a job's status: from how long the last jobs took, at the least cost. Pure.

A look costs as much as a second of delay between a job's end and its detection. The last jobs' durations, smoothed,
are taken for the distribution of the next one's, and dynamic programming over it finds the times to look at. A share is
kept for the unforeseen: a job that takes longer than any before it is still asked for, less and less often.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Self

LONGEST_WAIT = 60  # seconds
LONGEST_JOB = 3600  # seconds; the provider keeps a result for an hour

MEMORY = 32  # jobs: more would follow a change too slowly, fewer would see change in chance
PRIOR_SPREAD = 0.25  # of the logarithm of the duration, before the first job
SMOOTHING = 0.5  # of the spread of the densest part, to each duration
DENSEST = 0.4  # share of the jobs; for two clusters of durations it lies within one, as the usual quartiles would not
DENSEST_WIDTH = 1.05  # of the densest part of a normal distribution, in standard deviations
UNFORESEEN = 0.03  # share of the jobs, spread over the times below
UNFORESEEN_TIMES = [1.2**step for step in range(1, 13)]  # in medians, to 8.9
LATE_SHARE = 0.2  # of the elapsed time, waited for a job that is later than all that

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
    """Seconds from the submission to the first look, 1 to 60."""
    return next_wait(0, latency)


def next_wait(elapsed_seconds: float, latency: Latency) -> int:
    """Seconds to the next look, 1 to 60, at a job that was not finished `elapsed_seconds` after its submission.

    The looks are planned as times after the submission: what a look itself takes does not add up.
    """
    times, following = _plan(latency)
    now = bisect_right(times, elapsed_seconds + 0.5) - 1  # a clock that is a little behind makes no look twice
    if now >= len(following):
        wait = elapsed_seconds * LATE_SHARE
    else:
        wait = following[now] - elapsed_seconds
    return max(1, min(LONGEST_WAIT, math.ceil(wait)))


@lru_cache(maxsize=8)
def _plan(latency: Latency) -> tuple[list[int], list[int]]:
    """The times at which a look may be worth it, 0 first; and for each but the last, when to look next."""
    durations = _durations([tenth / 10 for tenth in latency.tenths])
    times = [0, *sorted({math.ceil(seconds) for seconds, _ in durations})]
    values = [seconds for seconds, _ in durations]
    ended = [bisect_right(values, time) for time in times]
    shares = [0.0, *accumulate(share for _, share in durations)]
    means = [0.0, *accumulate(seconds * share for seconds, share in durations)]
    # By each time: the share of jobs that have ended, and the sum of their durations, weighted.
    share, mean = [shares[count] for count in ended], [means[count] for count in ended]

    cost = [0.0] * len(times)  # of all looks and delays after that time, for the jobs that are still running
    following = [0] * (len(times) - 1)
    for now in reversed(range(len(following))):
        last = max(now + 1, bisect_right(times, times[now] + LONGEST_WAIT) - 1)
        delays, look = min(
            (times[next_] * (share[next_] - share[now]) - (mean[next_] - mean[now]) + cost[next_], next_)
            for next_ in range(now + 1, last + 1)
        )
        cost[now] = delays + 1 - share[now]
        following[now] = times[look]
    return times, following


def _durations(recent: list[float]) -> list[tuple[float, float]]:
    """How long the next job may take: seconds and their share, in order."""
    ordered = sorted(recent)
    densest = zip(ordered, ordered[round(len(ordered) * DENSEST) :], strict=False)
    spread = SMOOTHING / DENSEST_WIDTH * min(math.log(high / low) for low, high in densest)
    factors = [math.exp(spread * score) for score in NORMAL_SCORES]
    share = (1 - UNFORESEEN) / (len(ordered) * len(factors))
    median = ordered[len(ordered) // 2]
    known = [(seconds * factor, share) for seconds in ordered for factor in factors]
    unforeseen = [(median * times, UNFORESEEN / len(UNFORESEEN_TIMES)) for times in UNFORESEEN_TIMES]
    return sorted(known + unforeseen)


def _tenths(seconds: float) -> int:
    """Rounded up, since a look a moment before a job's end is in vain."""
    return math.ceil(min(max(seconds, 0.1), LONGEST_JOB) * 10 - 1e-6)
