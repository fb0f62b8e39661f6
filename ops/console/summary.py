"""The state of the whole stack: backlog, limit, pause, spend, failures, and how long jobs took. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ops.console import cards
from ops.inspect.health import pause_of, rate_of
from ops.inspect.records import is_refused
from ops.inspect.situation import Situation
from ops.inspect.timeline import seconds_to_result
from posedrop.aws.record import AnyRecord, Record, Status, only_jobs
from posedrop.contract.times import epoch
from posedrop.gate.poll_schedule import Latency, next_wait

DURATIONS = 100
LATE = 0.95
"""The share of the last jobs that were found sooner than one that takes longer than usual."""


def summary(
    records: Iterable[AnyRecord], situation: Situation, queue: int = 0, counted: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What the page shows above the cards. Durations are seconds, amounts USD.

    `counted`: how many are in a state of which not all records are known. `queue`: how many messages the upload queue
    has: uploads that are to be read.
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
    limit = rate.requests_per_minute
    return {
        "backlog": states["queued"],
        "arriving": queue,
        "oldest_seconds": round(max(0.0, situation.now - min(queued)), 1) if queued else None,
        "running": states["submitting"] + states["running"] + states["delivering"],
        "waiting": states["waiting"],
        "refused": refused,
        "use": {"taken": rate.taken, "limit": limit, "percent": round(100 * rate.taken / limit, 1) if limit else 0.0},
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


def late_seconds(latency: Latency) -> float:
    """After how many seconds a job takes longer than usual: a job's end is seen at the next look only."""
    lately = sorted(latency.tenths)
    seconds = lately[min(len(lately) - 1, int(len(lately) * LATE))] / 10
    return seconds + next_wait(seconds, latency)
