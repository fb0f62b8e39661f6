"""Find out whether earlier requests of a job exist, before another one is paid.

Each request in the record's list is resolved on its own, and the result is stored in the record. So a lookup may take
several invocations. The provider's history has three results: found, absent, or unavailable.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Record
from posedrop.contract.errors import (
    Deferred,
    HistoryUnavailable,
    HistoryUnfinished,
    Rejected,
    RescueDeferred,
    StatusUnavailable,
    SubmitOutcomeUnknown,
)
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import DAY
from posedrop.gate.gate import Gate
from posedrop.segmind.client import FAILED, Segmind
from posedrop.segmind.history import History
from posedrop.segmind.requests import MAY_EXIST, Request, RequestStatus
from posedrop.segmind.rescue import Found, Rescue

logger = Logger(child=True)

LONGEST_TRIED = DAY
"""Seconds after which an attempt ends that still meets the same refusal or fault."""
HISTORY_DELAY = 60.0
"""Seconds that a request may take to appear in the provider's history. It is not searched earlier."""
CANNOT_SAY = 600.0
"""Seconds after a request during which an unavailable history is searched again."""
ASK_AGAIN = 30.0
"""Seconds between two tries of an unavailable history."""
GONE_APART = 30.0
"""A request is gone if two polls, at least this many seconds apart, get 404 or 410."""
LOOKUP_SECONDS = 25.0
"""The longest that one step of a lookup takes, in seconds."""
RESCUE_SECONDS = 10.0
"""The share of LOOKUP_SECONDS for finding the pictures of a known request id in the history."""
MOST_FAULTS = 8
"""An attempt ends after this many requests with a 5xx response."""
MOST_UNRESOLVED = 3
"""The most requests of an attempt that may stay unresolved because the history was unavailable."""


