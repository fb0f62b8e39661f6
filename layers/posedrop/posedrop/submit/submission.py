"""From a job in the ledger to its request at the provider and its execution: the ledger's order, step by step."""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.api_key import ApiKey
from posedrop.aws.errors import is_transient
from posedrop.aws.executions import Executions
from posedrop.aws.inbox import backoff
from posedrop.aws.ledger import UNEXPECTED_ERRORS, Ledger
from posedrop.aws.messages import SubmitMessage
from posedrop.aws.prepared_pictures import PreparedPictures
from posedrop.aws.record import Record, Status
from posedrop.aws.record_table import Conflict
from posedrop.aws.stored_uploads import UploadChanged
from posedrop.contract.deferral import Deferred
from posedrop.contract.errors import (
    InternalError,
    InvalidInput,
    JobError,
    PosedropError,
    Rejected,
    SubmitOutcomeUnknown,
)
from posedrop.contract.prepared import Prepared
from posedrop.contract.reasons import AT_THE_GATE, Closed, InputFault, Problem, ReasonCode
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.gate.latency import LatencyStore
from posedrop.segmind.client import GET_TIMEOUTS, Segmind, Timeouts
from posedrop.segmind.requests import Fate
from posedrop.settings import SubmitSettings
from posedrop.submit.lookup import DAY, LOOKUP_SECONDS, RequestLookup
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.request_body import RequestBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

LONGEST_REQUEST = 36.0
"""Seconds for a request, and at most half of the function's time."""
MARGIN = 1.0
"""Seconds that are left for the ledger and the execution after the request."""
LONG_SLEEP = 1.0
"""Seconds of waiting for a permit after which it is checked whether the gate has closed meanwhile."""
SHORT_WAIT = 60.0
"""Seconds for which a job keeps its message; after a longer wait it is dispatched again."""
MOST_FAULTS = 8
"""So many requests of an attempt that were answered 5xx end it."""
MOST_UNRESOLVED = 3
"""So many requests of an attempt may be sent again although the history could not say."""


