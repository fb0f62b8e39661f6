"""Decide when the next jobs may be dispatched, and reserve their times.

One item stores `until`, the time up to which jobs have been dispatched, and `rank`, the highest rank among them. A
reservation moves `until` forward, at most HORIZON seconds ahead of now. Dispatched jobs cannot be recalled, so a new
key, a new budget or another order takes effect within that time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posedrop.aws.items import Condition, Items
from posedrop.contract.errors import WriteRefused
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Budget, BudgetStore, Spending, month_item, spending
from posedrop.gate.credits import CreditsStore
from posedrop.gate.price import PRICE_ITEM
from posedrop.gate.rate_limit import LIMIT_ITEM, Permit, RateLimit, RateLimiter, RateLimitState, paused
from posedrop.gate.shared_item import SharedItem
from posedrop.segmind.model import ModelSpec

ITEM = "dispatch"
HORIZON = 90.0
"""Jobs are dispatched at most this many seconds ahead."""
TRIES = 20


@dataclass(frozen=True)
class GateState:
    """The state of the gate, read at one time.

    until: the time up to which jobs have been dispatched (seconds since the epoch). highest_rank: the highest rank
    among them.
    """

    limit: RateLimitState
    breaker: Breaker
    spending: Spending
    until: float
    highest_rank: int


@dataclass(frozen=True)
class Opening:
    """When the next jobs may be sent (`at`), and at most how many (`most`).

    - interval: seconds between two jobs.
    - probe: whether the next job is the breaker's probe.
    - closed: why the gate is closed, or None.
    """

    at: float
    most: float
    interval: float
    probe: bool = False
    closed: Closed | None = None


class Gate:
    """The rate limit, the breaker and the budget, and the credits that are left on the account.

    Errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, items: Items, limit: RateLimit, budget: Budget, model: ModelSpec) -> None:
        self._items = items
        self._limit = limit
        self._budget = budget
        self._model = model
        self.limiter = RateLimiter(items, limit)
        self.budgets = BudgetStore(items, budget, model)
        self.breaker = SharedItem(items, "breaker", Breaker)
        self.credits = CreditsStore(items, model)

    def permit(self, now: float, wait: float, *, probe: bool) -> Permit | Closed:
        """Reserve a permit for a submit that can wait `wait` seconds, or return why there is none and until when.

        `probe`: the job was dispatched as the breaker's probe.
        """
        breaker = self.breaker.read()
        if breaker.is_paused(now) or (breaker.is_open and not probe):
            return Closed(breaker.open_until, ReasonCode.PAUSED, breaker.reason)
        return self.limiter.permit_submit(now, wait)

    def has_closed(self, now: float) -> bool:
        """Return whether the gate has closed since a permit was reserved, because of a 429 or a refusal."""
        limit, breaker = self._items.get(LIMIT_ITEM, self.breaker.key)
        return RateLimitState.of(limit).paused_until > now or self.breaker.of(breaker).is_paused(now)

    def read(self, now: float) -> GateState:
        """Read the state of the gate with one call."""
        limit, breaker, month, price, dispatch = self._items.get(
            LIMIT_ITEM, self.breaker.key, month_item(now), PRICE_ITEM, ITEM
        )
        return GateState(
            RateLimitState.of(limit),
            self.breaker.of(breaker),
            spending(month, price, now, self._model),
            float(dispatch.get("until", 0)),
            int(dispatch.get("rank", 0)),
        )

    def opening(self, state: GateState, now: float) -> Opening:
        """Return when the next jobs may be sent, how many, and why the gate is closed if it is."""
        over = self._budget.exceeded(state.spending, now)
        closings = [over] if over else []
        if state.limit.paused_until > now:
            closings.append(paused(state.limit))
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
        """Reserve times for jobs with these ranks, in their order. Return the times and the new state.

        There are fewer times than ranks if the budget or HORIZON allows no more.
        """
        for _ in range(TRIES):
            count = min(len(ranks), self.free(state, opening, now))
            if count <= 0:
                break
            if opening.probe:  # one probe at a time: the breaker reserves it
                return [opening.at] * self.breaker.change(lambda breaker: breaker.begin_probe(opening.at)), state
            start = max(state.until, opening.at)
            until, highest = start + count * opening.interval, max(*ranks[:count], state.highest_rank)
            try:
                unchanged = Condition("until", "=", state.until, or_absent=not state.until)
                self._items.update(ITEM, values={"until": until, "rank": highest}, when=[unchanged])
            except WriteRefused as refused:
                state = replace(state, until=float(refused.item["until"]), highest_rank=int(refused.item["rank"]))
                continue
            times = [start + number * opening.interval for number in range(count)]
            return times, replace(state, until=until, highest_rank=highest)
        return [], state

    def free(self, state: GateState, opening: Opening, now: float) -> int:
        """Return how many times can be reserved within HORIZON and the budget."""
        start = opening.at if opening.probe else max(state.until, opening.at)
        return max(0, int(min(opening.most, math.floor((now + HORIZON - start) / opening.interval) + 1)))