class RequestLookup:
    """Resolves the requests in a record's list. `clock` is for tests.

    `history` finds requests by their job's name. It is None if that is impossible. `rescue` finds the pictures of a
    request id.
    """

    def __init__(
        self,
        ledger: Ledger,
        segmind: Segmind,
        gate: Gate,
        history: History | None,
        rescue: Rescue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._segmind = segmind
        self._gate = gate
        self._history = history
        self._rescue = rescue
        self._clock = clock

    def resolve(self, record: Record, remaining: Callable[[], float]) -> Record:
        """Resolve all requests of a queued job, the newest first.

        Returns the record: SUBMITTED if an earlier request is resumed, or else QUEUED with nothing left to resolve.

        Raises Deferred if the lookup must continue later. Raises SubmitOutcomeUnknown if the history is unavailable and
        nobody has agreed to pay again. If the provider failed too often, raises Rejected, or SubmitOutcomeUnknown if
        some of the requests are unresolved.
        """
        while True:
            open_requests = [found for found in record.requests if found.status in (*MAY_EXIST, RequestStatus.ACCEPTED)]
            if not open_requests:
                check_faults(record, self._clock())
                return record
            if remaining() < LOOKUP_SECONDS:
                raise Deferred(
                    ReasonCode.EARLIER_REQUEST, "the lookup of an earlier request continues in the next invocation", 1
                )
            request = open_requests[-1]
            ask = self._poll if request.status is RequestStatus.ACCEPTED else self._search
            record = ask(record, request)
            if record.request_id:
                logger.info("an earlier request is resumed", request_id=record.request_id)
                return record

    def find(self, record: Record, request: Request) -> str | None:
        """Search the history for a request of unknown outcome; return its id, or None if it is absent.

        Raises Deferred if it is too early or the search is unfinished, and HistoryUnavailable.
        """
        if self._history is None:
            raise HistoryUnavailable("the history is turned off, or the images were in the request", final=True)
        age = self._clock() - request.sent_at
        if age < HISTORY_DELAY:
            raise Deferred(ReasonCode.EARLIER_REQUEST, "the provider's history is asked next", HISTORY_DELAY - age)
        name = record.execution_name_of(request)
        try:
            return self._history.find(name, request.sent_at, request.history_page)
        except HistoryUnfinished as exc:
            requests = record.with_status(request, request.status, history_page=exc.page)
            self._ledger.learned(record, requests, self._clock())
            raise Deferred(ReasonCode.EARLIER_REQUEST, str(exc), 1) from exc

    def _search(self, record: Record, request: Request) -> Record:
        """Search the history for a request that may exist, and store the result."""
        own = request.attempt == record.attempt
        now = self._clock()
        try:
            request_id = self.find(record, request)
        except HistoryUnavailable as exc:
            logger.warning("the history cannot say", reason=str(exc))
            self._wait_for_history(record, request, exc)
            return self._ledger.learned(record, record.with_status(request, RequestStatus.UNRESOLVED), now)
        if request_id is None:
            learned = self._ledger.learned(
                record, record.with_status(request, RequestStatus.ABSENT, charged_usd=0.0), now
            )
            # Not before: another function may have learned it first.
            self._gate.budgets.give_back(request.charged_usd, request.sent_at)
            return learned
        if own:
            return self._ledger.adopt(record, request, request_id, now)
        return self._ledger.learned(
            record, record.with_status(request, RequestStatus.ACCEPTED, request_id=request_id), now
        )

    def _wait_for_history(self, record: Record, request: Request, exc: HistoryUnavailable) -> None:
        """Return if the lookup may continue without the history, else raise Deferred or SubmitOutcomeUnknown."""
        now = self._clock()
        if request.attempt == record.attempt:
            left = request.sent_at + CANNOT_SAY - now
            if left > 0:
                seconds = left if exc.final else min(left, ASK_AGAIN)
                raise Deferred(ReasonCode.EARLIER_REQUEST, f"the last request may exist: {exc}", seconds) from exc
        elif not record.buy_again:
            if exc.final or now - record.queued_at > LONGEST_TRIED:
                raise SubmitOutcomeUnknown(
                    f"attempt {request.attempt} may have been billed, and the provider's history cannot say: {exc}. "
                    f"To pay again all the same: retry --buy-again"
                ) from exc
            raise Deferred(ReasonCode.EARLIER_REQUEST, f"an earlier request may exist: {exc}", ASK_AGAIN) from exc

    def _poll(self, record: Record, request: Request) -> Record:
        """Poll an earlier request whose id is known, and resume it if it is running or has succeeded."""
        request_id = str(request.request_id)
        now = self._clock()
        try:
            state = self._segmind.status(request_id).state
        except StatusUnavailable as exc:
            if exc.status == 429:
                self._gate.limiter.pause(now, exc.retry_after)
            if not exc.gone:
                raise Deferred(ReasonCode.EARLIER_REQUEST, f"an earlier request is polled first: {exc}", 30) from exc
            first = now if request.not_found_at is None else request.not_found_at
            gone_at = max(first + GONE_APART, request.sent_at + HISTORY_DELAY)
            if now < gone_at:
                seen = record.with_status(request, request.status, not_found_at=first)
                self._ledger.learned(record, seen, now)
                left = gone_at - now + 1
                raise Deferred(ReasonCode.EARLIER_REQUEST, "an earlier request is polled once more", left) from exc
            return self._gone(record, request, request_id, first)
        if state == FAILED:
            return self._ledger.learned(record, record.with_status(request, RequestStatus.FAILED), now)
        return self._ledger.adopt(record, request, request_id, now)

    def _gone(self, record: Record, request: Request, request_id: str, first: float) -> Record:
        """Resume a request whose result is gone if the history has its pictures, which `deliver` then fetches."""
        now = self._clock()
        try:
            # One picture is enough to resume it. `deliver` searches for all of them.
            found = self._rescue.find(replace(request, request_id=request_id), 1, RESCUE_SECONDS)
        except RescueDeferred as exc:
            if now < first + CANNOT_SAY:
                text = f"the pictures of an earlier request may still be at the provider: {exc}"
                raise Deferred(ReasonCode.EARLIER_REQUEST, text, ASK_AGAIN) from exc
            logger.warning("the history cannot say", reason=str(exc))
            found = Found()
        if found.sources:
            return self._ledger.adopt(record, request, request_id, now)
        cost_usd = request.cost_usd if found.cost_usd is None else found.cost_usd
        return self._ledger.learned(record, record.with_status(request, RequestStatus.GONE, cost_usd=cost_usd), now)


def check_faults(record: Record, now: float) -> None:
    """Raise Rejected or SubmitOutcomeUnknown if the provider failed an attempt too often, or for too long. Pure."""
    faults = record.sent_in_attempt
    unresolved = sum(request.status is RequestStatus.UNRESOLVED for request in faults)
    old = bool(faults) and now - faults[0].sent_at >= LONGEST_TRIED
    if len(faults) < MOST_FAULTS and unresolved <= MOST_UNRESOLVED and not old:
        return
    text = f"the provider failed {len(faults)} times: {record.reason or 'no reason'}"
    if unresolved:
        raise SubmitOutcomeUnknown(f"{text}; its history could not say of {unresolved} whether they were accepted")
    raise Rejected(f"{text}; its history has none of these requests")
