"""The price of a job by its samples and size: learned, and estimated from above while it is unknown."""

import random
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.gate import price
from posedrop.gate.budget import Budget, BudgetStore, Charge
from posedrop.gate.price import LEAST, OVERALL, PriceClass
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.items import MemoryItems
from tests.support import FIRST_PRICE

NOW = 1_795_700_000.0
price_of = partial(price.price_of, model=CONSISTENT_CHARACTER)
learned = partial(price.learned, model=CONSISTENT_CHARACTER)
ONE, FOUR = {"samples": 1}, {"samples": 4}


def sized(width: int, height: int, samples: int = 1) -> dict[str, Any]:
    size = {"custom_width": width, "custom_height": height, "use_input_img_dimension": False}
    return {"samples": samples, **size}


@pytest.mark.parametrize(
    ("parameters", "attribute"),
    [
        ({}, "usd_1_input"),
        ({"samples": 4}, "usd_4_input"),
        (sized(1024, 1024), "usd_1_p0"),
        (sized(1024, 1025), "usd_1_p1"),
        (sized(2048, 2048, 2), "usd_2_p2"),
        (sized(4096, 4096), "usd_1_p4"),
        (sized(8192, 8192), "usd_1_p4"),  # the model makes none, so there is no class for it
        (sized(512, 512), "usd_1_p-2"),
        (sized(64, 64), "usd_1_p-4"),
        ({"samples": "many", "use_input_img_dimension": False, "custom_width": None}, "usd_1_input"),
    ],
)
def test_the_class_of_a_job(parameters: dict[str, Any], attribute: str) -> None:
    assert PriceClass.of(parameters, CONSISTENT_CHARACTER).attribute == attribute


def test_before_the_first_cost_it_is_the_average_of_a_request() -> None:
    assert price_of({}, ONE) == price_of({}, FOUR) == FIRST_PRICE
    assert price_of({OVERALL: 0.05}, FOUR) == 0.2  # learned before there were classes


def test_each_class_has_its_own_price() -> None:
    item: dict[str, float] = {}
    for parameters, cost in ((ONE, 0.03), (FOUR, 0.04), (sized(2048, 2048), 0.3)):
        item |= learned(item, parameters, cost)
    assert (price_of(item, ONE), price_of(item, FOUR), price_of(item, sized(2048, 2000))) == (0.03, 0.04, 0.3)
    item |= learned(item, FOUR, 0.09)
    assert price_of(item, FOUR) == pytest.approx(0.05)  # a fifth of the way


def test_a_class_that_is_not_known_costs_at_most_in_proportion() -> None:
    item = learned({}, {"samples": 2}, 0.04)
    assert price_of(item, FOUR) == 0.08
    assert price_of(item, ONE) == 0.04  # perhaps a request costs the same whatever it makes
    assert price_of(item, sized(2048, 2048, 2)) == 0.16
    item |= learned(item, ONE, 0.03)
    assert price_of(item, {"samples": 3}) == 0.06  # the lower of 2 x 0.03 x 3/2 and 3 x 0.03
    assert price_of(item, sized(512, 512)) == 0.03


@pytest.mark.parametrize(
    ("parameters", "usd"), [(sized(512, 512), 0.01), (ONE, 0.04), (sized(1024, 1024), 0.04), (sized(2048, 2048), 0.16)]
)
def test_after_a_small_image_a_larger_one_is_charged_in_proportion(parameters: dict[str, Any], usd: float) -> None:
    assert price_of(learned({}, sized(512, 512), 0.01), parameters) == usd


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_no_price_is_zero(costs: list[float]) -> None:
    item: dict[str, float] = {}
    for cost in costs:
        item |= learned(item, ONE, cost)
        assert LEAST <= price_of(item, ONE) <= 1000


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_overspent_by_no_more_than_what_is_in_flight(seed: int, per_sample: bool) -> None:
    """Real costs that vary by a fifth, of jobs of any class, ten in flight at once."""
    draw = random.Random(seed)
    budget, items = 10.0, MemoryItems()
    store = BudgetStore(items, Budget(daily=budget), CONSISTENT_CHARACTER)
    flight: list[tuple[Charge, dict[str, Any], float]] = []
    sent, spent = 0, 0.0
    while True:
        parameters = draw.choice([ONE, {"samples": 2}, FOUR, sized(2048, 2048)])
        charge = store.charge(NOW, parameters)
        if not isinstance(charge, Charge):
            break
        base = 0.05 * (parameters["samples"] if per_sample else 1) * (4 if "custom_width" in parameters else 1)
        flight.append((charge, parameters, round(base * draw.uniform(0.9, 1.1), 6)))
        sent += 1
        if len(flight) == 10:
            charged, known, cost = flight.pop(0)
            store.settle(charged, cost, NOW, known)
            spent += cost
    expected = spent + sum(cost for _, _, cost in flight)
    more = sum(max(0.0, cost - charged.usd) for charged, _, cost in flight)
    assert expected <= budget + more + 1e-9
    assert more < 0.12
    assert expected > budget * 0.9, "and the budget is used"
    assert sent > 40
