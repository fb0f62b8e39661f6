"""Simulate backlogs of any length: python -m bench backlog; or python -m bench.backlog --all, to the end of each.

A discrete-event simulation (bench/simulation/) runs the project's own gate, line, dispatch, entrance, submission and
ledger on DynamoDB, SQS and Lambda as documented. Without --all only a part of a backlog is simulated, because one hour
of it is like the next. The same seed gives the same figures.
"""

import argparse
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.simulation.functions import MINUTE
from bench.simulation.money import cost
from bench.simulation.outside import Setting
from bench.simulation.stack import Stack
from bench.tables import table
from posedrop.gate.rate_limit import CALLS_A_JOB

LIMITS = (5, 50, 600, 6000)
BACKLOGS = (1_000, 10_000, 100_000, 300_000)
WATCHED = {5: 200, 50: 1_000, 600: 3_000, 6000: 10_000}
"""The jobs of a backlog that are sent in the simulation, by the limit."""
CONCURRENCY = {6000: 150}
"""SubmitConcurrency for the limits for which the template's default is too small."""
SLOW = ((600, 10, 0.3), (600, 10, 0.9), (600, 20, 1.5), (6000, 150, 1.0))
"""Limits, SubmitConcurrency, and other medians (seconds) of the provider's response to a submit."""
UPLOADED = 50
"""The jobs that arrive while the others wait, to measure the cost of a job's entrance."""
LARGE, SMALL = "large/hero", "small-{}/hero"
WARM_UP, TOO_SHORT = MINUTE, 1.5 * MINUTE
HOUR, TEN_MINUTES = 60 * MINUTE, 10 * MINUTE
GOALS = (
    "use 0.93, 0.95 at 50 with 100,000 and 300,000 waiting; receives 1.1; submit 2 s; 0.42 USD; after a pause 0.93, in "
    "order; a small client 120 s"
)
HEAD = (
    *("jobs", "limit", "counts", "fns", "POST s", "sent", "min", "use", "receives", "submit s", "intake s", "writes"),
    *("refused", "units w", "units r", "USD", "off turn", "429", "dispatch s"),
)


@dataclass(frozen=True)
class Measured:
    """The results of a run; per job, unless noted otherwise.

    use: of the limit, by the calls that count. It and `minutes` begin WARM_UP after the first request, or, in a run
    that ends before TOO_SHORT, at the first request (`whole`). writes, refused: of DynamoDB; `refused` are those whose
    condition failed. off_turn: the most places by which a job was sent before or after its turn. limited: 429s.
    dispatch_seconds: of the longest run.
    """

    setting: Setting
    jobs: int
    concurrency: int
    sent: int
    minutes: float
    use: float
    whole: bool
    receives: float
    submit_seconds: float
    intake_seconds: float
    writes: float
    refused: float
    write_units: float
    read_units: float
    usd: dict[str, float]
    off_turn: int
    limited: int
    dispatch_seconds: float


# ---- one backlog -----------------------------------------------------------------------------------------------------


def watch(setting: Setting, jobs: int, most: float) -> Measured:
    """Let a number of jobs wait, and simulate until `most` of them are sent, or all."""
    with closing(Stack(setting)) as stack:
        stack.let_wait(LARGE, jobs - UPLOADED)
        stack.upload(LARGE, UPLOADED)
        return _to_the_end(stack, most)


def burst(setting: Setting, jobs: int) -> Measured:
    """Upload a number of poses at once to a stack without waiting jobs."""
    with closing(Stack(setting)) as stack:
        stack.upload(LARGE, jobs)
        return _to_the_end(stack, jobs)


def _to_the_end(stack: Stack, most: float) -> Measured:
    while stack.waiting and len(stack.provider.posted) < most:
        stack.run(MINUTE)
    if stack.waiting:
        return measure(stack, stack.simulation.now)
    ended = stack.provider.posted[-1][0]
    stack.run(TEN_MINUTES)  # the last ones are delivered
    return measure(stack, ended)


