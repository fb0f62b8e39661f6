"""One look at a job's status, and what the state machine does next."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.errors import InferenceFailed, JobError, PosedropError, ResultExpired, StatusUnavailable, TimedOut
from posedrop.polling import Latency, next_wait
from posedrop.segmind import COMPLETED, FAILED, Segmind

logger = Logger(child=True)

LONGEST_WAIT = 60
NOT_FOUND_APART = 30.0
"""A 404 or 410 counts as the end once it is seen twice, so many seconds apart..."""
NOT_FOUND_AFTER = 60.0
"""...and so many seconds after the submission: a fresh request may not be known everywhere yet."""


@dataclass(frozen=True)
class JobState:
    """What an execution knows of its job. Times are seconds since the epoch.

    faults: GETs without an answer, in a row; not_found_at: when the provider first did not know the request id;
    tenths: the latency as it was when the job was submitted; completed: only a slot for the result is waited for;
    look_wait_seconds: the wait before the look that found that; elapsed_seconds: how long after the submission the end
    was seen; cost_usd: what a failed job cost, where the provider says it.
    """

    job_id: str
    attempt: int
    character: str
    pose: str
    request_id: str
    submitted_at: float
    polls: int
    wait_seconds: int = 1
    finished: bool = False
    faults: int = 0
    not_found_at: float | None = None
    error: dict[str, str] | None = None
    tenths: tuple[int, ...] = ()
    completed: bool = False
    look_wait_seconds: int = 1
    elapsed_seconds: float | None = None
    cost_usd: float | None = None

    @classmethod
    def of(cls, event: dict[str, Any]) -> Self:
        """The state in a handler's event."""
        return cls(**{key: event[key] for key in cls.__dataclass_fields__ if key in event})

    def to_dict(self) -> dict[str, Any]:
        """The state as the state machine carries it on."""
        return asdict(self)


def check(
    state: JobState,
    segmind: Segmind,
    *,
    latency: Latency,
    timeout_seconds: float,
    clock: Callable[[], float],
    on_rate_limit: Callable[[float | None], object],
    on_refused_key: Callable[[], object],
) -> JobState:
    """Ask once, and say whether the job is finished, and if not how many whole seconds to wait.

    An error of the GET is not the job's end before `timeout_seconds` after its submission. `on_rate_limit` is called
    after a 429 with the seconds of its Retry-After or None, `on_refused_key` after a 401; what they raise is logged.
    """
    asked = replace(state, polls=state.polls + 1)
    try:
        answer = segmind.status(state.request_id)
    except StatusUnavailable as exc:
        logger.warning("no status", reason=str(exc), status=exc.status)
        try:
            if exc.status == 429:
                on_rate_limit(exc.retry_after)
            elif exc.status == 401:
                on_refused_key()
        except (PosedropError, BotoCoreError, ClientError) as fault:
            logger.warning("the answer could not be passed on", reason=str(fault))
        return _without_status(asked, exc, latency, timeout_seconds, clock())
    if answer.state == COMPLETED:
        return replace(asked, finished=True, faults=0)
    if answer.state == FAILED:
        failed = replace(asked, cost_usd=answer.cost_usd)
        return _ended(failed, InferenceFailed(answer.error or "the provider gave no reason"))
    if answer.state not in ("QUEUED", "PROCESSING"):
        logger.warning("unknown state", state=answer.state)
    known = replace(asked, faults=0, not_found_at=None)
    return _wait(known, next_wait(clock() - state.submitted_at, latency), timeout_seconds, clock())


def _without_status(
    state: JobState, exc: StatusUnavailable, latency: Latency, timeout_seconds: float, now: float
) -> JobState:
    faulty = replace(state, faults=state.faults + 1)
    if exc.gone:
        first = now if state.not_found_at is None else state.not_found_at
        if expired(first, now, state.submitted_at):
            return _ended(state, ResultExpired("the provider does not know the request id, or no longer"))
        faulty = replace(faulty, not_found_at=first)
        wanted = max(NOT_FOUND_APART - (now - first), NOT_FOUND_AFTER - (now - state.submitted_at), 1)
        return _wait(faulty, min(wanted + 1, NOT_FOUND_APART + 1), timeout_seconds, now)
    # Longer with each fault, and never shorter than the provider asks for.
    seconds = max(next_wait(now - state.submitted_at, latency), min(2**faulty.faults, LONGEST_WAIT))
    return _wait(faulty, max(seconds, exc.retry_after or 0), timeout_seconds, now)


def expired(first: float, now: float, submitted_at: float) -> bool:
    """Whether a 404 or 410, first seen at `first` and again `now`, means that the result is gone. Pure."""
    return now - first >= NOT_FOUND_APART and now - submitted_at >= NOT_FOUND_AFTER


def _wait(state: JobState, seconds: float, timeout_seconds: float, now: float) -> JobState:
    left = state.submitted_at + timeout_seconds - now
    if left <= 0:
        return _ended(state, TimedOut(f"the job did not end within {timeout_seconds:g} s after its submission"))
    # Step Functions waits whole seconds.
    return replace(state, wait_seconds=max(1, math.ceil(min(seconds, left))))


def _ended(state: JobState, error: JobError) -> JobState:
    return replace(state, finished=True, error={"type": error.type, "message": str(error)})
