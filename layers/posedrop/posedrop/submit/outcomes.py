"""Handle the response to a request: update the ledger, the budget and the breaker, then start, defer or end the job."""

from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import count
from posedrop.aws.record import Record
from posedrop.contract.errors import (
    AccountRefused,
    Deferred,
    HistoryUnavailable,
    JobError,
    NotAccepted,
    RateLimited,
    Refused,
    Rejected,
    ServerFault,
    SubmitOutcomeUnknown,
    TransientFault,
)
from posedrop.contract.reasons import ReasonCode, backoff
from posedrop.gate.breaker import Breaker
from posedrop.gate.gate import Gate
from posedrop.segmind.requests import Request, RequestStatus
from posedrop.submit.lookup import ASK_AGAIN, CANNOT_SAY, HISTORY_DELAY, LONGEST_TRIED, LOOKUP_SECONDS, RequestLookup
from posedrop.submit.wait_loop import WaitLoop

logger = Logger(child=True)

BEHIND = 60.0
"""Seconds after the pause before a refused job is sent again, so that another job is the probe."""


class Outcomes:
    """Handles responses, and claims without a response.

    `pause_seconds` is how long the breaker pauses (AccountPauseSeconds). `submit_timeout_seconds` is the function's
    timeout (SubmitTimeoutSeconds).
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        gate: Gate,
        lookup: RequestLookup,
        renew_key: Callable[[], bool],
        wait_loop: WaitLoop,
        pause_seconds: float,
        submit_timeout_seconds: float,
        wake_dispatch: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._lookup = lookup
        self._renew_key = renew_key
        self._wait_loop = wait_loop
        self._pause_seconds = pause_seconds
        self._submit_timeout_seconds = submit_timeout_seconds
        self._wake_dispatch = wake_dispatch
        self._clock = clock

    def write(self, claimed: Record, request: Callable[[], str]) -> None:
        """Send the request of a claimed job, once, and handle its response."""
        try:
            request_id = request()
        except Rejected as exc:
            self.fail(claimed, exc, claimed.requests[:-1], give_back=claimed.claimed)
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

    def resolve_claim(self, record: Record, remaining: Callable[[], float]) -> None:
        """Resume a claimed job whose function died or got no usable response."""
        error = SubmitOutcomeUnknown(record.reason or "the function ended while it submitted the job")
        if record.claimed.status is not RequestStatus.UNKNOWN:
            left = record.claimed.sent_at + self._submit_timeout_seconds - self._clock()
            if left >= 0:
                raise Deferred(ReasonCode.BUSY, "another function is submitting the job", left + 1)
            record = self._mark_unknown(record, str(error))
        if remaining() < LOOKUP_SECONDS:
            raise Deferred(ReasonCode.BUSY, "too little time is left to ask the provider's history", 1)
        self._look_up(record, error)

    def resume(self, record: Record) -> None:
        """Start the wait loop of a job that continues with an earlier request."""
        self._wait_loop.start(record)

    def _submitted(self, claimed: Record, request_id: str) -> None:
        # Log it first: if the ledger cannot be written, the request id is at least in the log.
        logger.info("submitted", request_id=request_id)
        if not self._ledger.own_request_id(claimed, request_id, self._clock()):
            text = "the provider gave the request id of another request"
            logger.error(text, request_id=request_id)
            self.fail(
                claimed, SubmitOutcomeUnknown(text), claimed.with_status(claimed.claimed, RequestStatus.UNRESOLVED)
            )
            return
        record = self._ledger.submitted(claimed, request_id, self._clock())
        count("Submitted")
        self._wait_loop.start(record)

    def _not_accepted(self, claimed: Record, exc: NotAccepted | TransientFault) -> None:
        """Put a job back whose request was not accepted.

        The claim is released first, because a claim that stays would later count as an unknown outcome.
        """
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
        renewed = isinstance(exc, AccountRefused) and exc.status == 401 and self._renew_key()
        if isinstance(exc, AccountRefused) and not renewed:
            pause = self._pause_seconds
            self._trip(str(exc), lambda breaker: breaker.key_refused(now, str(exc), pause))
            return
        self.leave_probe()
        if renewed:
            logger.warning("the API key was refused and has been read again")
            self._wake_dispatch()

    def _refused(self, claimed: Record, exc: Refused) -> None:
        """Handle 403, 404 and 406: end the job if other jobs were accepted since its last refusal, or after a day."""
        now, pause = self._clock(), self._pause_seconds
        first = claimed.refused_at
        others_accepted = first is not None and self._gate.breaker.read().accepted_at > first
        if first is not None and (others_accepted or now - first >= LONGEST_TRIED):
            why = "again, while other jobs were accepted" if others_accepted else "for a day"
            self.fail(claimed, Rejected(f"{exc} ({why})"), claimed.requests[:-1], give_back=claimed.claimed)
            self.leave_probe()
            return
        refused_at = now if first is None else first
        text = f"the provider refused this job: {exc}"
        # Longer than the pause, so that another waiting job is the probe.
        until = now + pause + BEHIND
        self._ledger.release(claimed, ReasonCode.REFUSED, text, until, now, refused_at=refused_at)
        self._give_back(claimed.claimed)
        count("Refused")
        logger.warning("refused", reason=str(exc), first_refused_at=refused_at)
        self._trip(str(exc), lambda breaker: breaker.refused(now, str(exc), pause))

    def _server_fault(self, claimed: Record, exc: ServerFault) -> None:
        """Handle 500, 502 and 503: the request may exist, so the history is searched before the job is sent again."""
        now, pause = self._clock(), self._pause_seconds
        wait = max(HISTORY_DELAY, backoff(len(claimed.sent_in_attempt)), exc.retry_after or 0.0)
        self._ledger.release_after_fault(claimed, str(exc), now + wait, now)
        count("EstimatedSpend", claimed.claimed.charged_usd)  # it may be billed
        logger.warning("the provider failed", reason=str(exc))
        self._trip(str(exc), lambda breaker: breaker.server_fault(now, claimed.job_id, str(exc), pause))

    def _outcome_unknown(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        marked = self._mark_unknown(claimed, str(error))
        now, pause = self._clock(), self._pause_seconds
        self._trip(str(error), lambda breaker: breaker.outcome_unknown(now, pause))
        self._look_up(marked, error)

    def _give_back(self, request: Request) -> None:
        """Return the charge of a request to the budget, after the ledger says that it was not accepted."""
        self._gate.budgets.give_back(request.charged_usd, request.sent_at)

    def leave_probe(self) -> None:
        """Free the probe, so that the next request is the probe."""
        self._gate.breaker.change(lambda breaker: (breaker.end_probe(), None))

    def _trip(self, reason: str, change: Callable[[Breaker], Breaker]) -> None:
        """Count a refusal or a fault in the breaker."""
        breaker = self._gate.breaker.change(lambda state: (changed := change(state), changed))
        if breaker.is_paused(self._clock()):
            logger.error("submitting is paused", reason=reason, until=breaker.open_until)

    def _close_breaker(self, change: Callable[[Breaker], Breaker]) -> None:
        """Close the breaker after a response that shows that the account works. If it was open, dispatch at once."""
        if self._gate.breaker.change(lambda state: (change(state), state.is_open)):
            logger.info("submitting is resumed")
            self._wake_dispatch()

    def _mark_unknown(self, claimed: Record, reason: str) -> Record:
        marked = self._ledger.mark_outcome_unknown(claimed, reason, self._clock())
        count("OutcomeUnknown")
        count("EstimatedSpend", claimed.claimed.charged_usd)  # it may be billed
        return marked

    def _look_up(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        """Search the history for a request of unknown outcome; resume it, or fail the job."""
        request, absent = claimed.claimed, None
        try:
            request_id = self._lookup.find(claimed, request)
        except HistoryUnavailable as exc:
            logger.warning("the history cannot say", reason=str(exc))
            if not exc.final and self._clock() < request.sent_at + CANNOT_SAY:
                raise Deferred(ReasonCode.EARLIER_REQUEST, f"{error}; {exc}", ASK_AGAIN) from exc
            requests = claimed.with_status(request, RequestStatus.UNRESOLVED)
        else:
            if request_id:
                # Being in the history does not show that requests get responses, so the breaker is not changed.
                self._submitted(claimed, request_id)
                return
            requests, absent = claimed.with_status(request, RequestStatus.ABSENT, charged_usd=0.0), request
        logger.error("the outcome of a request is unknown", reason=str(error))
        self.fail(claimed, error, requests, give_back=absent)

    def fail(
        self,
        record: Record,
        error: JobError,
        requests: list[Request] | None = None,
        *,
        give_back: Request | None = None,
    ) -> None:
        """End a job. `requests` replaces its list; the charge of the request `give_back` returns to the budget."""
        logger.warning("failed", error_type=error.type, reason=str(error))
        ended = self._ledger.fail(record, error, self._clock(), requests=requests)
        if give_back:
            self._give_back(give_back)
        self._wait_loop.start_again(ended)