def measure(stack: Stack, ended: float) -> Measured:
    """Measure a run in which requests were possible until `ended` (seconds since the epoch)."""
    times = stack.provider.counted
    whole = ended < times[0] + TOO_SHORT
    begin = times[0] + (0 if whole else WARM_UP)
    sent = len(stack.provider.posted)
    meters = [(meter, stack.jobs_of(name)) for name, meter in stack.meters.items()]
    return Measured(
        setting=stack.setting,
        jobs=len(stack.jobs),
        concurrency=stack.concurrency,
        sent=sent,
        minutes=(ended - begin) / MINUTE,
        use=use(times, stack.setting.requests_per_minute, begin, ended),
        whole=whole,
        receives=stack.submit_queue.use.receives / sent,
        submit_seconds=stack.functions["submit"].use.seconds / sent,
        intake_seconds=stack.functions["intake"].use.seconds / stack.jobs_of("intake"),
        writes=sum(meter.writes / jobs for meter, jobs in meters),
        refused=sum(meter.refused.total() / jobs for meter, jobs in meters),
        write_units=sum(meter.write_units / jobs for meter, jobs in meters),
        read_units=sum(meter.read_units / jobs for meter, jobs in meters),
        usd=cost(stack),
        off_turn=off_turn(stack.numbers_sent()),
        limited=stack.provider.limited,
        dispatch_seconds=max(stack.dispatch_seconds, default=0.0),
    )


def use(times: Sequence[float], limit: float, begin: float, ended: float) -> float:
    """Return the share of the limit (requests a minute) that requests at these times used between two times."""
    number = bisect_right(times, ended) - bisect_left(times, begin)
    return number / (limit * (ended - begin) / MINUTE) if ended > begin else 0.0


def off_turn(numbers: Sequence[int]) -> int:
    """Return the most places by which a job was sent off its turn, from the jobs' numbers in the order of sending."""
    turns = {number: turn for turn, number in enumerate(sorted(numbers))}
    return max((abs(place - turns[number]) for place, number in enumerate(numbers)), default=0)


# ---- other events ----------------------------------------------------------------------------------------------------


def pause(jobs: int = 10_000, limit: int = 50) -> dict[str, Any]:
    """Let the breaker pause a backlog for an hour; measure the ten minutes after it."""
    with closing(Stack(setting(limit, account_pause_seconds=HOUR))) as stack:
        stack.let_wait(LARGE, jobs)
        stack.run(TEN_MINUTES)
        stack.provider.refuses_key = True
        stack.run(TEN_MINUTES)
        stack.provider.refuses_key = False
        breaker, before = stack.gate().breaker, len(stack.provider.posted)
        opens = breaker.open_until
        stack.run(opens + TEN_MINUTES - stack.simulation.now)
        times = [at for at, _ in stack.provider.posted[before:]]
        return {
            "jobs": jobs,
            "a minute": limit,
            "pause, minutes": round((opens - breaker.opened_at) / MINUTE, 1),
            "requests refused before it": stack.provider.refused,
            "first request after it, s": round(times[0] - opens, 1),
            "use of the next ten minutes": round(use(times, limit, opens, opens + TEN_MINUTES), 3),
            "jobs off their turn by at most": off_turn(stack.numbers_sent()),
            "receives a job": round(stack.submit_queue.use.receives / len(stack.provider.posted), 3),
        }


def budget(jobs: int = 3_000, limit: int = 50, usd: float = 30.0) -> dict[str, Any]:
    """Let a budget stop the jobs, raise it half an hour before midnight, and measure the beginning of the next day."""
    with closing(Stack(setting(limit, daily_budget=usd, begin=22 * HOUR))) as stack:
        began, raised, midnight = (stack.simulation.now + hours * HOUR for hours in (0, 1.5, 2))
        stack.let_wait(LARGE, jobs)
        stack.run(raised - began)
        spent, before = stack.gate().spending.day, len(stack.provider.posted)
        stack.deploy(replace(stack.setting, daily_budget=1.5 * usd))
        stack.run(midnight - raised - 1)
        spent_by_midnight = stack.gate().spending.day
        stack.run(TEN_MINUTES + 1)
        times = [at for at, _ in stack.provider.posted]
        return {
            "jobs": jobs,
            "a minute": limit,
            "DailyBudget, USD": usd,
            "spent of it, USD": round(spent, 2),
            "last request after, min": round((times[before - 1] - began) / MINUTE, 1),
            "budget raised by half: next request after, s": round(times[before] - raised, 1),
            "spent by midnight, USD": round(spent_by_midnight, 2),
            "use of the ten minutes after midnight": round(use(times, limit, midnight, midnight + TEN_MINUTES), 3),
            "jobs off their turn by at most": off_turn(stack.numbers_sent()),
            "receives a job": round(stack.submit_queue.use.receives / len(times), 3),
        }


