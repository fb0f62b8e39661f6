"""DailyBudget and MonthlyBudget: charged, given back, settled."""

import random
from collections import deque
from datetime import UTC, datetime

import pytest

from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.gate.budget import Budget, BudgetStore, Charge, Spending
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.items import MemoryItems
from tests.support import FIRST_PRICE

DAY = 86400.0
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def store(daily: float = 0.0, monthly: float = 0.0, items: MemoryItems | None = None) -> BudgetStore:
    return BudgetStore(items or MemoryItems(), Budget(daily, monthly), CONSISTENT_CHARACTER)


def charges(found: BudgetStore, now: float) -> int:
    """How many jobs can be charged until none can be paid for."""
    count = 0
    while isinstance(found.charge(now), Charge):
        count += 1
        assert count < 1000
    return count


def test_a_budget_is_used_to_its_end_and_never_over_it() -> None:
    assert charges(store(daily=4 * FIRST_PRICE), NOW) == 4  # in floats four times the price is a little more than that
    assert charges(store(daily=1.0), NOW) == 34
    assert charges(store(monthly=1.0), NOW) == 34


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_a_budget_of_exactly_some_jobs_price_pays_for_all_of_them(period: str, jobs: int) -> None:
    """The charge, the gate before the last job, and how many jobs the gate dispatches agree."""
    budget = Budget(**{period: round(jobs * FIRST_PRICE, 6)})
    found = BudgetStore(MemoryItems(), budget, CONSISTENT_CHARACTER)
    for left in range(jobs, 0, -1):
        assert budget.affordable(found.read(NOW)) == left
        assert budget.exceeded(found.read(NOW), NOW) is None
        assert isinstance(found.charge(NOW), Charge)
    assert budget.affordable(found.read(NOW)) == 0
    assert budget.exceeded(found.read(NOW), NOW)
    assert isinstance(found.charge(NOW), Closed)


@pytest.mark.parametrize("budget", [Budget(daily=0.01), Budget(monthly=0.01)])
def test_a_budget_of_less_than_one_job_pays_for_none(budget: Budget) -> None:
    items = MemoryItems()
    assert isinstance(BudgetStore(items, budget, CONSISTENT_CHARACTER).charge(NOW), Closed)
    assert items.writes == 0


def test_before_the_first_job_nothing_is_spent_and_nothing_was_delivered() -> None:
    spending = store().read(NOW)
    assert spending == Spending(day=0.0, month=0.0, price=FIRST_PRICE)
    assert spending.delivered_at == 0


def test_a_job_that_is_refused_over_a_fraction_of_a_charge_is_tried_again_soon() -> None:
    """Six decimals are stored. If another program has stored more, the charge may be refused though a job is left."""
    items = MemoryItems()
    found = store(daily=2 * FIRST_PRICE, items=items)
    found.give_back(-FIRST_PRICE - 1e-9, NOW)
    over = found.charge(NOW)
    assert isinstance(over, Closed)
    assert NOW < over.until <= NOW + 5


def test_without_a_budget_nothing_is_refused_but_all_is_counted() -> None:
    found = store()
    for _ in range(50):
        assert found.charge(NOW) == Charge(FIRST_PRICE, NOW)
    assert (found.read(NOW).day, found.read(NOW).month) == pytest.approx((50 * FIRST_PRICE, 50 * FIRST_PRICE))


def test_a_spent_day_waits_for_midnight_and_a_spent_month_for_the_next() -> None:
    items = MemoryItems()
    found = store(daily=0.05, monthly=0.1, items=items)
    found.charge(NOW)
    over = found.charge(NOW)
    assert over == Closed(
        MIDNIGHT, ReasonCode.DAILY_BUDGET, "the day's budget (DailyBudget) is spent: 0.03 of 0.05 USD"
    )
    assert isinstance(found.charge(MIDNIGHT), Charge)
    raised = store(monthly=0.08, items=items)
    assert raised.charge(MIDNIGHT) == Closed(
        DECEMBER, ReasonCode.MONTHLY_BUDGET, "the month's budget (MonthlyBudget) is spent: 0.06 of 0.08 USD"
    )
    assert isinstance(raised.charge(DECEMBER), Charge)


