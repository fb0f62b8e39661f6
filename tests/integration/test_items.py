"""The items of the gate and the line behave the same on moto's DynamoDB, in memory and in the simulation."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from bench.simulation.dynamodb import Client, Meter, Table
from bench.simulation.engine import Simulation
from bench.simulation.template import indexes
from posedrop.aws.items import Condition, Items
from posedrop.aws.places import DUE, IN_LINE, LINE_INDEX, due, in_line
from posedrop.contract.errors import TransientFault, WriteRefused
from posedrop.contract.times import rfc3339
from posedrop.gate.breaker import Breaker
from posedrop.gate.budget import Budget, BudgetStore, Charge
from posedrop.gate.gate import Gate
from posedrop.gate.rate_limit import Permit, RateLimit, RateLimiter
from posedrop.gate.shared_item import SharedItem
from posedrop.line.line import Line
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.items import MemoryItems
from tests.support import FIRST_PRICE

NOW = 1_800_000_000.123456
LIMIT = RateLimit(50)


@pytest.fixture(params=["moto", "memory", "simulated"])
def items(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryItems()
        return
    if request.param == "simulated":
        simulation = Simulation(1, NOW)
        table = Table(simulation, "job_id", {LINE_INDEX: replace(indexes()[LINE_INDEX], lag=0)})
        yield Items(Client(simulation, table, Meter(), timed=False), "jobs")  # type: ignore[arg-type]
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        dynamodb = boto3.client("dynamodb", region_name="eu-central-1")
        dynamodb.create_table(
            TableName="jobs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("job_id", "stands", "place")
            ],
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": LINE_INDEX,
                    "KeySchema": [
                        {"AttributeName": "stands", "KeyType": "HASH"},
                        {"AttributeName": "place", "KeyType": "RANGE"},
                    ],
                    "Projection": {
                        "ProjectionType": "INCLUDE",
                        "NonKeyAttributes": ["rank", "queued_at", "dispatch_number"],
                    },
                }
            ],
        )
        yield Items(dynamodb, "jobs")


def refused(items: Any, key: str, **change: Any) -> Any:
    with pytest.raises(WriteRefused) as caught:
        items.update(key, **change)
    return caught.value.item


def test_an_item_is_made_changed_and_read(items: Any) -> None:
    assert items.get("a", "b") == [{}, {}]
    made = items.update("a", values={"x": "1", "y": 2}, add={"n": 0.1})
    assert {name: made[name] for name in "xyn"} == {"x": "1", "y": 2, "n": 0.1}
    assert items.update("a", add={"n": 1}, remove=["x"]) == {"n": 1.1}
    assert items.get("b", "a") == [{}, {"job_id": "a", "y": 2, "n": 1.1}]


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [("=", 5, True), ("=", 6, False), ("<", 5, False), ("<=", 5, True), (">", 4.5, True), (">=", 5.5, False)],
)
def test_a_write_holds_to_its_conditions(items: Any, comparison: Any, value: float, holds: bool) -> None:
    items.update("a", values={"n": 5, "x": "1"})
    change: dict[str, Any] = {"values": {"x": "2"}, "when": [Condition("n", comparison, value)]}
    if holds:
        assert items.update("a", **change) == {"x": "2"}
    else:
        assert refused(items, "a", **change) == {"job_id": "a", "n": 5, "x": "1"}
        assert items.get("a")[0]["x"] == "1"


def test_what_is_absent_fulfils_a_condition_only_if_it_says_so(items: Any) -> None:
    assert refused(items, "a", values={"n": 1}, when=[Condition("n", "<", 9)]) == {}
    items.update("a", values={"n": 1}, when=[Condition("n", "<", 9, or_absent=True)])
    assert refused(items, "a", values={"n": 2}, when=[Condition("n", ">", 9, or_absent=True)]) == {
        "job_id": "a",
        "n": 1,
    }


def test_the_limit_is_kept(items: Any) -> None:
    limiter = RateLimiter(items, LIMIT)
    times = [taken.at for _ in range(5) if isinstance(taken := limiter.permit_submit(NOW), Permit)]
    assert times == pytest.approx([NOW + number * LIMIT.interval for number in range(5)], abs=1e-5)
    until = limiter.pause(NOW, None)
    assert limiter.read().counts_all(LIMIT, until)
    assert limiter.pause(NOW + 1, 30) == NOW + 31
    assert isinstance(limiter.permit_poll(NOW + 31), Permit)


def test_the_budget_is_kept(items: Any) -> None:
    store = BudgetStore(items, Budget(daily=4 * FIRST_PRICE, monthly=5 * FIRST_PRICE), CONSISTENT_CHARACTER)
    charges = [store.charge(NOW) for _ in range(5)]
    assert [isinstance(charge, Charge) for charge in charges] == [True] * 4 + [False]
    store.give_back(FIRST_PRICE, NOW)
    assert isinstance(store.charge(NOW), Charge)
    store.settle(Charge(FIRST_PRICE, NOW), 0.01, NOW)
    assert store.read(NOW).day == store.read(NOW).month == pytest.approx(3 * FIRST_PRICE + 0.01)
    assert store.read(NOW).price == 0.01


def test_a_job_moves_through_the_line(items: Any) -> None:
    line, gate = Line(items), Gate(items, LIMIT, Budget(), CONSISTENT_CHARACTER)
    assert line.is_empty()
    for number in range(3):
        rank = line.rank("hero/one", gate.read(NOW).highest_rank, NOW)
        queued = {"status": "QUEUED", "rank": rank, "queued_at": rfc3339(NOW + number)}
        items.update(f"job-{number}", values={**queued, **in_line(rank, NOW + number)})
    head = line.head(2)
    assert [(entry.job_id, entry.rank, entry.stands) for entry in head] == [
        ("job-0", 1, IN_LINE),
        ("job-1", 2, IN_LINE),
    ]
    assert line.before(head[1].place) == 1
    state = gate.read(NOW)
    times, state = gate.reserve(state, gate.opening(state, NOW), NOW, [1, 2])
    assert times == pytest.approx([NOW, NOW + LIMIT.interval])
    assert gate.read(NOW).highest_rank == state.highest_rank == 2
    assert line.dispatch(head[0], times[0]) == 1
    (late,) = line.due(NOW + 601, 10)
    assert (late.job_id, late.stands, late.dispatch_number) == ("job-0", DUE, 1)
    assert line.due(NOW + 599, 10) == []
    assert line.put_in_line(late)
    assert line.dispatch(late, times[1]) is None
    again = line.head(1)[0]
    assert (again.job_id, again.dispatch_number) == ("job-0", 2)


class Repeating:
    """A client whose every reply to a write is lost: botocore repeats the write."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb

    def update_item(self, **request: Any) -> Any:
        """Write twice."""
        self._dynamodb.update_item(**request)
        return self._dynamodb.update_item(**request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)


