"""Send a queued job to the provider, once."""

import uuid
from collections.abc import Callable, Mapping

from posedrop.aws.api_key import ApiKey
from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import Conflict, Deferred, InvalidInput, Rejected, SubmitOutcomeUnknown
from posedrop.contract.prepared import Prepared
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.segmind.client import GET_TIMEOUTS, Segmind, Timeouts
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.request_body import RequestBody
from posedrop.submit.wait_loop import WaitLoop

MARGIN = 1.0
"""Seconds reserved for the ledger and the execution after the request."""
LONG_SLEEP = 1.0
"""After a wait of so many seconds for a permit, check whether the gate has closed meanwhile."""


class Sending:
    """Sends queued jobs. `clock` and `sleep` are for tests.

    `account` reads the remaining credits after a request, every few minutes; None never does.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        gate: Gate,
        segmind: Segmind,
        api_key: ApiKey,
        lookup: RequestLookup,
        body: RequestBody,
        outcomes: Outcomes,
        wait_loop: WaitLoop,
        timeouts: Timeouts,
        account: CreditsStore | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._segmind = segmind
        self._api_key = api_key
        self._lookup = lookup
        self._body = body
        self._outcomes = outcomes
        self._wait_loop = wait_loop
        self._timeouts = timeouts
        self._account = account
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
            self._wait_loop.start(record)
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
            self._api_key.renew()  # there may be a new key
        if remaining() < needed:
            raise Deferred(ReasonCode.BUSY, "too little time is left for the request", 1)
        claimed = self._claim(record, prepared)
        self._outcomes.write(claimed, lambda: self._segmind.submit(body, self._timeouts))
        self._refresh_credits(remaining)
        return True

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
        """Charge the budget, claim the job, and record its prepared pictures."""
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

    def _refresh_credits(self, remaining: Callable[[], float]) -> None:
        """Read the remaining credits if there is time."""
        if self._account and remaining() > GET_TIMEOUTS.total + MARGIN:
            self._account.refresh(self._segmind, self._gate.limiter.pause)
