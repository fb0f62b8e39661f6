"""One turn of the wait loop: a poll of the job's status, within the plan's limit."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.api_key import ApiKey
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
        api_key: ApiKey,
        *,
        timeout_seconds: float,
        typical_seconds: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segmind = segmind
        self._limiter = limiter
        self._api_key = api_key
        self._timeout_seconds = timeout_seconds
        self._typical_seconds = typical_seconds
        self._clock = clock
        self._sleep = sleep

    def look(self, state: ExecutionState) -> ExecutionState:
        """Poll once, and say whether the job is finished, and if not how many whole seconds to wait.

        Where polls count, each waits for its permit, and so does the fetching of the result.
        """
        if state.completed:
            return self._let_fetch(replace(state, wait_seconds=state.poll_wait_seconds))
        began, deadline = self._clock(), state.submitted_at + self._timeout_seconds
        closed = self._wait_for_permit()
        if closed and self._clock() < deadline:
            logger.info("not polled", reason=closed.reason, until=closed.until)
            return self._wait_until(state, min(closed.until, deadline))
        waited = round(self._clock() - began)
        looked = check(
            replace(state, wait_seconds=state.wait_seconds + waited),
            self._segmind,
            latency=self._latency(state),
            timeout_seconds=self._timeout_seconds,
            clock=self._clock,
            on_rate_limit=self._rate_limited,
            on_refused_key=self._api_key.renew,
        )
        if not looked.finished:
            return looked
        looked = replace(looked, elapsed_seconds=round(self._clock() - state.submitted_at, 3))
        return looked if looked.error else self._let_fetch(looked)

    def _let_fetch(self, state: ExecutionState) -> ExecutionState:
        """Finish a completed job once its result may be fetched: that is a call too."""
        closed = self._wait_for_permit()
        if closed is None:
            return replace(state, finished=True)
        waiting = replace(state, finished=False, completed=True, poll_wait_seconds=state.wait_seconds)
        return self._wait_until(waiting, closed.until)

    def _wait_for_permit(self) -> Closed | None:
        """Wait until a call may be made, or return why that is too far away."""
        try:
            taken = self._limiter.permit_poll(self._clock())
        except (PosedropError, BotoCoreError, ClientError) as exc:
            # The limit is worth less than the job: a call too many is answered with a 429.
            logger.warning("no permit can be taken", reason=str(exc))
            return None
        if isinstance(taken, Closed):
            return taken
        self._sleep(max(0.0, taken.at - self._clock()))
        return None

    def _wait_until(self, state: ExecutionState, until: float) -> ExecutionState:
        return replace(state, wait_seconds=max(1, math.ceil(until - self._clock())))

    def _rate_limited(self, retry_after: float | None) -> None:
        from posedrop.aws import metrics as telemetry  # only where it is needed: it takes time to import

        self._limiter.pause(self._clock(), retry_after)
        telemetry.count("RateLimited")
        telemetry.flush()

    def _latency(self, state: ExecutionState) -> Latency:
        if state.tenths:
            return Latency(tuple(state.tenths))
        return Latency.typical(self._typical_seconds)