@pytest.mark.parametrize("items", ["moto"], indirect=True)
def test_a_write_that_is_repeated_counts_once(items: Any) -> None:
    line = Line(Items(Repeating(items._dynamodb), "jobs"))  # type: ignore[arg-type]
    queued = {"status": "QUEUED", "rank": 1, "queued_at": rfc3339(NOW)}
    items.update("job-0", values={**queued, **in_line(1, NOW)})
    (entry,) = line.head(1)
    assert line.dispatch(entry, NOW) == 1
    assert line.dispatch(entry, NOW) is None
    assert [line.rank("hero", 7, NOW) for _ in range(2)] == [8, 9]
    store = BudgetStore(line._items, Budget(daily=1), CONSISTENT_CHARACTER)
    charge = store.charge(NOW)
    assert isinstance(charge, Charge)
    assert store.read(NOW).day == FIRST_PRICE
    store.give_back(charge.usd, charge.at)
    assert store.read(NOW).day == 0
    limiter = RateLimiter(line._items, LIMIT)
    limiter.permit_submit(NOW)
    limiter.permit_submit(NOW)
    assert limiter.read().tat == pytest.approx(NOW + 2 * LIMIT.interval)
    gate = Gate(line._items, LIMIT, Budget(), CONSISTENT_CHARACTER)
    gate.breaker.change(lambda breaker: (breaker.refused(NOW, "because", 900), None))
    assert gate.breaker.read().refusals == 1
    state = gate.read(NOW)
    times, _ = gate.reserve(state, gate.opening(state, NOW), NOW, [1, 2])
    assert gate.read(NOW).until == pytest.approx(times[0] + 2 * LIMIT.interval)


def test_an_index_is_read_page_by_page(items: Any) -> None:
    for number in range(30):
        items.update(f"job-{number:02}", values=due(NOW + number))
    found = items.query(LINE_INDEX, ("stands", DUE), ("place", due(NOW + 25)["place"]), limit=20)
    assert [item["job_id"] for item in found] == [f"job-{number:02}" for number in range(20)]


# ---- the breaker's item ----------------------------------------------------------------------------------------------


def refuse(breaker: Breaker) -> tuple[Breaker, int]:
    """A refusal; how many there were in a row."""
    refused = breaker.refused(NOW, "because", 900)
    return refused, refused.refusals


def racing(items: Any, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let another function refuse before each of the next writes."""
    update, left = items.update, iter(range(times))

    def late(*arguments: Any, **named: Any) -> Any:
        if next(left, None) is not None:
            monkeypatch.setattr(items, "update", update)
            SharedItem(items, "breaker", Breaker).change(refuse)
            monkeypatch.setattr(items, "update", late)
        return update(*arguments, **named)

    monkeypatch.setattr(items, "update", late)
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.parametrize("before", [0, 1])
def test_who_loses_a_race_changes_what_the_other_left(items: Any, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    shared = SharedItem(items, "breaker", Breaker)
    for _ in range(before):
        shared.change(refuse)
    racing(items, monkeypatch, 1)
    assert shared.change(refuse) == before + 2
    assert shared.read().refusals == before + 2


def test_a_state_that_never_holds_still_is_notified(items: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    racing(items, monkeypatch, 1000)
    with pytest.raises(TransientFault):
        SharedItem(items, "breaker", Breaker).change(refuse)


def test_what_changes_nothing_is_not_written(items: Any) -> None:
    assert SharedItem(items, "breaker", Breaker).change(lambda breaker: (breaker.accepted(NOW), "kept")) == "kept"
    assert items.get("breaker") == [{}]


def test_a_state_of_another_version_of_this_program_is_read(items: Any) -> None:
    items.update("breaker", values={"state": '{"refusals": 1, "something_new": 7}', "version": 4})
    shared = SharedItem(items, "breaker", Breaker)
    assert shared.read() == Breaker(refusals=1)
    assert shared.change(refuse) == 2
