"""Compare the poll schedule with the optimum that knows the distribution, and with fixed intervals, on seeded traces.

A schedule's cost is the mean of the seconds from a job's end to its detection, plus one second for each poll. The
learning schedule begins with a typical duration of 31 s and sees 40 jobs of the 31 s trace. Then the distribution
changes to that of the row, without notice; the table is for its jobs after the first 20.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Protocol

from bench import tables
from bench.plots import COLOURS, INK, plot, save
from posedrop.gate.poll_schedule import LONGEST_WAIT, Latency, next_wait

POLL_COST = 1.0  # seconds of delay that a poll costs
JOBS = 1500  # of a trace
LEARNING_JOBS = 20  # after a change, not counted
JOBS_BEFORE = 40  # of the 31 s trace, before the change
FIXED = (1, 5, 10)  # seconds; the official SDK uses 1 s
KNOWN_JOBS = 20_000  # from which the optimum learns the distribution

Draw = Callable[[random.Random], float]


class Schedule(Protocol):
    """When to poll a job. Times are in seconds after its submission."""

    def wait(self, elapsed: float) -> int:
        """Return the whole seconds from `elapsed` to the next poll."""

    def observe(self, seconds: float) -> None:
        """Learn the duration of a job."""


@dataclass(frozen=True)
class Fixed:
    """A fixed interval; the official SDK uses 1 s."""

    seconds: int

    def wait(self, elapsed: float) -> int:
        """See Schedule."""
        return self.seconds

    def observe(self, seconds: float) -> None:
        """Learn nothing."""


@dataclass(frozen=True)
class Known:
    """A plan made once: `following[t]` is the wait from second t."""

    following: Sequence[int]
    cost: float

    def wait(self, elapsed: float) -> int:
        """See Schedule."""
        return self.following[min(int(elapsed), len(self.following) - 1)]

    def observe(self, seconds: float) -> None:
        """Learn nothing."""


@dataclass
class Learning:
    """posedrop's own schedule."""

    latency: Latency = field(default_factory=lambda: Latency.typical(31))

    def wait(self, elapsed: float) -> int:
        """See Schedule."""
        return next_wait(elapsed, self.latency)

    def observe(self, seconds: float) -> None:
        """See Schedule."""
        self.latency = self.latency.observe(seconds)


@dataclass(frozen=True)
class Result:
    """Means over jobs; delays are the seconds from a job's end to its detection."""

    polls: float
    delay: float
    delay_p50: float
    delay_p95: float

    @property
    def cost(self) -> float:
        """Return the cost in seconds."""
        return self.delay + POLL_COST * self.polls


def optimum(samples: Sequence[float]) -> Known:
    """Return the best polls at whole seconds for the distribution of some samples.

    Found by dynamic programming.
    """
    durations = sorted(samples)
    sums = [0.0, *accumulate(durations)]
    end = math.ceil(durations[-1])
    ended = [bisect_right(durations, second) for second in range(end + 1)]
    costs, following = [0.0] * (end + 1), [1] * (end + 1)
    for now in reversed(range(end)):
        running = len(durations) - ended[now]
        costs[now], following[now] = min(
            (
                POLL_COST * running  # a poll of all jobs that still run
                + poll * (ended[poll] - ended[now]) - (sums[ended[poll]] - sums[ended[now]])  # the delays it finds
                + costs[poll],
                poll - now,
            )
            for poll in range(now + 1, min(now + LONGEST_WAIT, end) + 1)
        )  # fmt: skip
    return Known(following, costs[0] / len(durations))


