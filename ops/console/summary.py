"""The state of the whole stack: backlog, limit, pause, spend, failures, and how long jobs took. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ops.console import cards
from ops.inspect.health import Rate, pause_of, rate_of
from ops.inspect.records import is_refused
from ops.inspect.situation import Situation
from ops.inspect.timeline import seconds_to_result
from posedrop.aws.record import AnyRecord, Record, Status, only_jobs
from posedrop.contract.times import epoch
from posedrop.gate.poll_schedule import Latency, next_wait

DURATIONS = 100
"""How many of the last jobs' durations the page shows."""
LATE = 0.95
"""A job is late if it takes longer than this share of the last jobs."""


def summary(
    records: Iterable[AnyRecord], situation: Situation, queue: int = 0, counted: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return what the page shows above the cards. Durations are in seconds, amounts in USD.

    `queue` is the number of messages on the upload queue: uploads that `intake` has not read. `counted` has the number
    of jobs in each state that was not read completely.
    """
    every = list(records)
    states = Counter(map(cards.state, every))
    failures: Counter[str] = Counter()
    queued: list[float] = []
    refused = 0
    done: list[Record] = []
    for record in only_jobs(every):
        refused += is_refused(record)
        if record.error:
            failures[record.error["type"]] += 1
        if record.status is Status.QUEUED:
            queued.append(record.queued_at)
        if record.status is Status.SUCCEEDED and record.attempt == 1 and record.completed_at and record.created_at:
            done.append(record)
    states.update({state: max(0, count - states[state]) for state, count in (counted or {}).items()})
    gate, opening, now = situation.gate, situation.opening, situation.now
    rate, pause = rate_of(gate, opening, situation.limit, now), pause_of(gate.breaker, opening, now)
    newest = heapq.nlargest(DURATIONS, done, key=lambda record: record.completed_at or 0.0)
    paused = None
    if pause:
        seconds = round(max(0.0, epoch(pause.until) - situation.now), 1)
        paused = {"reason": pause.reason, "seconds": seconds, "step": pause.next_step, "account": bool(pause.cause)}
    return {
        "backlog": states["queued"],
        "arriving": queue,
        "oldest_seconds": round(max(0.0, situation.now - min(queued)), 1) if queued else None,
        "running": states["submitting"] + states["running"] + states["delivering"],
        "waiting": states["waiting"],
        "refused": refused,
        "use": _use(rate),
        "pause": paused,
        "typical_seconds": situation.typical_seconds,
        "late_seconds": late_seconds(situation.latency),
        "spend_today_usd": round(gate.spending.day, 4),
        "spend_month_usd": round(gate.spending.month, 4),
        "credits": asdict(situation.credits) if situation.credits else None,
        "done": states["done"],
        "failed": states["failed"],
        "failures": [{"type": kind, "count": count} for kind, count in failures.most_common()],
        "durations": [seconds_to_result(record) for record in reversed(newest)],
    }


def _use(rate: Rate) -> dict[str, float]:
    """Return the use of the rate limit in the coming minute: the reserved calls, the limit, and the percentage."""
    limit = rate.requests_per_minute
    percent = round(100 * rate.taken / limit, 1) if limit else 0.0
    return {"taken": rate.taken, "limit": limit, "percent": percent}


def late_seconds(latency: Latency) -> float:
    """Return after how many seconds a job is late. One wait is added, because only a poll discovers a job's end."""
    lately = sorted(latency.tenths)
    seconds = lately[min(len(lately) - 1, int(len(lately) * LATE))] / 10
    return seconds + next_wait(seconds, latency)