class Submission:
    """Resumes jobs from where the ledger says they are. `clock` and `sleep` are for tests.

    `account`: what is left on it is asked for after a request, now and then; None never asks.
    """

    def __init__(
        self,
        settings: SubmitSettings,
        *,
        s3: "S3Client",
        ledger: Ledger,
        gate: Gate,
        segmind: Segmind,
        lookup: RequestLookup,
        api_key: ApiKey,
        executions: Executions,
        latency: LatencyStore,
        pictures: PreparedPictures,
        wake_dispatch: Callable[[], None],
        account: CreditsStore | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._gate = gate
        self._segmind = segmind
        self._lookup = lookup
        self._api_key = api_key
        self._wake_dispatch = wake_dispatch
        self._account = account
        self._clock = clock
        self._sleep = sleep
        self._body = RequestBody(settings, s3, pictures, clock)
        self._outcomes = Outcomes(
            ledger=ledger,
            gate=gate,
            lookup=lookup,
            api_key=api_key,
            executions=executions,
            latency=latency,
            pause_seconds=settings.account_pause_seconds,
            wake_dispatch=wake_dispatch,
            clock=clock,
        )
        self._timeouts = Timeouts.within(min(LONGEST_REQUEST, settings.submit_timeout_seconds / 2))

    def advance(
        self, record: Record, message: SubmitMessage, receive_count: int, remaining: Callable[[], float]
    ) -> None:
        """Do what the record's status asks for next, if the message counts.

        `receive_count` is how often the message was received, `remaining` gives the function's seconds left. Raises
        Deferred if the message must be redelivered. The fifth unexpected error in a row ends the job.
        """
        queued = record.status is Status.QUEUED
        if message.number != record.dispatch_number and (queued or message.number):
            logger.info("the job was dispatched again, or put back in line", number=message.number)
            return
        try:
            self._advance(record, message, remaining)
        except Deferred as exc:
            if not queued or not self._put_back(record, exc, probe=message.probe):
                raise
        except Conflict as exc:
            raise Deferred(ReasonCode.BUSY, "another function went ahead with the job", 5) from exc
        except Exception as exc:
            if is_transient(exc):
                reason = f"AWS could not answer just now: {type(exc).__name__}: {exc}"
                raise Deferred(ReasonCode.AWS, reason, backoff(receive_count)) from exc
            if not isinstance(exc, PosedropError):
                self._count(record, exc)
            raise

    def _advance(self, record: Record, message: SubmitMessage, remaining: Callable[[], float]) -> None:
        if record.status is Status.QUEUED:
            if not self._send(record, remaining, probe=message.probe) and message.probe:
                self._outcomes.leave_probe()
                self._wake_dispatch()
        elif record.status is Status.SUBMITTING:
            self._resolve_claim(record, remaining)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started: its name makes starting it again harmless.
            logger.info("in progress, or not notified yet", status=record.status)
            self._outcomes.start_again(record)

    def _put_back(self, record: Record, deferred: Deferred, *, probe: bool) -> bool:
        """Write down why a queued job waits; return whether its message is done, because it is dispatched again.

        The place of a probe that waits is for another job.
        """
        now = self._clock()
        at_the_gate = deferred.code in AT_THE_GATE
        dispatched_again = at_the_gate or deferred.seconds > SHORT_WAIT or probe
        try:
            if dispatched_again:
                self._ledger.put_back(record, deferred.code, str(deferred), now + deferred.seconds, now)
            elif deferred.code is not ReasonCode.BUSY:
                self._ledger.defer(record, deferred.code, str(deferred), now + deferred.seconds, now)
        except Conflict:
            return False  # it is not queued as it was
        logger.info("put back", reason=str(deferred), code=deferred.code, seconds=deferred.seconds)
        if probe:
            self._outcomes.leave_probe()
            if not at_the_gate:  # which would put back the next probe too
                self._wake_dispatch()
        return dispatched_again

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _send(self, record: Record, remaining: Callable[[], float], *, probe: bool) -> bool:
        """Send a queued job; return False if it went on or ended without a request."""
        try:
            record = self._lookup.resolve(record, remaining)
        except SubmitOutcomeUnknown as exc:
            self._outcomes.fail(record, exc)
            return False
        if record.status is Status.SUBMITTED:
            self._outcomes.start_wait_loop(record)
            return False
        if error := self._too_many_faults(record):
            self._outcomes.fail(record, error)
            return False
        try:
            prepared = self._body.prepare(record, remaining)
        except InvalidInput as exc:
            self._outcomes.fail(record, exc)
            return False
        except UploadChanged as exc:
            self._outcomes.fail(record, _gone(exc))
            return False
        needed = self._timeouts.total + MARGIN
        if remaining() < needed + LONG_SLEEP:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        self._wait_for_permit(remaining() - needed, probe=probe)
        try:
            body = self._body.make(record, prepared)
        except UploadChanged as exc:
            self._outcomes.fail(record, _gone(exc))
            return False
        if probe:
            self._api_key.renew()  # perhaps there is a new one
        if remaining() < needed:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        claimed = self._claim(record, prepared)
        self._outcomes.write(claimed, lambda: self._segmind.submit(body, self._timeouts))
        self._refresh_credits(remaining)
        return True

    def _refresh_credits(self, remaining: Callable[[], float]) -> None:
        """Ask for the credits that are left, now and then and if there is time."""
        if self._account and remaining() > GET_TIMEOUTS.total + MARGIN:
            self._account.refresh(self._segmind, self._gate.limiter.pause)

    def _wait_for_permit(self, wait: float, *, probe: bool) -> None:
        while True:
            now = self._clock()
            taken = self._gate.permit(now, wait, probe=probe)
            if isinstance(taken, Closed):
                raise Deferred(taken.code, taken.reason, taken.until - now)
            seconds = max(0.0, taken.at - self._clock())
            self._sleep(seconds)
            wait -= seconds
            if seconds < LONG_SLEEP or not self._gate.has_closed(self._clock()):
                return

    def _claim(self, record: Record, prepared: Mapping[str, Prepared]) -> Record:
        """Charge the budget and claim the job, and write down what was prepared for it."""
        now = self._clock()
        charge = self._gate.budgets.charge(now, record.parameters)
        if isinstance(charge, Closed):
            raise Deferred(charge.code, charge.reason, charge.until - now)
        try:
            summary = {name: picture.summary() for name, picture in prepared.items()}
            return self._ledger.claim(record, uuid.uuid4().hex, charge.usd, now, summary)
        except Conflict:
            self._gate.budgets.give_back(charge)
            raise

    def _too_many_faults(self, record: Record) -> JobError | None:
        """The error of an attempt that was answered 5xx too often, for too long, or too often without the history."""
        faults = record.sent_in_attempt
        unresolved = sum(request.fate is Fate.UNRESOLVED for request in faults)
        old = bool(faults) and self._clock() - faults[0].sent_at >= DAY
        if len(faults) < MOST_FAULTS and unresolved <= MOST_UNRESOLVED and not old:
            return None
        text = f"the provider failed {len(faults)} times: {record.reason or 'no reason'}"
        if unresolved:
            return SubmitOutcomeUnknown(f"{text}; its history could not say of {unresolved} whether they were accepted")
        return Rejected(f"{text}; its history has none of these requests")

    def _count(self, record: Record, exc: Exception) -> None:
        text = f"unexpected error: {type(exc).__name__}: {exc}"
        current = self._ledger.get(record.job_id)
        if current is None or current.ended or current.attempt != record.attempt:
            return
        counted = self._ledger.count_error(current, text, self._clock())
        if counted.errors >= UNEXPECTED_ERRORS and counted.status is Status.QUEUED:
            logger.exception("the last unexpected error: the job ends")
            self._outcomes.fail(
                counted, InternalError(f"{counted.errors} unexpected errors, the last: {type(exc).__name__}: {exc}")
            )

    def _resolve_claim(self, record: Record, remaining: Callable[[], float]) -> None:
        """Resume a job that was claimed: its function has died, or no usable response came."""
        error = SubmitOutcomeUnknown(record.reason or "the function ended while it submitted the job")
        if record.claimed.fate is not Fate.UNKNOWN:
            left = record.claimed.sent_at + self._settings.submit_timeout_seconds - self._clock()
            if left >= 0:
                raise Deferred(ReasonCode.BUSY, "another function is submitting the job", left + 1)
            record = self._outcomes.mark_unknown(record, str(error))
        if remaining() < LOOKUP_SECONDS:
            raise Deferred(ReasonCode.BUSY, "too little time is left to ask the provider's history", 1)
        self._outcomes.look_up(record, error)


def _gone(changed: UploadChanged) -> InvalidInput:
    return InvalidInput(Problem("replaced or deleted before the job was sent", InputFault.GONE, str(changed)))