def clients(jobs: int = 2_000, others: int = 6) -> dict[str, Any]:
    """Let single jobs of other clients arrive while one client's jobs wait, at different seconds of a minute."""
    with closing(Stack(setting(50))) as stack:
        stack.let_wait(LARGE, jobs)
        stack.run(2 * MINUTE)
        names = []
        for number in range(others):
            names += stack.upload(SMALL.format(number), 1)
            stack.run(MINUTE + MINUTE / others)
        stack.run(3 * MINUTE)
        sent = {name: at for at, name in stack.provider.posted}
        delays = [sent[name] - stack.jobs[name].since for name in names]
        return {
            "jobs of the large client": jobs,
            "a minute": 50,
            "jobs of others, one each": others,
            "from upload to request, s: longest": round(max(delays), 1),
            "mean": round(sum(delays) / others, 1),
        }


# ---- the tables ------------------------------------------------------------------------------------------------------


def row(found: Measured) -> list[str]:
    """Return a run's row of the table."""
    return [
        f"{found.jobs:,}",
        f"{found.setting.requests_per_minute:,.0f}",
        found.setting.counts,
        f"{found.concurrency}",
        f"{found.setting.post_seconds}",
        f"{found.sent:,}",
        f"{found.minutes:.1f}",
        f"{found.use:.3f}" + ("*" if found.whole else ""),
        f"{found.receives:.3f}",
        f"{found.submit_seconds:.2f}",
        f"{found.intake_seconds:.2f}",
        f"{found.writes:.1f}",
        f"{found.refused:.2f}",
        f"{found.write_units:.1f}",
        f"{found.read_units:.1f}",
        f"{sum(found.usd.values()):.3f}",
        f"{found.off_turn}",
        f"{found.limited}",
        f"{found.dispatch_seconds:.1f}",
    ]


def setting(limit: int, **changes: Any) -> Setting:
    """Return the parameters of a stack for a plan, as the template recommends."""
    return Setting(requests_per_minute=limit, **{"submit_concurrency": CONCURRENCY.get(limit), **changes})


def runs(*, drain: bool) -> dict[str, Iterator[Measured]]:
    """Return the measurements, by their titles."""
    return {
        f"Jobs that wait already (goals: {GOALS})": (
            watch(setting(limit), jobs, jobs if drain else WATCHED[limit]) for limit in LIMITS for jobs in BACKLOGS
        ),
        "The same if a submit takes less or more time at the provider": (
            watch(setting(limit, submit_concurrency=functions, post_seconds=post), 10_000, WATCHED[limit])
            for limit, functions, post in SLOW
        ),
        "The same if polls count too": (
            watch(setting(limit, counts="all"), 10_000, WATCHED[limit] / CALLS_A_JOB) for limit in (5, 50, 600)
        ),
        "Jobs that are uploaded at once": (
            burst(setting(limit), jobs) for limit, jobs in ((50, 1_000), (600, 3_000), (6000, 3_000))
        ),
    }


def main(*, drain: bool = False) -> dict[str, Any]:
    """Print the tables, and return the figures. `drain`: simulate each backlog to its end, which takes hours."""
    figures: dict[str, Any] = {}
    for title, measured in runs(drain=drain).items():
        found = list(measured)
        print(table(title, HEAD, [row(run) for run in found]), flush=True)
        print()
        figures[title] = [asdict(run) for run in found]
    print("* of the whole run, which ends before its second minute. limit: requests a minute; counts: which calls;")
    print("fns: SubmitConcurrency; POST s: the median; USD: per 1,000 jobs; receives to units r: per job.")
    for title, scenario in (
        ("A pause of an hour", pause),
        ("A budget that stops the jobs", budget),
        ("A small client behind a large one", clients),
    ):
        figures[title] = scenario()
        print()
        print(table(title, ("", ""), list(figures[title].items())), flush=True)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.backlog")
    parser.add_argument("--all", action="store_true", dest="drain", help="simulate each backlog to its end")
    main(**vars(parser.parse_args()))
