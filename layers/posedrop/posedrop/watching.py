"""One turn of the wait loop: a look at the job's status, in step with the plan's limit."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.checking import JobState, check
from posedrop.errors import PosedropError
from posedrop.governor import Governor
from posedrop.pacing import Limits, Pacing
from posedrop.polling import Latency
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind

logger = Logger(child=True)

SOON = 1.0
"""Seconds. A slot that is so near is not waited for."""


class Watch:
    """Looks after jobs at the provider. `clock` is for tests."""

    def __init__(
        self,
        segmind: Segmind,
        governor: Governor,
        api_key: ApiKey,
        *,
        limits: Limits,
        timeout_seconds: float,
        typical_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._segmind = segmind
        self._governor = governor
        self._api_key = api_key
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._typical_seconds = typical_seconds
        self._clock = clock

    def look(self, state: JobState) -> JobState:
        """Ask once, and say whether the job is finished, and if not how many whole seconds to wait.

        Where polls count, the wait ends on a slot that was taken for the next call: no function waits for one.
        """
        if state.completed:
            return replace(state, finished=True, wait_seconds=state.look_wait_seconds)
        now = self._clock()
        pacing = self._read_pacing()
        deadline = state.submitted_at + self._timeout_seconds
        if pacing.paused_until > now and now < deadline:
            logger.info("no look: all calls are paused", until=pacing.paused_until)
            return self._in_step(state, pacing, min(pacing.paused_until, deadline) - now)
        looked = check(
            state,
            self._segmind,
            latency=self._latency(state),
            timeout_seconds=self._timeout_seconds,
            clock=self._clock,
            on_rate_limit=self._rate_limited,
            on_refused_key=self._api_key.renew,
        )
        if not looked.finished:
            return self._in_step(looked, pacing, looked.wait_seconds)
        looked = replace(looked, elapsed_seconds=round(self._clock() - state.submitted_at, 3))
        if looked.error:
            return looked
        waiting = self._in_step(looked, pacing, 0)
        # Fetching the result is a call too.
        if waiting.wait_seconds <= SOON:
            return looked
        return replace(waiting, finished=False, completed=True, look_wait_seconds=looked.wait_seconds)

    def _in_step(self, state: JobState, pacing: Pacing, seconds: float) -> JobState:
        """Let the state's wait of so many seconds end on a slot, if polls count."""
        now = self._clock()
        due = now + seconds
        if pacing.counts_all(self._limits, now):
            try:
                due = self._governor.take_poll(now, due)
            except (PosedropError, BotoCoreError, ClientError) as exc:
                # As in _read_pacing: rather a look too many than a job that is given up.
                logger.warning("no slot can be taken", reason=str(exc))
        return replace(state, wait_seconds=max(1, math.ceil(due - now)))

    def _read_pacing(self) -> Pacing:
        try:
            return self._governor.read()
        except (BotoCoreError, ClientError) as exc:
            # The limit is worth less than the job: a look too many is answered with a 429.
            logger.warning("the shared schedule cannot be read", reason=str(exc))
            return Pacing()

    def _rate_limited(self, retry_after: float | None) -> None:
        from posedrop import telemetry  # only where it is needed: it takes time to import

        self._governor.rate_limited(self._clock(), retry_after)
        telemetry.count("RateLimited")
        telemetry.flush()

    def _latency(self, state: JobState) -> Latency:
        if state.tenths:
            return Latency(tuple(state.tenths))
        return Latency.typical(self._typical_seconds)
