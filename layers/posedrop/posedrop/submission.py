"""From a job in the ledger to its request at the provider and its execution: the ledger's order, step by step."""

import base64
import math
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.clock import epoch
from posedrop.errors import (
    JOB_ERRORS,
    AccountRefused,
    InternalError,
    InvalidInput,
    JobError,
    NotTaken,
    PosedropError,
    ProviderUnavailable,
    RateLimited,
    Rejected,
    StatusUnavailable,
    SubmitOutcomeUnknown,
)
from posedrop.executions import Executions
from posedrop.governor import Governor, PacingBusy
from posedrop.history import History, HistoryUnavailable
from posedrop.latency_store import LatencyStore
from posedrop.ledger import UNEXPECTED_ERRORS, Conflict, Ledger, Record, Status
from posedrop.naming import execution_name
from posedrop.pacing import PATIENCE, Held, Pacing, Slot
from posedrop.polling import first_wait
from posedrop.secret import ApiKey
from posedrop.segmind import FAILED, Segmind, Timeouts
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
HISTORY_GRACE = 60.0
"""Seconds that a request may take to appear in the provider's history."""
HISTORY_INTERVAL = 15.0
HISTORY_TRIES = 5
"""So often a history that cannot be asked is asked again before a new attempt goes on without it."""
HISTORY_SECONDS = 20.0
"""Seconds of the function's time that asking it takes at most."""
CLOCKS_APART = 60.0
"""Seconds by which an execution of this life of a job may seem to have begun before its record."""
LONG_SLEEP = 1.0
"""Seconds of waiting for a slot after which it is looked whether submitting was paused meanwhile."""
FRESH = 3600.0
"""Seconds for which a version that was read is taken to be there: buckets expire theirs after days."""
TOLD_SOON = 5.0
"""Seconds that a new attempt waits until the one before is told."""
GONE_APART = 31.0
"""Seconds between two looks at an earlier attempt's request that the provider does not know."""


FirstLook = Callable[[float, float], float]
"""From the time now and that at which a look is due, when it may be made."""