def test_a_raised_budget_counts_at_once() -> None:
    items = MemoryItems()
    charges(store(daily=0.1, items=items), NOW)
    assert charges(store(daily=0.2, items=items), NOW) == 3


def test_a_charge_is_given_back_to_the_day_it_was_made() -> None:
    found = store(daily=0.03)
    charge = found.charge(NOW)
    assert isinstance(charge, Charge)
    found.give_back(charge.usd, charge.at)
    assert found.read(NOW).day == found.read(NOW).month == 0
    assert isinstance(found.charge(NOW), Charge)


def test_giving_back_nothing_writes_nothing() -> None:
    items = MemoryItems()
    store(items=items).give_back(0.0, NOW)
    assert items.writes == 0


def test_a_delivered_job_is_settled_on_the_day_of_its_claim_and_teaches_the_price() -> None:
    found = store()
    charge = found.charge(NOW)
    assert isinstance(charge, Charge)
    found.settle(charge, 0.05, NOW + 40)
    assert found.read(NOW) == Spending(0.05, 0.05, 0.05, NOW + 40)  # the first known cost is the price
    again = found.charge(NOW)
    assert isinstance(again, Charge)
    found.settle(again, 0.1, NOW + 80)
    spending = found.read(NOW)
    assert (spending.day, spending.month, spending.price) == pytest.approx((0.15, 0.15, 0.06))


def test_a_delivery_without_a_known_cost_leaves_the_charge_and_the_price() -> None:
    found = store()
    charge = found.charge(NOW)
    assert isinstance(charge, Charge)
    found.settle(charge, None, NOW + 40)
    assert found.read(NOW) == Spending(FIRST_PRICE, FIRST_PRICE, FIRST_PRICE, NOW + 40)
    found.settle(charge, 0.05, NOW + 80)
    assert found.read(NOW).price == 0.05


@pytest.mark.parametrize("seed", range(5))
def test_real_costs_exceed_the_budget_by_what_was_in_flight_at_most(seed: int) -> None:
    """A job costs up to three times what it was charged; eight at a time are charged and not settled yet."""
    draws = random.Random(seed)
    found, in_flight, cost = store(daily=5.0), deque[Charge](), 0.0
    overshoot = 0.0
    while isinstance(charge := found.charge(NOW), Charge):
        in_flight.append(charge)
        if len(in_flight) == 8:
            paid = draws.uniform(1, 3) * FIRST_PRICE
            found.settle(in_flight.popleft(), paid, NOW)
            cost += paid
    for left in in_flight:
        paid = draws.uniform(1, 3) * FIRST_PRICE
        found.settle(left, paid, NOW)
        cost += paid
        overshoot += max(0.0, paid - left.usd)
    assert found.read(NOW).day == pytest.approx(cost)
    assert 5.0 - 3 * FIRST_PRICE <= cost <= 5.0 + overshoot + 1e-9


def test_a_cost_of_zero_does_not_make_the_budget_endless() -> None:
    found = store()
    found.settle(Charge(FIRST_PRICE, NOW), 0.0, NOW)
    assert found.read(NOW).price > 0


def test_how_many_jobs_can_be_paid_for() -> None:
    spending = Spending(day=0.9, month=5.0, price=0.03)
    assert Budget().affordable(spending) == float("inf")
    assert Budget(daily=1.0).affordable(spending) == 3
    assert Budget(daily=1.0, monthly=5.02).affordable(spending) == 0
    assert Budget(daily=0.5).affordable(spending) == 0


def test_what_will_have_been_spent_when_the_gate_opens() -> None:
    spending = Spending(day=1.0, month=5.0, price=0.03)
    assert Budget().at(spending, NOW, NOW + 1) == spending
    assert Budget().at(spending, NOW, MIDNIGHT) == Spending(0.0, 5.0, 0.03)
    assert Budget().at(spending, NOW, DECEMBER) == Spending(0.0, 0.0, 0.03)
