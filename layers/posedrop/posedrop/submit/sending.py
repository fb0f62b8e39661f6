"""Send a queued job to the provider, once."""

import uuid
from collections.abc import Callable, Mapping

from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import Conflict, Deferred, InvalidInput, Rejected, SubmitOutcomeUnknown
from posedrop.contract.prepared import Prepared
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate.gate import Gate
from posedrop.segmind.client import GET_TIMEOUTS, Segmind, Timeouts
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.request_body import RequestBody

LONGEST_REQUEST = 36.0
"""Seconds for a request, and at most half of the function's time."""
MARGIN = 1.0
"""Seconds reserved for the ledger and the execution after the request."""
LONG_SLEEP = 1.0
"""After waiting this many seconds for a permit, check again whether the gate has closed."""


class Sending:
    """Sends queued jobs. `clock` and `sleep` are for tests.

    `refresh_credits` is called after a request, if there is time. `submit_timeout_seconds` is the function's timeout
    (SubmitTimeoutSeconds).
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        gate: Gate,
        segmind: Segmind,
        lookup: RequestLookup,
        body: RequestBody,
        outcomes: Outcomes,
        submit_timeout_seconds: float,
        refresh_credits: Callable[[], object],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._segmind = segmind
        self._lookup = lookup
        self._body = body
        self._outcomes = outcomes
        self._timeouts = Timeouts.within(min(LONGEST_REQUEST, submit_timeout_seconds / 2))
        self._refresh_credits = refresh_credits
        self._clock = clock
        self._sleep = sleep

    def send(self, record: Record, remaining: Callable[[], float], *, probe: bool) -> bool:
        """Send a queued job; return False if it was resumed or ended without a request."""
        try:
            record = self._lookup.resolve(record, remaining)
        except (Rejected, SubmitOutcomeUnknown) as exc:
            self._outcomes.fail(record, exc)
            return False
        if record.status is Status.SUBMITTED:
            self._outcomes.resume(record)
            return False
        needed = self._timeouts.total + MARGIN
        try:
            prepared = self._body.prepare(record, remaining)
            if remaining() < needed + LONG_SLEEP:
                raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
            self._wait_for_permit(remaining() - needed, probe=probe)
            body = self._body.make(record, prepared)
        except InvalidInput as exc:
            self._outcomes.fail(record, exc)
            return False
        if probe:
            self._segmind.renew_key()  # there may be a new key
        if remaining() < needed:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        claimed = self._claim(record, prepared)
        self._outcomes.write(claimed, lambda: self._segmind.submit(body, self._timeouts))
        if remaining() > GET_TIMEOUTS.total + MARGIN:
            self._refresh_credits()
        return True

    def _wait_for_permit(self, wait: float, *, probe: bool) -> None:
        while True:
            now = self._clock()
            permit = self._gate.permit(now, wait, probe=probe)
            if isinstance(permit, Closed):
                raise Deferred(permit.code, permit.reason, permit.until - now)
            seconds = max(0.0, permit.at - self._clock())
            self._sleep(seconds)
            wait -= seconds
            if seconds < LONG_SLEEP or not self._gate.has_closed(self._clock()):
                return

    def _claim(self, record: Record, prepared: Mapping[str, Prepared]) -> Record:
        """Charge the budget, claim the job, and record its prepared pictures."""
        now = self._clock()
        charge = self._gate.budgets.charge(now, record.parameters)
        if isinstance(charge, Closed):
            raise Deferred(charge.code, charge.reason, charge.until - now)
        try:
            summary = {name: picture.summary() for name, picture in prepared.items()}
            return self._ledger.claim(record, uuid.uuid4().hex, charge.usd, now, summary)
        except Conflict:
            self._gate.budgets.give_back(charge.usd, charge.at)
            raise
