"""From a job in the ledger to its request at the provider and its execution: the ledger's order, step by step."""

import base64
import time
import uuid
from collections.abc import Callable, Mapping
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
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Charge
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.gate.reasons import AT_THE_GATE, Closed, ReasonCode
from posedrop.history import HistoryUnavailable
from posedrop.inbox import backoff
from posedrop.latency_store import LatencyStore
from posedrop.ledger import UNEXPECTED_ERRORS, Conflict, Ledger
from posedrop.lookup import ASK_AGAIN, CANNOT_SAY, DAY, HISTORY_DELAY, LOOKUP_SECONDS, RequestLookup
from posedrop.messages import SubmitMessage
from posedrop.naming import execution_name
from posedrop.polling import first_wait
from posedrop.prepare.pictures import PreparedPictures
from posedrop.prepare.recipe import Prepared
from posedrop.record import Fate, Record, Request, Status
from posedrop.secret import ApiKey
from posedrop.segmind import GET_TIMEOUTS, Segmind, Timeouts
from posedrop.settings import SubmitSettings
from posedrop.telemetry import count
from posedrop.uploads import UploadChanged, check_stored, presigned_url, read_stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

LONGEST_REQUEST = 36.0
"""Seconds for a request, and at most half of the function's time."""
MARGIN = 1.0
"""Seconds that are left for the ledger and the execution after the request."""
URL_SECONDS = 3600
LONG_SLEEP = 1.0
"""Seconds of waiting for a permit after which it is checked whether the gate has closed meanwhile."""
SHORT_WAIT = 60.0
"""Seconds for which a job keeps its message; after a longer wait it is dispatched again."""
FRESH = 3600.0
"""Seconds for which a version that was read is assumed to be there: buckets expire theirs after days."""
BEHIND = 60.0
"""Seconds that a refused job waits beyond the pause, so that another job is tried first."""
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
        self._s3 = s3
        self._ledger = ledger
        self._gate = gate
        self._segmind = segmind
        self._lookup = lookup
        self._api_key = api_key
        self._executions = executions
        self._latency = latency
        self._pictures = pictures
        self._wake_dispatch = wake_dispatch
        self._account = account
        self._clock = clock
        self._sleep = sleep
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
                self._leave_probe()
                self._wake_dispatch()
        elif record.status is Status.SUBMITTING:
            self._resolve_claim(record, remaining)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started: its name makes starting it again harmless.
            logger.info("in progress, or not notified yet", status=record.status)
            self._start(record)

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
            self._leave_probe()
            if not at_the_gate:  # which would put back the next probe too
                self._wake_dispatch()
        return dispatched_again

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _send(self, record: Record, remaining: Callable[[], float], *, probe: bool) -> bool:
        """Send a queued job; return False if it went on or ended without a request."""
        try:
            record = self._lookup.resolve(record, remaining)
        except SubmitOutcomeUnknown as exc:
            self._fail(record, exc)
            return False
        if record.status is Status.SUBMITTED:
            self._watch(record)
            return False
        if error := self._too_many_faults(record):
            self._fail(record, error)
            return False
        try:
            prepared = self._prepare(record, remaining)
        except InvalidInput as exc:
            self._fail(record, exc)
            return False
        except UploadChanged as exc:
            self._fail(record, InvalidInput(f"{exc}: replaced or deleted before the job was sent"))
            return False
        needed = self._timeouts.total + MARGIN
        if remaining() < needed + LONG_SLEEP:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        self._wait_for_permit(remaining() - needed, probe=probe)
        try:
            body = self._body(record, prepared)
        except UploadChanged as exc:
            self._fail(record, InvalidInput(f"{exc}: replaced or deleted before the job was sent"))
            return False
        if probe:
            self._api_key.renew()  # perhaps there is a new one
        if remaining() < needed:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        self._post(self._claim(record, prepared), body)
        self._refresh_credits(remaining)
        return True

    def _refresh_credits(self, remaining: Callable[[], float]) -> None:
        """Ask for the credits that are left, now and then and if there is time."""
        if self._account and remaining() > GET_TIMEOUTS.total + MARGIN:
            self._account.refresh(self._segmind, self._gate.limiter.pause)

    def _prepare(self, record: Record, remaining: Callable[[], float]) -> dict[str, Prepared]:
        """Return the prepared pictures of a job by "face" and "pose", those that are sent in the uploads' place.

        Raises InvalidInput, UploadChanged, Deferred and TransientFault.
        """
        if not self._settings.prepare_images:
            return {}
        # Records of before there was anything to prepare do not say what is to be done.
        wanted = {name: stored for name, stored in record.inputs.items() if stored.get("changes")}
        return {name: self._pictures.get(stored, remaining) for name, stored in wanted.items()}

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
            told = {name: picture.told() for name, picture in prepared.items()}
            return self._ledger.claim(record, uuid.uuid4().hex, charge.usd, now, told)
        except Conflict:
            self._gate.budgets.give_back(charge)
            raise

    def _post(self, claimed: Record, body: dict[str, Any]) -> None:
        """Send a claimed job, once, and write down what came of it."""
        try:
            request_id = self._segmind.submit(body, self._timeouts)
        except Rejected as exc:
            self._fail(claimed, exc, claimed.requests[:-1], give_back=claimed.claimed)
            self._close_breaker(Breaker.rejected)
        except SubmitOutcomeUnknown as exc:
            self._outcome_unknown(claimed, exc)
        except ServerFault as exc:
            self._server_fault(claimed, exc)
        except Refused as exc:
            self._refused(claimed, exc)
        except (NotAccepted, TransientFault) as exc:
            self._not_accepted(claimed, exc)
        else:
            count("EstimatedSpend", claimed.claimed.charged_usd)
            self._submitted(claimed, request_id)
            self._close_breaker(lambda breaker: breaker.accepted(self._clock()))

    def _submitted(self, claimed: Record, request_id: str) -> None:
        # First of all: should the ledger fail, the request id is known at least here.
        logger.info("submitted", request_id=request_id)
        if not self._ledger.own_request_id(claimed, request_id, self._clock()):
            text = "the provider gave the request id of another request"
            logger.error(text, request_id=request_id)
            self._fail(claimed, SubmitOutcomeUnknown(text), claimed.with_fate(claimed.claimed, Fate.UNRESOLVED))
            return
        record = self._ledger.submitted(claimed, request_id, self._clock())
        count("Submitted")
        self._watch(record)

    def _body(self, record: Record, prepared: Mapping[str, Prepared]) -> dict[str, Any]:
        images = {name: self._image(record, name, prepared.get(name)) for name in ("face", "pose")}
        return {**record.parameters, **{f"{name}_image": image for name, image in images.items()}}

    def _image(self, record: Record, name: str, prepared: Prepared | None) -> str:
        stored = prepared.stored() if prepared else record.inputs[name]
        if self._settings.image_transport == "base64":
            return base64.b64encode(read_stored(self._s3, stored)).decode()
        if not prepared and (not stored["version_id"] or self._clock() - epoch(record.created_at) > FRESH):
            # What has gone would be paid for in vain. Without versions the URL serves what is there then: at least it
            # is what was read until now.
            check_stored(self._s3, stored)
        return presigned_url(self._s3, stored, execution_name(record.job_id, record.attempt), URL_SECONDS)

    # ---- what the provider said ------------------------------------------------------------------------------------

    def _not_accepted(self, claimed: Record, exc: NotAccepted | TransientFault) -> None:
        """The job is put back. Before all else the claim ends: one that stays would be an unknown outcome."""
        now = self._clock()
        seconds, changes = backoff(claimed.unavailable + 1), {}
        if isinstance(exc, RateLimited):
            code, seconds = ReasonCode.RATE_LIMIT, exc.retry_after or 0.0
        elif isinstance(exc, AccountRefused):
            code = ReasonCode.PAUSED
        elif isinstance(exc, TransientFault):
            code = ReasonCode.AWS
        else:
            code, changes = ReasonCode.UNAVAILABLE, {"unavailable": claimed.unavailable + 1}
        self._ledger.release(claimed, code, str(exc), now + seconds, now, **changes)
        self._give_back(claimed.claimed)
        logger.warning("not accepted", reason=str(exc), code=code)
        if isinstance(exc, RateLimited):
            self._gate.limiter.pause(now, exc.retry_after)
            count("RateLimited")
        renewed = isinstance(exc, AccountRefused) and exc.status == 401 and self._api_key.renew()
        if isinstance(exc, AccountRefused) and not renewed:
            pause = self._settings.account_pause_seconds
            self._trip(str(exc), lambda breaker: breaker.key_refused(now, str(exc), pause))
            return
        self._leave_probe()
        if renewed:
            logger.warning("the API key was refused and has been read again")
            self._wake_dispatch()

    def _refused(self, claimed: Record, exc: Refused) -> None:
        """403, 404, 406: the job's own refusal if others were accepted since its last, or it lasts for a day."""
        now, pause = self._clock(), self._settings.account_pause_seconds
        first = claimed.refused_at
        others_accepted = first is not None and self._gate.breaker.read().accepted_at > first
        if first is not None and (others_accepted or now - first >= DAY):
            why = "again, while other jobs were accepted" if others_accepted else "for a day"
            self._fail(claimed, Rejected(f"{exc} ({why})"), claimed.requests[:-1], give_back=claimed.claimed)
            self._leave_probe()
            return
        refused_at = now if first is None else first
        text = f"the provider refused this job: {exc}"
        # A moment longer than the pause, so that another job is the probe where one waits.
        until = now + pause + BEHIND
        self._ledger.release(claimed, ReasonCode.REFUSED, text, until, now, refused_at=refused_at)
        self._give_back(claimed.claimed)
        count("Refused")
        logger.warning("refused", reason=str(exc), first_refused_at=refused_at)
        self._trip(str(exc), lambda breaker: breaker.refused(now, str(exc), pause))

    def _server_fault(self, claimed: Record, exc: ServerFault) -> None:
        """500, 502, 503: the request may exist. The history is asked before the job is sent again."""
        now, pause = self._clock(), self._settings.account_pause_seconds
        wait = max(HISTORY_DELAY, backoff(len(claimed.sent_in_attempt)), exc.retry_after or 0.0)
        self._ledger.release_after_fault(claimed, str(exc), now + wait, now)
        count("EstimatedSpend", claimed.claimed.charged_usd)  # it may be billed
        logger.warning("the provider failed", reason=str(exc))
        self._trip(str(exc), lambda breaker: breaker.server_fault(now, claimed.job_id, str(exc), pause))

    def _outcome_unknown(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        marked = self._mark(claimed, str(error))
        now, pause = self._clock(), self._settings.account_pause_seconds
        self._trip(str(error), lambda breaker: breaker.outcome_unknown(now, pause))
        self._look_up(marked, error)

    def _give_back(self, request: Request) -> None:
        """Give the charge of a request back that was not accepted, once the ledger says so."""
        if request.charged_usd:
            self._gate.budgets.give_back(Charge(request.charged_usd, request.sent_at))

    def _leave_probe(self) -> None:
        """Leave the probe to the next request."""
        self._gate.breaker.change(lambda breaker: (breaker.end_probe(), None))

    def _trip(self, reason: str, change: Callable[[Breaker], Breaker]) -> None:
        """Let the breaker count a refusal or a fault."""
        breaker = self._gate.breaker.change(lambda state: (changed := change(state), changed))
        if breaker.is_paused(self._clock()):
            logger.error("submitting is paused", reason=reason, until=breaker.open_until)

    def _close_breaker(self, change: Callable[[Breaker], Breaker]) -> None:
        """After a response that shows a sound account. Where the breaker was open the line goes on at once."""
        if self._gate.breaker.change(lambda state: (change(state), state.is_open)):
            logger.info("submitting is resumed")
            self._wake_dispatch()

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
        count("EstimatedSpend", claimed.claimed.charged_usd)  # it may be billed
        return marked

    def _look_up(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        """Ask the provider's history for a request of unknown outcome; resume it, or fail the job."""
        request, absent = claimed.claimed, None
        try:
            request_id = self._lookup.find(claimed, request)
        except HistoryUnavailable as exc:
            logger.warning("the history cannot say", reason=str(exc))
            if not exc.final and self._clock() < request.sent_at + CANNOT_SAY:
                raise Deferred(ReasonCode.EARLIER_REQUEST, f"{error}; {exc}", ASK_AGAIN) from exc
            requests = claimed.with_fate(request, Fate.UNRESOLVED)
        else:
            if request_id:
                # That the history has it does not say that requests get responses: the breaker stays as it is.
                self._submitted(claimed, request_id)
                return
            requests, absent = claimed.with_fate(request, Fate.ABSENT, charged_usd=0.0), request
        logger.error("the outcome of a request is unknown", reason=str(error))
        self._fail(claimed, error, requests, give_back=absent)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def _fail(
        self,
        record: Record,
        error: JobError,
        requests: list[Request] | None = None,
        *,
        give_back: Request | None = None,
    ) -> None:
        """End a job. `requests` replaces its list; the charge of the request `give_back` is given back."""
        logger.warning("failed", error_type=error.type, reason=str(error))
        ended = self._ledger.fail(record, error, self._clock(), requests=requests)
        if give_back:
            self._give_back(give_back)
        self._start(ended)

    def _watch(self, record: Record) -> None:
        """Start the wait loop of an accepted job."""
        latency = self._latency.read()
        self._executions.start(record, first_wait(latency), latency)

    def _start(self, record: Record) -> None:
        """Start the execution of a job again, or that of one that ended before it was sent."""
        self._ledger.use_attempt(record)
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
