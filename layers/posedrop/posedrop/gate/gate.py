"""Say when the next jobs may be dispatched, and reserve their times.

One item keeps `until`, the time up to which jobs have been dispatched (`dispatched_until`), and `rank`, the highest
rank among them. Reserving moves `until` on, at most HORIZON seconds ahead: what was dispatched cannot be called back,
so a new key, a new budget or a fairer order counts within that time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posedrop.aws.items import Condition, Items, Refused
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate import rate_limit
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Budget, BudgetStore, Spending, month_item, spending
from posedrop.gate.price import PRICE_ITEM
from posedrop.gate.rate_limit import Permit, RateLimit, RateLimiter, RateLimitState
from posedrop.gate.shared_item import SharedItem
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec

ITEM = "dispatch"
HORIZON = 90.0
"""Seconds ahead for which jobs are dispatched."""
TRIES = 20


@dataclass(frozen=True)
class GateState:
    """All that the gate knows, read at one time.

    until: the time up to which jobs have been dispatched; highest_rank: the highest rank among them.
    """

    limit: RateLimitState
    breaker: Breaker
    spending: Spending
    until: float
    highest_rank: int


@dataclass(frozen=True)
class Opening:
    """When jobs may be sent next, and at most how many.

    interval: seconds between two jobs; probe: the one job tries an account that was refused; closed: why the gate is
    closed, if it is.
    """

    at: float
    most: float
    interval: float
    probe: bool = False
    closed: Closed | None = None


class Gate:
    """The gate's parts and items. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items, limit: RateLimit, budget: Budget, model: ModelSpec = CONSISTENT_CHARACTER) -> None:
        self._items = items
        self._limit = limit
        self._budget = budget
        self._model = model
        self.limiter = RateLimiter(items, limit)
        self.budgets = BudgetStore(items, budget, model)
        self.breaker = SharedItem(items, "breaker", Breaker)

    def permit(self, now: float, wait: float, *, probe: bool) -> Permit | Closed:
        """Take a permit for a submit that can wait for so many seconds, or return why there is none.

        `probe`: the job was dispatched to try whether an open breaker may close.
        """
        breaker = self.breaker.read()
        if breaker.is_paused(now) or (breaker.is_open and not probe):
            return Closed(breaker.open_until, ReasonCode.PAUSED, breaker.reason)
        return self.limiter.permit_submit(now, wait)

    def has_closed(self, now: float) -> bool:
        """Return whether a permit that was taken before may not be used: a 429 or a refusal came meanwhile."""
        limit, breaker = self._items.get(rate_limit.ITEM, self.breaker.key)
        return RateLimitState.of(limit).paused_until > now or self.breaker.of(breaker).is_paused(now)

    def read(self, now: float) -> GateState:
        """Read the state."""
        limit, breaker, month, price, dispatch = self._items.get(
            rate_limit.ITEM, self.breaker.key, month_item(now), PRICE_ITEM, ITEM
        )
        return GateState(
            RateLimitState.of(limit),
            self.breaker.of(breaker),
            spending(month, price, now, self._model),
            float(dispatch.get("until", 0)),
            int(dispatch.get("rank", 0)),
        )

    def opening(self, state: GateState, now: float) -> Opening:
        """Return when the gate lets jobs through next, how many, and why it is closed if it is."""
        over = self._budget.exceeded(state.spending, now)
        closings = [over] if over else []
        if state.limit.paused_until > now:
            closings.append(rate_limit.paused(state.limit))
        if state.breaker.is_open:
            closings.append(Closed(state.breaker.open_until, ReasonCode.PAUSED, state.breaker.reason))
        closed = max(closings, key=lambda closing: closing.until, default=None)
        at = max(now, closed.until) if closed else now
        most = self._budget.affordable(self._budget.at(state.spending, now, at))
        if state.breaker.is_open:
            most = min(most, 0 if state.breaker.probe_until > now else 1)
        return Opening(at, most, self._limit.job_interval(state.limit, now), state.breaker.is_open, closed)

    def reserve(
        self, state: GateState, opening: Opening, now: float, ranks: Sequence[int]
    ) -> tuple[list[float], GateState]:
        """Reserve times for jobs of these ranks, in their order.

        Returns the times, fewer where the budget or HORIZON allows no more, and the state after it.
        """
        for _ in range(TRIES):
            count = min(len(ranks), self.free(state, opening, now))
            if count <= 0:
                break
            if opening.probe:  # one at a time, so it needs no time of its own
                return [opening.at] * self.breaker.change(lambda breaker: breaker.begin_probe(opening.at)), state
            start = max(state.until, opening.at)
            until, highest = start + count * opening.interval, max(*ranks[:count], state.highest_rank)
            try:
                unchanged = Condition("until", "=", state.until, or_absent=not state.until)
                self._items.update(ITEM, values={"until": until, "rank": highest}, when=[unchanged])
            except Refused as refused:
                state = replace(state, until=float(refused.item["until"]), highest_rank=int(refused.item["rank"]))
                continue
            times = [start + number * opening.interval for number in range(count)]
            return times, replace(state, until=until, highest_rank=highest)
        return [], state

    def free(self, state: GateState, opening: Opening, now: float) -> int:
        """Return how many times are free within HORIZON and the budget."""
        start = opening.at if opening.probe else max(state.until, opening.at)
        return max(0, int(min(opening.most, math.floor((now + HORIZON - start) / opening.interval) + 1)))
