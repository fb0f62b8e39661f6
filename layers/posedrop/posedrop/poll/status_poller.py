"""Do one turn of the wait loop: poll a job's status, within the plan's request limit."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.contract.errors import PosedropError
from posedrop.contract.execution import ExecutionState
from posedrop.contract.reasons import Closed
from posedrop.gate.poll_schedule import Latency
from posedrop.gate.rate_limit import RateLimiter
from posedrop.poll.status import check
from posedrop.segmind.client import Segmind

logger = Logger(child=True)


class StatusPoller:
    """Polls jobs at the provider. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        segmind: Segmind,
        limiter: RateLimiter,
        *,
        timeout_seconds: float,
        typical_seconds: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segmind = segmind
        self._limiter = limiter
        self._timeout_seconds = timeout_seconds
        self._typical_seconds = typical_seconds
        self._clock = clock
        self._sleep = sleep

    def poll(self, state: ExecutionState) -> ExecutionState:
        """Poll once, and return the new state: either finished, or with whole seconds to wait.

        If polls count against the plan's limit, the poll waits for a permit, and so does fetching the result.
        """
        if state.completed:
            return self._let_fetch(replace(state, wait_seconds=state.poll_wait_seconds))
        began, deadline = self._clock(), state.submitted_at + self._timeout_seconds
        closed = self._wait_for_permit()
        if closed and self._clock() < deadline:
            logger.info("not polled", reason=closed.reason, until=closed.until)
            return self._wait_until(state, min(closed.until, deadline))
        waited = round(self._clock() - began)
        polled = check(
            replace(state, wait_seconds=state.wait_seconds + waited),
            self._segmind,
            latency=self._latency(state),
            timeout_seconds=self._timeout_seconds,
            clock=self._clock,
            on_rate_limit=self._rate_limited,
            on_refused_key=self._segmind.renew_key,
        )
        if not polled.finished:
            return polled
        polled = replace(polled, elapsed_seconds=round(self._clock() - state.submitted_at, 3))
        return polled if polled.error else self._let_fetch(polled)

    def _let_fetch(self, state: ExecutionState) -> ExecutionState:
        """Finish a completed job as soon as there is a permit to fetch its result."""
        closed = self._wait_for_permit()
        if closed is None:
            return replace(state, finished=True)
        waiting = replace(state, finished=False, completed=True, poll_wait_seconds=state.wait_seconds)
        return self._wait_until(waiting, closed.until)

    def _wait_for_permit(self) -> Closed | None:
        """Wait for a permit to call the provider. If that takes too long, return why, and until when."""
        try:
            permit = self._limiter.permit_poll(self._clock())
        except (PosedropError, BotoCoreError, ClientError) as exc:
            # Poll without a permit: the worst case is a 429.
            logger.warning("no permit: the limit cannot be read", reason=str(exc))
            return None
        if isinstance(permit, Closed):
            return permit
        self._sleep(max(0.0, permit.at - self._clock()))
        return None

    def _wait_until(self, state: ExecutionState, until: float) -> ExecutionState:
        return replace(state, wait_seconds=max(1, math.ceil(until - self._clock())))

    def _rate_limited(self, retry_after: float | None) -> None:
        from posedrop.aws import metrics as telemetry  # imported only when needed, because the import is slow

        self._limiter.pause(self._clock(), retry_after)
        telemetry.count("RateLimited")
        telemetry.flush()

    def _latency(self, state: ExecutionState) -> Latency:
        if state.tenths:
            return Latency(tuple(state.tenths))
        return Latency.typical(self._typical_seconds)