class Deferred(PosedropError):
    """The message comes back after `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = max(1.0, seconds)


class Submission:
    """Takes jobs on from where the ledger says they are. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        settings: SubmitSettings,
        *,
        s3: "S3Client",
        ledger: Ledger,
        governor: Governor,
        segmind: Segmind,
        history: History | None,
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
        # Only a URL can carry the job's name into the history.
        self._history = history if settings.image_transport == "presigned-url" else None
        self._api_key = api_key
        self._executions = executions
        self._latency = latency
        self._clock = clock
        self._sleep = sleep
        self._timeouts = Timeouts.within(min(LONGEST_REQUEST, settings.submit_timeout_seconds / 2))

    def is_held(self, record: Record) -> bool:
        """Whether a queued job has a place, or waits for long: then a message of its own comes back for it.

        After an outage it may be tried as soon as anybody asks.
        """
        left = epoch(record.hold_until or record.created_at) - self._clock()
        return record.status is Status.QUEUED and left > (0 if record.slot else LONGEST_BACKOFF)

    def advance(self, record: Record, receive_count: int, remaining: Callable[[], float]) -> None:
        """Do what the record's status asks for next.

        `receive_count` is how often the message was received, `remaining` gives the function's seconds left. Raises
        Deferred if the message must come back. The fifth unexpected error ends the job.
        """
        try:
            self._advance(record, receive_count, remaining)
        except Conflict as exc:
            raise Deferred("another function went ahead with the job", 5) from exc
        except PacingBusy as exc:
            raise Deferred(str(exc), 2) from exc
        except PosedropError:
            raise
        except Exception as exc:
            self._count(record, exc)
            raise

    def retry(self, record: Record, message_id: str) -> Record:
        """Begin a new attempt of a failed job, at the wish of the message `message_id`; others stay as they are."""
        if record.status is not Status.FAILED or record.retry_message_id == message_id:
            logger.info("no new attempt: the job has not failed", status=record.status)
            return record
        if not record.notified_at:
            raise Deferred("the attempt before is to be told first", TOLD_SOON)
        failed = record.error or {"type": InternalError.__name__, "message": "the files could not be read"}
        error = None
        if failed["type"] == InvalidInput.__name__ or not record.inputs:
            # Its files are as bad as they were: the attempt ends as the one before, and is told.
            error = JOB_ERRORS[failed["type"]](failed["message"])
        started = self._ledger.new_attempt(record, message_id, error, self._clock())
        logger.info("a new attempt", attempt=started.attempt)
        return started

    def _advance(self, record: Record, receive_count: int, remaining: Callable[[], float]) -> None:
        record = self._beside_earlier_life(record)
        if record.status is Status.QUEUED:
            self._send(record, receive_count, remaining)
        elif record.status is Status.SUBMITTING:
            self._look_after_claim(record)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started: its name makes starting it again harmless.
            logger.info("under way, or to be told", status=record.status)
            self._start(record)

    def _beside_earlier_life(self, record: Record) -> Record:
        """Number the attempt of a job whose record had expired, and that comes again, after those that there were.

        The names of executions stay taken for 90 days (Step Functions API reference, StartExecution).
        """
        begun = record.submitted_at or record.claimed_at or record.attempt > 1 or record.notified_at
        if begun or not self._settings.record_retention_days:
            return record
        attempt, created_at = 1, epoch(record.created_at) - CLOCKS_APART
        while self._executions.is_taken(execution_name(record.job_id, attempt), created_at):
            attempt += 1
        return record if attempt == 1 else self._ledger.renumber(record, attempt, self._clock())

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _send(self, record: Record, receive_count: int, remaining: Callable[[], float]) -> None:
        if record.attempt > 1 and self._go_on_with_earlier_request(record, receive_count):
            return
        try:
            body = self._body(record)
        except UploadChanged as exc:
            self._fail(record, InvalidInput(f"{exc}: replaced or deleted before the job was sent"))
            return
        needed = self._timeouts.total + MARGIN
        if remaining() < needed + PATIENCE:
            raise Deferred("too little time is left for the request", 1)
        self._wait_for_slot(record)
        try:
            if remaining() < needed:
                raise Deferred("too little time is left for the request", 1)
            claimed = self._ledger.claim(record, uuid.uuid4().hex, self._clock())
        except (Deferred, Conflict):
            self._governor.change(Pacing.not_taken)  # two events of one job take two slots, but are one job of the day
            raise
        try:
            request_id = self._segmind.submit(body, self._timeouts)
        except Rejected as exc:
            self._fail(claimed, exc)
            self._governor.change(Pacing.answered)
        except SubmitOutcomeUnknown as exc:
            self._without_answer(claimed, exc, remaining)
        except NotTaken as exc:
            now = self._clock()
            unavailable = isinstance(exc, ProviderUnavailable)
            asked_for = exc.retry_after if isinstance(exc, ProviderUnavailable) else None
            wait = max(backoff(claimed.unavailable + 1), asked_for or 0.0)
            # Before all else: a claim that stays would be an unknown outcome.
            released = self._ledger.release(claimed, str(exc), now + wait, now, unavailable=unavailable)
            seconds = self._not_taken(exc, wait)
            self._ledger.hold(released, str(exc), now + seconds, now)
            raise Deferred(str(exc), seconds) from exc
        else:
            count("EstimatedSpend", PRICE)
            self._submitted(claimed, request_id, self._governor.accepted)

    def _submitted(self, claimed: Record, request_id: str, first_look: FirstLook) -> None:
        # First of all: should the ledger fail, the request id is known at least here.
        logger.info("submitted", request_id=request_id)
        record = self._ledger.submitted(claimed, request_id, self._clock())
        count("Submitted")
        self._watch(record, first_look)

    def _wait_for_slot(self, record: Record) -> None:
        kept = Slot(**record.slot) if record.slot else None
        while True:
            now = self._clock()
            taken = self._governor.take(now, kept)
            if isinstance(taken, Held):
                self._ledger.hold(record, taken.reason, taken.until, now, taken.slot)
                if taken.paused:
                    count("Paused")
                raise Deferred(taken.reason, taken.until - now)
            wait = max(0.0, taken.at - self._clock())
            self._sleep(wait)
            # Meanwhile another request may have been answered with a 429, or the account refused.
            if wait < LONG_SLEEP or not self._governor.read().stopped(self._clock()):
                return
            self._governor.change(Pacing.not_taken)

    def _not_taken(self, exc: NotTaken, wait: float) -> float:
        """Tell the governor what the provider said, and return the seconds after which the job is tried again."""
        now = self._clock()
        if isinstance(exc, AccountRefused):
            if exc.status == 401 and self._api_key.renew():
                self._governor.change(Pacing.not_taken)
                logger.warning("the API key was refused and has been read again")
                return 1.0
            pause = self._settings.account_pause_seconds
            pacing = self._governor.change(lambda state: state.not_taken().account_refused(now, str(exc), pause))
            count("Paused")
            logger.error("submitting is paused", reason=str(exc), until=pacing.open_until)
            return pacing.open_until - now
        if isinstance(exc, RateLimited):
            retry_after, limits = exc.retry_after, self._settings.limits
            pacing = self._governor.change(lambda state: state.not_taken().rate_limited(now, retry_after, limits))
            count("RateLimited")
            logger.warning("rate limited", reason=str(exc), until=pacing.paused_until)
            return pacing.paused_until - now
        self._governor.change(Pacing.not_taken)
        logger.warning("the provider is not available", reason=str(exc))
        return wait

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

    # ---- what is unknown -------------------------------------------------------------------------------------------

    def _look_after_claim(self, record: Record) -> None:
        now = self._clock()
        error = SubmitOutcomeUnknown(record.reason or "the function ended while it submitted the job")
        if record.unknown_at is not None:
            self._look_up(record, error)
            return
        age = now - (record.claimed_at or 0.0)
        if age <= self._settings.submit_timeout_seconds:
            raise Deferred("another function is submitting the job", self._settings.submit_timeout_seconds - age + 1)
        self._look_up(self._suspect(record, str(error)), error)

    def _without_answer(self, claimed: Record, error: SubmitOutcomeUnknown, remaining: Callable[[], float]) -> None:
        suspected = self._suspect(claimed, str(error))
        now = self._clock()
        pause = self._settings.account_pause_seconds
        self._governor.change(lambda pacing: pacing.outcome_unknown(now, pause))
        if self._history and remaining() < HISTORY_SECONDS:
            raise Deferred(f"{error}; the provider's history is asked next", 1) from error
        self._look_up(suspected, error)

    def _suspect(self, claimed: Record, reason: str) -> Record:
        suspected = self._ledger.suspect(claimed, reason, self._clock())
        count("OutcomeUnknown")
        count("EstimatedSpend", PRICE)  # it may be billed
        return suspected

    def _look_up(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        """Ask the provider's history for a request of unknown outcome; go on with it, or tell that it is unknown."""
        now = self._clock()
        try:
            found = self._find(claimed)
        except HistoryUnavailable as exc:
            logger.warning("no history", reason=str(exc))
        else:
            if found:
                logger.info("a request without an answer was found in the history")
                # That the history has it does not say that requests are answered: the breaker stays as it is.
                self._submitted(claimed, found, self._governor.take_poll)
                return
            if now - (claimed.unknown_at or now) < HISTORY_GRACE:
                raise Deferred(f"{error}; the provider's history is asked again", HISTORY_INTERVAL)
        logger.error("the outcome of a request is unknown", reason=str(error))
        if self._settings.resubmit_unknown:
            self._ledger.release(claimed, str(error), now, now)
            raise Deferred(str(error), 1)
        self._fail(claimed, error)

    def _find(self, claimed: Record) -> str | None:
        if self._history is None:
            raise HistoryUnavailable("it is turned off, or the images are in the request")
        since = claimed.claimed_at or epoch(claimed.created_at)
        return self._history.find(execution_name(claimed.job_id, claimed.attempt), since)

    def _go_on_with_earlier_request(self, record: Record, receive_count: int) -> bool:
        """Whether an earlier attempt's request is alive or well after all: then it is delivered, not bought again."""
        known = [record.previous_request_id] if record.previous_request_id else []
        # Of attempts of unknown outcome there may be requests after all; the latest first.
        return any(
            self._goes_on(record, request_id) for request_id in (*self._find_earlier(record, receive_count), *known)
        )

    def _goes_on(self, record: Record, request_id: str) -> bool:
        try:
            state = self._segmind.status(request_id).state
        except StatusUnavailable as exc:
            if exc.status == 429:
                self._governor.rate_limited(self._clock(), exc.retry_after)
            if exc.status != 404:
                raise Deferred(f"an earlier request is asked for first: {exc}", 30) from exc
            now = self._clock()
            if now - self._ledger.not_found(record, now) < GONE_APART - 1:
                raise Deferred("an earlier request is asked for once more", GONE_APART) from exc
            return False
        if state == FAILED:
            return False
        logger.info("an earlier request goes on", request_id=request_id, state=state)
        self._watch(self._ledger.adopt(record, request_id, self._clock()), self._governor.take_poll)
        return True

    def _find_earlier(self, record: Record, receive_count: int) -> list[str]:
        """The requests of earlier attempts whose outcome was unknown, as far as the provider's history has them now."""
        found: list[str] = []
        if self._history is None:
            return found
        for unknown in reversed(record.unknown_attempts):
            name = execution_name(record.job_id, unknown["attempt"])
            try:
                request_id = self._history.find(name, unknown["sent_at"])
            except HistoryUnavailable as exc:
                logger.warning("no history", reason=str(exc))
                if receive_count < HISTORY_TRIES:
                    raise Deferred(f"an earlier request is looked for first: {exc}", HISTORY_INTERVAL) from exc
            else:
                found += [request_id] if request_id else []
        return found

    # ---- ends ------------------------------------------------------------------------------------------------------

    def _fail(self, record: Record, error: JobError) -> None:
        logger.warning("failed", error_type=error.type, reason=str(error))
        self._start(self._ledger.fail(record, error, self._clock()))

    def _watch(self, record: Record, first_look: FirstLook) -> None:
        """Start the wait loop of a job that the provider has taken; `first_look` takes the slot where its wait ends."""
        latency = self._latency.read()
        now = self._clock()
        look = first_look(now, now + first_wait(latency))
        self._executions.start(record, math.ceil(look - now), latency)

    def _start(self, record: Record) -> None:
        """Start the execution of a job again, or that of one that ended before it was sent."""
        latency = self._latency.read()
        self._executions.start(record, first_wait(latency), latency)

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
    """Seconds until it is tried again, later and later with each of so many tries. Pure."""
    return min(15.0 * 2.0 ** min(tries - 1, 10), LONGEST_BACKOFF)
