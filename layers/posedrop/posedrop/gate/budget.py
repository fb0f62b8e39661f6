"""Keep the stack's spending within DailyBudget and MonthlyBudget (USD, days and months of UTC).

Each month has one item with the spending of the month and of each day. A job is charged when it is claimed, to the day
of the claim, with the price learned from earlier jobs. When it is delivered, the charge is replaced by the real cost.
If the provider did not accept the request, the charge is given back. These writes are not in a transaction with the
ledger's: if a function dies in between, the budget is wrong by the price of one job.
"""

import calendar
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from posedrop.aws.items import Condition, Item, Items
from posedrop.contract.errors import WriteRefused
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.contract.times import DAY
from posedrop.gate.price import DIGITS, OVERALL, PRICE_ITEM, learned, price_of
from posedrop.segmind.model import ModelSpec


@dataclass(frozen=True)
class Charge:
    """The charge of one request: `usd`, on the day of `at` (seconds since the epoch)."""

    usd: float
    at: float


@dataclass(frozen=True)
class Spending:
    """The spending of a day and of its month so far, and the average price of a job (USD).

    delivered_at: when the last job was delivered (seconds since the epoch), or 0.
    """

    day: float
    month: float
    price: float
    delivered_at: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The budgets in the stack's parameters, in USD. 0 means no budget."""

    daily: float = 0.0
    monthly: float = 0.0

    def exceeded(self, spending: Spending, now: float) -> Closed | None:
        """Return None if another job can be paid for, or else why not and until when."""
        if self.monthly and round(spending.month + spending.price, DIGITS) > self.monthly:
            spent = f"the month's budget (MonthlyBudget) is spent: {spending.month:.2f} of {self.monthly:.2f} USD"
            return Closed(_next_month(now), ReasonCode.MONTHLY_BUDGET, spent)
        if self.daily and round(spending.day + spending.price, DIGITS) > self.daily:
            spent = f"the day's budget (DailyBudget) is spent: {spending.day:.2f} of {self.daily:.2f} USD"
            return Closed(_next_day(now), ReasonCode.DAILY_BUDGET, spent)
        return None

    def affordable(self, spending: Spending) -> float:
        """Return how many more jobs can be paid for. Without a budget it is infinity."""
        left = [self.daily - spending.day] * bool(self.daily) + [self.monthly - spending.month] * bool(self.monthly)
        return max(0, math.floor(min(left) / spending.price + 1e-9)) if left else math.inf

    def at(self, spending: Spending, now: float, later: float) -> Spending:
        """Return the spending at a `later` time if nothing is spent until then."""
        day = 0.0 if later >= _next_day(now) else spending.day
        month = 0.0 if later >= _next_month(now) else spending.month
        return replace(spending, day=day, month=month)


class BudgetStore:
    """The budget's items in the table. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items, budget: Budget, model: ModelSpec) -> None:
        self._items = items
        self._budget = budget
        self._model = model

    def read(self, now: float) -> Spending:
        """Read the spending of this day and this month, and the average price of a job."""
        month, price = self._items.get(month_item(now), PRICE_ITEM)
        return spending(month, price, now, self._model)

    def prices(self) -> Callable[[Mapping[str, Any]], float]:
        """Read the prices. Return a function from a job's parameters to its expected cost (USD)."""
        return partial(price_of, self._items.get(PRICE_ITEM)[0], model=self._model)

    def charge(self, now: float, parameters: Mapping[str, Any] | None = None) -> Charge | Closed:
        """Charge one job, or return why it cannot be paid for, and until when."""
        price = self.prices()(parameters or {})
        over = self._budget.exceeded(Spending(0.0, 0.0, price), now)  # the whole budget is less than one job
        if over:
            return over
        bounds = ((day_attribute(now), self._budget.daily), ("spent", self._budget.monthly))
        when = [
            Condition(attribute, "<=", round(limit - price, DIGITS), or_absent=True)
            for attribute, limit in bounds
            if limit
        ]
        try:
            self._add(now, price, when)
        except WriteRefused as refused:
            over = self._budget.exceeded(spending(refused.item, {"usd": price}, now, self._model), now)
            return over or Closed(now + 1, ReasonCode.DAILY_BUDGET, "the budget is in use")
        return Charge(price, now)

    def give_back(self, usd: float, at: float) -> None:
        """Give back what a request was charged (USD) on the day of `at`, after the provider did not accept it.

        Write the ledger first: then no other function gives it back too.
        """
        if usd:
            self._add(at, -usd)

    def settle(
        self,
        charge: Charge,
        cost: float | None,
        now: float,
        parameters: Mapping[str, Any] | None = None,
        *,
        delivered: bool = True,
    ) -> None:
        """Replace the charge by the request's real cost (USD), if it is known, and learn the price from it.

        `delivered`: the job was delivered just now.
        """
        values = {"delivered_at": now} if delivered else {}
        if cost is not None:
            self._add(charge.at, round(cost - charge.usd, DIGITS))
            values |= learned(self._items.get(PRICE_ITEM)[0], parameters or {}, cost, self._model)
        if values:
            self._items.update(PRICE_ITEM, values=values)

    def _add(self, at: float, usd: float, when: Sequence[Condition] = ()) -> None:
        self._items.update(month_item(at), add={"spent": usd, day_attribute(at): usd}, when=when)


def month_item(at: float) -> str:
    """Return the key of a month's item, such as `budget/2026-11`."""
    return f"budget/{datetime.fromtimestamp(at, UTC):%Y-%m}"


def day_attribute(at: float) -> str:
    """Return the attribute of a day in its month's item, such as `day_07`."""
    return f"day_{datetime.fromtimestamp(at, UTC):%d}"


def spending(month: Item, price: Item, now: float, model: ModelSpec) -> Spending:
    """Return the spending from the month's item and the price item. Both may be empty."""
    day, whole = (float(month.get(name, 0)) for name in (day_attribute(now), "spent"))
    return Spending(day, whole, float(price.get(OVERALL, model.first_price)), float(price.get("delivered_at", 0)))


def _next_day(now: float) -> float:
    return (now // DAY + 1) * DAY


def _next_month(now: float) -> float:
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.timestamp() + calendar.monthrange(first.year, first.month)[1] * DAY
