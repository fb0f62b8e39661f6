"""From a job in the ledger to its request at the provider and its execution: the ledger's order, step by step."""

import base64
import math
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.aws_errors import is_transient
from posedrop.clock import epoch
from posedrop.deferral import Deferred
from posedrop.errors import (
    AccountRefused,
    InternalError,
    InvalidInput,
    JobError,
    NotAccepted,
    PosedropError,
    RateLimited,
    Refused,
    Rejected,
    ServerFault,
    SubmitOutcomeUnknown,
    TransientFault,
)
from posedrop.executions import Executions
from posedrop.gate.reasons import ReasonCode
from posedrop.governor import Governor
from posedrop.history import HistoryUnavailable
from posedrop.latency_store import LatencyStore
from posedrop.ledger import UNEXPECTED_ERRORS, Conflict, Ledger
from posedrop.lookup import ASK_AGAIN, CANNOT_SAY, DAY, HISTORY_DELAY, LOOKUP_SECONDS, RequestLookup
from posedrop.naming import execution_name
from posedrop.pacing import PATIENCE, Held, Slot
from posedrop.polling import first_wait
from posedrop.record import Fate, Record, Status
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind, Timeouts
from posedrop.settings import SubmitSettings
from posedrop.telemetry import PRICE, count
from posedrop.uploads import UploadChanged, check_stored, presigned_url, read_stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

LONGEST_REQUEST = 36.0
"""Seconds for a request, and at most half of the function's time."""
MARGIN = 1.0
"""Seconds that are left for the ledger and the execution after the request."""
URL_SECONDS = 3600
LONGEST_BACKOFF = 900.0
LONG_SLEEP = 1.0
"""Seconds of waiting for a slot after which it is checked whether submitting was paused meanwhile."""
FRESH = 3600.0
"""Seconds for which a version that was read is assumed to be there: buckets expire theirs after days."""
BEHIND = 60.0
"""Seconds that a refused job waits beyond the pause, so that another job is tried first."""
MOST_FAULTS = 8
"""So many requests of an attempt that were answered 5xx end it."""
MOST_UNRESOLVED = 3
"""So many requests of an attempt may be sent again although the history could not say."""

PATIENT = (ReasonCode.REFUSED, ReasonCode.SERVER_FAULT)
"""Such jobs are sent at their time and not before."""

FirstPoll = Callable[[float, float], float]
"""Reserve the first poll: takes now and the due time, returns when it may run."""