def evaluate(schedule: Schedule, durations: Sequence[float], skip: int = 0) -> Result:
    """Run jobs one after the other under a schedule, which learns from each; do not count the first `skip`."""
    polls: list[int] = []
    delays: list[float] = []
    for duration in durations:
        elapsed = count = 0
        while elapsed < duration:
            elapsed += schedule.wait(elapsed)
            count += 1
        polls.append(count)
        delays.append(elapsed - duration)
        schedule.observe(duration)
    delays = sorted(delays[skip:])
    return Result(
        polls=sum(polls[skip:]) / len(delays),
        delay=sum(delays) / len(delays),
        delay_p50=delays[len(delays) // 2],
        delay_p95=delays[int(len(delays) * 0.95)],
    )


def typical(rng: random.Random) -> float:
    """Return a duration of the 31 s trace: 29.5 s lognormal with sigma 0.25, plus an exponential of 2 s."""
    return rng.lognormvariate(math.log(29.5), 0.25) + rng.expovariate(1 / 2)


def scaled(rng: random.Random) -> float:
    """Return such a duration, scaled to 61 s."""
    return typical(rng) * 61 / 31


def cold_boots(draw: Draw) -> Draw:
    """Return a trace in which two jobs in a hundred take 3 minutes more."""
    return lambda rng: draw(rng) + (180 if rng.random() < 0.02 else 0)


def two_kinds(rng: random.Random) -> float:
    """Return a duration of about 20 s or about 55 s, each for half of the jobs."""
    return rng.gauss(20, 1.5) if rng.random() < 0.5 else rng.gauss(55, 4)


TRACES: dict[str, Draw] = {
    "31 s": typical,
    "31 s, cold boots": cold_boots(typical),
    "61 s": scaled,
    "61 s, cold boots": cold_boots(scaled),
    "lognormal, sigma 0.1": lambda rng: rng.lognormvariate(math.log(31), 0.1),
    "lognormal, sigma 0.5": lambda rng: rng.lognormvariate(math.log(31), 0.5),
    "gamma, shape 2": lambda rng: rng.gammavariate(2, 16),
    "gamma, shape 9": lambda rng: rng.gammavariate(9, 3.5),
    "uniform, 10 to 60 s": lambda rng: rng.uniform(10, 60),
    "20 s or 55 s": two_kinds,
    "constant 30 s": lambda rng: 30.0,
    "4 s, sigma 0.3": lambda rng: rng.lognormvariate(math.log(4), 0.3),
    "300 s, sigma 0.25": lambda rng: rng.lognormvariate(math.log(300), 0.25),
}


@dataclass(frozen=True)
class Row:
    """One trace under all schedules."""

    trace: str
    optimum: Result
    learning: Result
    fixed: dict[int, Result]

    @property
    def ratio(self) -> float:
        """Return the learning schedule's cost, relative to the optimum's."""
        return self.learning.cost / self.optimum.cost


def compare(name: str, draw: Draw, seed: int = 1, jobs: int = JOBS) -> Row:
    """Return the results of all schedules on the same jobs; only the learning one sees other jobs before."""
    rng = random.Random(f"{name} {seed}")  # nosec B311 # a simulation, the same each time
    known = optimum([draw(rng) for _ in range(KNOWN_JOBS)])
    durations = [draw(rng) for _ in range(jobs)]
    learning = Learning()
    evaluate(learning, [typical(rng) for _ in range(JOBS_BEFORE)])
    return Row(
        trace=name,
        optimum=evaluate(known, durations, LEARNING_JOBS),
        learning=evaluate(learning, durations, LEARNING_JOBS),
        fixed={seconds: evaluate(Fixed(seconds), durations, LEARNING_JOBS) for seconds in FIXED},
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    head = ("trace", "optimum: polls", "cost", "learning: polls", "mean", "p50", "p95", "cost", "ratio")
    fixed = [f"every {seconds} s" for seconds in FIXED]
    return tables.table(
        "Cost of poll schedules: mean seconds from an end to its detection, and 1 s a poll (goal at 31 s: ratio 1.15)",
        (*head, *fixed),
        [
            [
                row.trace,
                f"{row.optimum.polls:.2f}",
                f"{row.optimum.cost:.2f}",
                f"{row.learning.polls:.2f}",
                *(f"{value:.2f}" for value in (row.learning.delay, row.learning.delay_p50, row.learning.delay_p95)),
                f"{row.learning.cost:.2f}",
                f"{row.ratio:.3f}",
                *(f"{row.fixed[seconds].cost:.2f}" for seconds in FIXED),
            ]
            for row in rows
        ],
    )


def draw(rows: Sequence[Row]) -> None:
    """Plot the costs, relative to the optimum's."""
    figure, (panel,) = plot(width=8, height=4.6)
    places = range(len(rows))
    panel.axvline(1, color=INK, linewidth=0.8)
    for seconds, colour in zip(FIXED, COLOURS[1:], strict=False):
        ratios = [row.fixed[seconds].cost / row.optimum.cost for row in rows]
        panel.plot(ratios, places, "o", color=colour, markersize=5, label=f"every {seconds} s")
    panel.plot([row.ratio for row in rows], places, "D", color=COLOURS[0], markersize=5, label="posedrop")
    panel.set_xscale("log")
    panel.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    panel.set_yticks(places, [row.trace for row in rows])
    panel.invert_yaxis()
    panel.set_xlabel("cost, relative to the best schedule that knows the distribution", fontsize=8)
    panel.legend(fontsize=8, frameon=False)
    save(figure, "polling")


def main() -> list[dict[str, Any]]:
    """Print the table, and return the figures."""
    rows = [compare(name, draw_one) for name, draw_one in TRACES.items()]
    print(table(rows))
    draw(rows)
    return [asdict(row) for row in rows]


if __name__ == "__main__":
    main()
