"""Poll a job's status once, and decide what the state machine does next."""

import math
from collections.abc import Callable
from dataclasses import replace

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.contract.errors import (
    InferenceFailed,
    JobError,
    PosedropError,
    ResultExpired,
    StatusUnavailable,
    TimedOut,
)
from posedrop.contract.execution import ExecutionState
from posedrop.gate.poll_schedule import Latency, next_wait
from posedrop.segmind.client import COMPLETED, FAILED, Segmind
from posedrop.segmind.responses import NOT_FOUND_AFTER, NOT_FOUND_APART, result_gone

logger = Logger(child=True)

LONGEST_WAIT = 60


def check(
    state: ExecutionState,
    segmind: Segmind,
    *,
    latency: Latency,
    timeout_seconds: float,
    clock: Callable[[], float],
    on_rate_limit: Callable[[float | None], object],
    on_refused_key: Callable[[], object],
) -> ExecutionState:
    """Poll once, and return the new state: finished, or with the whole seconds until the next poll.

    A failed GET does not end the job until `timeout_seconds` after its submission. `on_rate_limit` is called after a
    429 with the seconds of its Retry-After or None, `on_refused_key` after a 401. Their errors are logged.
    """
    polled = replace(state, polls=state.polls + 1)
    try:
        response = segmind.status(state.request_id or "")
    except StatusUnavailable as exc:
        logger.warning("no status", reason=str(exc), status=exc.status)
        try:
            if exc.status == 429:
                on_rate_limit(exc.retry_after)
            elif exc.status == 401:
                on_refused_key()
        except (PosedropError, BotoCoreError, ClientError) as fault:
            logger.warning("the pause or the new key was not recorded", reason=str(fault))
        return _without_status(polled, exc, latency, timeout_seconds, clock())
    if response.state == COMPLETED:
        return replace(polled, finished=True, faults=0)
    if response.state == FAILED:
        failed = replace(polled, cost_usd=response.cost_usd)
        return _ended(failed, InferenceFailed(response.error or "the provider gave no reason"))
    if response.state not in ("QUEUED", "PROCESSING"):
        logger.warning("unknown state", state=response.state)
    known = replace(polled, faults=0, not_found_at=None)
    return _wait(known, next_wait(clock() - state.submitted_at, latency), timeout_seconds, clock())


def _without_status(
    state: ExecutionState, exc: StatusUnavailable, latency: Latency, timeout_seconds: float, now: float
) -> ExecutionState:
    faulty = replace(state, faults=state.faults + 1)
    if exc.gone:
        first = now if state.not_found_at is None else state.not_found_at
        if result_gone(first, now, state.submitted_at):
            return _ended(state, ResultExpired("the provider does not know the request id"))
        faulty = replace(faulty, not_found_at=first)
        wanted = max(NOT_FOUND_APART - (now - first), NOT_FOUND_AFTER - (now - state.submitted_at), 1)
        return _wait(faulty, min(wanted + 1, NOT_FOUND_APART + 1), timeout_seconds, now)
    # The wait grows with each fault, and is never shorter than the provider asks for.
    seconds = max(next_wait(now - state.submitted_at, latency), min(2**faulty.faults, LONGEST_WAIT))
    return _wait(faulty, max(seconds, exc.retry_after or 0), timeout_seconds, now)


def _wait(state: ExecutionState, seconds: float, timeout_seconds: float, now: float) -> ExecutionState:
    left = state.submitted_at + timeout_seconds - now
    if left <= 0:
        return _ended(state, TimedOut(f"the job did not end within {timeout_seconds:g} s after its submission"))
    # Step Functions waits for whole seconds only.
    return replace(state, wait_seconds=max(1, math.ceil(min(seconds, left))))


def _ended(state: ExecutionState, error: JobError) -> ExecutionState:
    return replace(state, finished=True, error={"type": error.type, "message": str(error)})