class Submission:
    """Resumes jobs from where the ledger says they are. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        settings: SubmitSettings,
        *,
        s3: "S3Client",
        ledger: Ledger,
        governor: Governor,
        segmind: Segmind,
        lookup: RequestLookup,
        api_key: ApiKey,
        executions: Executions,
        latency: LatencyStore,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._s3 = s3
        self._ledger = ledger
        self._governor = governor
        self._segmind = segmind
        self._lookup = lookup
        self._api_key = api_key
        self._executions = executions
        self._latency = latency
        self._clock = clock
        self._sleep = sleep
        self._timeouts = Timeouts.within(min(LONGEST_REQUEST, settings.submit_timeout_seconds / 2))

    def is_held(self, record: Record) -> bool:
        """Whether a queued job has a slot, a fixed time or waits for long: then a message of its own will come.

        After an outage it may be tried as soon as anybody asks.
        """
        patient = bool(record.slot) or record.reason_code in PATIENT
        return record.status is Status.QUEUED and self._left(record) > (0 if patient else LONGEST_BACKOFF)

    def _left(self, record: Record) -> float:
        return epoch(record.deferred_until or record.created_at) - self._clock()

    def advance(self, record: Record, receive_count: int, remaining: Callable[[], float]) -> None:
        """Do what the record's status asks for next.

        `receive_count` is how often the message was received, `remaining` gives the function's seconds left. Raises
        Deferred if the message must be redelivered. The fifth unexpected error in a row ends the job.
        """
        try:
            self._advance(record, remaining)
        except Deferred as exc:
            self._note(record, exc)
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

    def _advance(self, record: Record, remaining: Callable[[], float]) -> None:
        if record.status is Status.QUEUED:
            self._send(record, remaining)
        elif record.status is Status.SUBMITTING:
            self._resolve_claim(record, remaining)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started: its name makes starting it again harmless.
            logger.info("in progress, or not notified yet", status=record.status)
            self._start(record)

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _send(self, record: Record, remaining: Callable[[], float]) -> None:
        if record.reason_code in PATIENT and (left := self._left(record)) > 1:
            # SQS delays a message for 900 s at most: it came before its time.
            raise Deferred(ReasonCode(record.reason_code), record.reason or "", left)
        try:
            record = self._lookup.resolve(record, remaining)
        except SubmitOutcomeUnknown as exc:
            self._fail(record, exc)
            return
        if record.status is Status.SUBMITTED:
            self._watch(record, self._governor.take_poll)
            return
        if error := self._too_many_faults(record):
            self._fail(record, error)
            return
        try:
            body = self._body(record)
        except UploadChanged as exc:
            self._fail(record, InvalidInput(f"{exc}: replaced or deleted before the job was sent"))
            return
        needed = self._timeouts.total + MARGIN
        if remaining() < needed + PATIENCE:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        self._wait_for_slot(record)
        try:
            if remaining() < needed:
                raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
            claimed = self._ledger.claim(record, uuid.uuid4().hex, self._clock())
        except (Deferred, Conflict):
            self._governor.not_accepted()  # two events of one job take two slots, but are one job of the day
            raise
        self._post(claimed, body)

    def _post(self, claimed: Record, body: dict[str, Any]) -> None:
        """Send a claimed job, once, and write down what came of it."""
        try:
            request_id = self._segmind.submit(body, self._timeouts)
        except Rejected as exc:
            self._fail(claimed, exc, claimed.requests[:-1])
            self._governor.rejected()
        except SubmitOutcomeUnknown as exc:
            self._outcome_unknown(claimed, exc)
        except ServerFault as exc:
            self._server_fault(claimed, exc)
        except Refused as exc:
            self._refused(claimed, exc)
        except (NotAccepted, TransientFault) as exc:
            self._not_accepted(claimed, exc)
        else:
            count("EstimatedSpend", PRICE)
            self._submitted(claimed, request_id, self._governor.accepted)

    def _submitted(self, claimed: Record, request_id: str, first_poll: FirstPoll) -> None:
        # First of all: should the ledger fail, the request id is known at least here.
        logger.info("submitted", request_id=request_id)
        if not self._ledger.own_request_id(claimed, request_id, self._clock()):
            text = "the provider gave the request id of another request"
            logger.error(text, request_id=request_id)
            self._fail(claimed, SubmitOutcomeUnknown(text), claimed.with_fate(claimed.claimed, Fate.UNRESOLVED))
            return
        record = self._ledger.submitted(claimed, request_id, self._clock())
        count("Submitted")
        self._watch(record, first_poll)

    def _wait_for_slot(self, record: Record) -> None:
        kept = Slot(**record.slot) if record.slot else None
        while True:
            now = self._clock()
            taken = self._governor.take(now, kept)
            if isinstance(taken, Held):
                if taken.code is ReasonCode.PAUSED:
                    count("Paused")
                raise Deferred(taken.code, taken.reason, taken.until - now, taken.slot)
            wait = max(0.0, taken.at - self._clock())
            self._sleep(wait)
            # Meanwhile another request may have been answered with a 429, or the account refused.
            if wait < LONG_SLEEP or not self._governor.stopped(self._clock()):
                return
            self._governor.not_accepted()

    def _body(self, record: Record) -> dict[str, Any]:
        return {**record.parameters, **{f"{name}_image": self._image(record, name) for name in ("face", "pose")}}

    def _image(self, record: Record, name: str) -> str:
        stored = record.inputs[name]
        if self._settings.image_transport == "base64":
            return base64.b64encode(read_stored(self._s3, stored)).decode()
        if not stored["version_id"] or self._clock() - epoch(record.created_at) > FRESH:
            # What has gone would be paid for in vain. Without versions the URL serves what is there then: at least it
            # is what was read until now.
            check_stored(self._s3, stored)
        return presigned_url(self._s3, stored, execution_name(record.job_id, record.attempt), URL_SECONDS)

    # ---- what the provider said ------------------------------------------------------------------------------------

    def _not_accepted(self, claimed: Record, exc: NotAccepted | TransientFault) -> None:
        """The job stays queued. Before all else the claim ends: one that stays would be an unknown outcome."""
        now = self._clock()
        code, seconds, changes = ReasonCode.UNAVAILABLE, backoff(claimed.unavailable + 1), {}
        if isinstance(exc, RateLimited):
            code = ReasonCode.RATE_LIMIT
        elif isinstance(exc, AccountRefused):
            code = ReasonCode.PAUSED
        elif isinstance(exc, TransientFault):
            code = ReasonCode.AWS
        else:
            changes = {"unavailable": claimed.unavailable + 1}
        self._ledger.release(claimed, code, str(exc), now + seconds, now, **changes)
        self._governor.not_accepted()
        if isinstance(exc, RateLimited):
            seconds = self._governor.rate_limited(now, exc.retry_after).paused_until - now
            count("RateLimited")
        elif isinstance(exc, AccountRefused):
            seconds = self._key_refused(exc)
        logger.warning("not accepted", reason=str(exc), seconds=seconds)
        raise Deferred(code, str(exc), seconds) from exc

    def _key_refused(self, exc: AccountRefused) -> float:
        """Read the key again, or pause submitting; return the seconds until the job is tried again."""
        if exc.status == 401 and self._api_key.renew():
            logger.warning("the API key was refused and has been read again")
            return 1.0
        now, pause = self._clock(), self._settings.account_pause_seconds
        breaker = self._governor.trip(lambda state: state.key_refused(now, str(exc), pause))
        self._paused(str(exc), breaker.open_until)
        return breaker.open_until - now

    def _refused(self, claimed: Record, exc: Refused) -> None:
        """403, 404, 406: the job's own refusal if others were accepted since its last, or it lasts for a day."""
        now, pause = self._clock(), self._settings.account_pause_seconds
        first = claimed.refused_at
        others_accepted = first is not None and self._governor.read_breaker().accepted_at > first
        if first is not None and (others_accepted or now - first >= DAY):
            why = "again, while other jobs were accepted" if others_accepted else "for a day"
            self._fail(claimed, Rejected(f"{exc} ({why})"), claimed.requests[:-1])
            self._governor.not_accepted()
            return
        until = now + pause + BEHIND
        refused_at = now if first is None else first
        text = f"the provider refused this job: {exc}"
        self._ledger.release(claimed, ReasonCode.REFUSED, text, until, now, refused_at=refused_at)
        self._governor.not_accepted()
        breaker = self._governor.trip(lambda state: state.refused(now, str(exc), pause))
        count("Refused")
        logger.warning("refused", reason=str(exc), first_refused_at=refused_at)
        if breaker.is_paused(now):
            self._paused(str(exc), breaker.open_until)
        raise Deferred(ReasonCode.REFUSED, text, max(until, breaker.open_until + BEHIND) - now) from exc

    def _server_fault(self, claimed: Record, exc: ServerFault) -> None:
        """500, 502, 503: the request may exist. The history is asked before the job is sent again."""
        now, pause = self._clock(), self._settings.account_pause_seconds
        wait = max(HISTORY_DELAY, backoff(len(claimed.sent_in_attempt)), exc.retry_after or 0.0)
        self._ledger.release_after_fault(claimed, str(exc), now + wait, now)
        count("EstimatedSpend", PRICE)  # it may be billed
        breaker = self._governor.trip(lambda state: state.server_fault(now, claimed.job_id, str(exc), pause))
        logger.warning("the provider failed", reason=str(exc))
        if breaker.is_paused(now):
            self._paused(str(exc), breaker.open_until)
        raise Deferred(ReasonCode.SERVER_FAULT, str(exc), wait) from exc

    def _outcome_unknown(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        marked = self._mark(claimed, str(error))
        now, pause = self._clock(), self._settings.account_pause_seconds
        breaker = self._governor.trip(lambda state: state.outcome_unknown(now, pause))
        if breaker.is_paused(now):
            self._paused(breaker.reason, breaker.open_until)
        self._look_up(marked, error)

    def _paused(self, reason: str, until: float) -> None:
        count("Paused")
        logger.error("submitting is paused", reason=reason, until=until)

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

    # ---- what is unknown -------------------------------------------------------------------------------------------

    def _resolve_claim(self, record: Record, remaining: Callable[[], float]) -> None:
        """Resume a job that was claimed: its function has died, or no usable response came."""
        error = SubmitOutcomeUnknown(record.reason or "the function ended while it submitted the job")
        if record.claimed.fate is not Fate.UNKNOWN:
            left = record.claimed.sent_at + self._settings.submit_timeout_seconds - self._clock()
            if left >= 0:
                raise Deferred(ReasonCode.BUSY, "another function is submitting the job", left + 1)
            record = self._mark(record, str(error))
        if remaining() < LOOKUP_SECONDS:
            raise Deferred(ReasonCode.BUSY, "too little time is left to ask the provider's history", 1)
        self._look_up(record, error)

    def _mark(self, claimed: Record, reason: str) -> Record:
        marked = self._ledger.mark_outcome_unknown(claimed, reason, self._clock())
        count("OutcomeUnknown")
        count("EstimatedSpend", PRICE)  # it may be billed
        return marked

    def _look_up(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        """Ask the provider's history for a request of unknown outcome; resume it, or fail the job."""
        request = claimed.claimed
        try:
            request_id = self._lookup.find(claimed, request)
        except HistoryUnavailable as exc:
            logger.warning("the history cannot say", reason=str(exc))
            if not exc.final and self._clock() < request.sent_at + CANNOT_SAY:
                raise Deferred(ReasonCode.EARLIER_REQUEST, f"{error}; {exc}", ASK_AGAIN) from exc
            fate = Fate.UNRESOLVED
        else:
            if request_id:
                # That the history has it does not say that requests get responses: the breaker stays as it is.
                self._submitted(claimed, request_id, self._governor.take_poll)
                return
            fate = Fate.ABSENT
        logger.error("the outcome of a request is unknown", reason=str(error))
        self._fail(claimed, error, claimed.with_fate(request, fate))

    # ---- ends ------------------------------------------------------------------------------------------------------

    def _fail(self, record: Record, error: JobError, requests: list[Any] | None = None) -> None:
        logger.warning("failed", error_type=error.type, reason=str(error))
        self._start(self._ledger.fail(record, error, self._clock(), requests=requests))

    def _watch(self, record: Record, first_poll: FirstPoll) -> None:
        """Start the wait loop of an accepted job; `first_poll` reserves the time where its wait ends."""
        latency = self._latency.read()
        now = self._clock()
        due = first_poll(now, now + first_wait(latency))
        self._executions.start(record, math.ceil(due - now), latency)

    def _start(self, record: Record) -> None:
        """Start the execution of a job again, or that of one that ended before it was sent."""
        self._ledger.use_attempt(record)
        latency = self._latency.read()
        self._executions.start(record, first_wait(latency), latency)

    def _note(self, record: Record, deferred: Deferred) -> None:
        """Write down why a queued job waits, unless that is over in a moment."""
        if deferred.code is ReasonCode.BUSY:
            return
        now = self._clock()
        try:
            until = now + deferred.seconds
            self._ledger.defer(record, deferred.code, str(deferred), until, now, deferred.slot)
        except Conflict:
            logger.info("the job is not queued any more", reason=str(deferred))

    def _count(self, record: Record, exc: Exception) -> None:
        text = f"unexpected error: {type(exc).__name__}: {exc}"
        current = self._ledger.get(record.job_id)
        if current is None or current.ended or current.attempt != record.attempt:
            return
        counted = self._ledger.count_error(current, text, self._clock())
        if counted.errors >= UNEXPECTED_ERRORS and counted.status is Status.QUEUED:
            logger.exception("the last unexpected error: the job ends")
            self._fail(
                counted, InternalError(f"{counted.errors} unexpected errors, the last: {type(exc).__name__}: {exc}")
            )


def backoff(tries: int) -> float:
    """Seconds until the next try, later and later with each of so many tries. Pure."""
    return min(15.0 * 2.0 ** min(tries - 1, 10), LONGEST_BACKOFF)
