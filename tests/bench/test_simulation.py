"""The simulation's own parts: time, the table, queues and functions; and a small backlog on them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.backlog import budget, clients, measure, off_turn, pause, row, use, watch
from bench.simulation.dynamodb import Client, Index, Meter, Table
from bench.simulation.engine import Simulation
from bench.simulation.functions import EventSource, Function, Queue
from bench.simulation.money import SERVICES, cost
from bench.simulation.outside import Setting
from bench.simulation.stack import Stack
from bench.simulation.template import indexes, parameter

START = 1000.0
LINE = {"line": Index("stands", "place", ("rank",), read=True, lag=0.1), "day": Index("day", "at")}


# ---- time ------------------------------------------------------------------------------------------------------------


def test_processes_go_on_in_the_order_of_time() -> None:
    simulation = Simulation(1, START)
    seen: list[tuple[str, float]] = []

    def process(name: str, seconds: float) -> Callable[[], None]:
        def steps() -> None:
            for _ in range(3):
                simulation.sleep(seconds)
                seen.append((name, simulation.now - START))

        return steps

    simulation.spawn(process("slow", 4))
    simulation.spawn(process("quick", 1), delay=2.5)
    simulation.run(START + 9)
    assert seen == [("quick", 3.5), ("slow", 4), ("quick", 4.5), ("quick", 5.5), ("slow", 8)]
    assert simulation.clock() == START + 9
    simulation.run(START + 20)
    assert seen[-1] == ("slow", 12)


def test_a_lonely_process_does_not_sleep_beyond_the_end() -> None:
    simulation = Simulation(1, START)
    seen: list[float] = []

    def process() -> None:
        simulation.sleep(30)
        seen.append(simulation.now)

    simulation.spawn(process)
    simulation.run(START + 10)
    assert (seen, simulation.now) == ([], START + 10)
    simulation.run(START + 40)
    assert seen == [START + 30]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 10.0), (2, 6.0), (4, 4.0), (8, 4.0)])
def test_so_many_workers_share_the_calls(workers: int, seconds: float) -> None:
    simulation = Simulation(1, START)
    results: list[Any] = []

    def call(value: float) -> float:
        simulation.sleep(value)
        return value * 10

    def process() -> None:
        results.extend(simulation.parallel(workers)(call, [1, 2, 3, 4]))
        results.append(simulation.now - START)

    simulation.spawn(process)
    simulation.run(START + 60)
    assert results == [10, 20, 30, 40, seconds]


def test_an_error_in_a_process_ends_the_run() -> None:
    simulation = Simulation(1, START)
    simulation.spawn(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulation.run(START + 1)


# ---- the table -------------------------------------------------------------------------------------------------------


class SimulatedTable:
    """A table, its client, and what the client used."""

    def __init__(self) -> None:
        self.simulation = Simulation(1, START)
        self.meter = Meter()
        self.table = Table(self.simulation, "job_id", LINE)
        self.client = Client(self.simulation, self.table, self.meter, timed=False)

    def update(self, expression: str, condition: str = "", **values: Any) -> dict[str, Any]:
        request: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        updated: dict[str, Any] = self.client.update_item(
            TableName="jobs",
            Key={"job_id": {"S": "a"}},
            UpdateExpression=expression,
            ExpressionAttributeNames={"#n": "number"},
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
            ReturnValues="UPDATED_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **request,
        )["Attributes"]
        return updated

    def holds(self, condition: str, **values: Any) -> bool:
        before = self.meter.refused.total()
        with suppress(ClientError):
            self.update("SET seen = :seen", condition, seen={"S": "yes"}, **values)
        return self.meter.refused.total() == before

    def used(self) -> float:
        units, self.meter.write_units = self.meter.write_units, 0.0
        return units

    def line(self, below: str = "~") -> list[str]:
        (page,) = self.client.get_paginator("query").paginate(
            IndexName="line",
            KeyConditionExpression="#p = :p AND #s < :s",
            ExpressionAttributeValues={":p": {"S": "in line"}, ":s": {"S": below}},
        )
        return [item["job_id"]["S"] for item in page["Items"]]


@pytest.fixture
def items() -> SimulatedTable:
    return SimulatedTable()


def test_an_update_sets_adds_defaults_and_removes(items: SimulatedTable) -> None:
    one = {"N": "1"}
    assert items.update("SET a = :a, b = if_not_exists(b, :a) ADD #n :one", a={"S": "x"}, one=one) == {
        "a": {"S": "x"},
        "b": {"S": "x"},
        "number": one,
    }
    changed = items.update("SET b = if_not_exists(b, :a) ADD #n :half REMOVE a", a={"S": "y"}, half={"N": "0.1"})
    assert changed == {"b": {"S": "x"}, "number": {"N": "1.1"}}
    assert items.client.get_item(Key={"job_id": {"S": "a"}})["Item"].keys() == {"job_id", "b", "number"}


def test_conditions_are_read_as_dynamodb_reads_them(items: SimulatedTable) -> None:
    items.update("SET #n = :n, x = :x", n={"N": "5"}, x={"S": "1"})
    five, six, text = {"N": "5.0"}, {"N": "6"}, {"S": "5"}
    assert items.holds("#n = :v", v=five)
    assert items.holds("#n < :v AND x = :x", v=six, x={"S": "1"})
    assert not items.holds("#n <= :v", v=text)  # values of two types
    assert not items.holds("y <> :v", v=five)  # nothing is there
    assert items.holds("attribute_not_exists(y) OR y < :v", v=five)
    assert not items.holds("(attribute_not_exists(#n) OR #n > :v) AND x = :x", v=five, x={"S": "1"})
    assert items.holds("(attribute_not_exists(y) OR #n > :v) AND x = :x", v=six, x={"S": "1"})
    with pytest.raises(NotImplementedError):
        items.holds("size(x) = :v", v=five)


def test_a_refused_write_gives_the_item_back_and_is_counted(items: SimulatedTable) -> None:
    items.update("SET #n = :n", n={"N": "5"})
    items.used()
    with pytest.raises(ClientError) as refused:
        items.update("SET #n = :n", "#n < :n", n={"N": "5"})
    assert dict(refused.value.response)["Item"] == {"job_id": {"S": "a"}, "number": {"N": "5"}}
    assert items.meter.refused == {"a": 1}
    assert (items.used(), items.meter.writes) == (1, 2)


def test_writes_cost_by_size_and_by_what_changes_in_an_index(items: SimulatedTable) -> None:
    small, large = {"S": "x"}, {"S": "x" * 1100}
    items.update("SET a = :a", a=small)
    assert items.used() == 1
    items.update("SET a = :a", a=large)
    assert items.used() == 2
    items.update("SET a = :a", a=small)  # of the two sizes the larger one counts
    assert items.used() == 2
    items.update("SET stands = :s, place = :p", s={"S": "in line"}, p={"S": "1"})
    assert items.used() == 2  # put into the index
    items.update("SET #n = :n", n={"N": "1"})
    assert items.used() == 1  # the index does not show it
    items.update("SET rank = :n", n={"N": "1"})
    assert items.used() == 2  # the index shows it
    items.update("SET place = :p", p={"S": "2"})
    assert items.used() == 3  # out of one place and into another
    items.update("SET #n = :n REMOVE stands", n={"N": "2"})
    assert items.used() == 2


def test_an_index_is_in_order_and_a_moment_behind(items: SimulatedTable) -> None:
    places = [*range(2000, 0, -1), *range(2001, 3000)]
    for place in places:
        item = {"job_id": f"job-{place}", "stands": "in line", "place": f"{place:05}"}
        items.client.put_item(Item={name: {"S": value} for name, value in item.items()})
    assert items.line() == []
    items.simulation.run(START + 1)
    assert items.line() == [f"job-{place}" for place in sorted(places)]
    assert items.line(below="00003") == ["job-1", "job-2"]
    items.client.delete_item(Key={"job_id": {"S": "job-2"}})
    items.simulation.run(START + 2)
    assert items.line(below="00004") == ["job-1", "job-3"]


def test_the_tables_indexes_are_those_of_the_template() -> None:
    assert {"line", "by-character", "by-day", "unfinished"} == set(indexes())
    assert [name for name, index in indexes().items() if index.read] == ["line"]


# ---- queues and functions --------------------------------------------------------------------------------------------


class Reader:
    """A queue and a function that reads it: `takes` seconds for each message, which is done unless its body says so."""

    def __init__(self, maximum: int, takes: float) -> None:
        self.simulation = Simulation(1, START)
        self.queue = Queue(self.simulation, visibility=60)
        self.began: list[tuple[float, str]] = []
        self.running = self.busiest = 0
        self._takes = takes
        self.function = Function(self.simulation, self._handler, memory_mb=512, timeout=60, start_seconds=1)
        EventSource(self.simulation, self.queue, self.function, maximum)

    def _handler(self, event: Any, remaining: Callable[[], float]) -> dict[str, Any]:
        (record,) = event["Records"]
        self.running += 1
        self.busiest = max(self.busiest, self.running)
        self.began.append((round(self.simulation.now - START, 2), record["body"]))
        self.simulation.sleep(self._takes)
        self.running -= 1
        first = record["attributes"]["ApproximateReceiveCount"] == "1"
        failed = first and record["body"] == "again"
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}] if failed else []}


def test_a_message_is_delivered_after_its_delay_and_redelivered_after_its_visibility() -> None:
    reader = Reader(maximum=5, takes=0.5)
    reader.queue.send("again", delay=10)
    reader.queue.send("first")
    reader.simulation.run(START + 200)
    # The first of them waits for a new environment; 70 s later there is one.
    assert reader.began == [(1.03, "first"), (10.03, "again"), (70.03, "again")]
    assert (reader.queue.use.sent, reader.queue.use.receives, reader.queue.use.calls) == (2, 3, 5)
    assert reader.function.use.starts == 1
    assert reader.function.use.seconds == pytest.approx(1 + 3 * 0.5)


@pytest.mark.parametrize("delay", [901, -1, 1.5])
def test_a_delay_that_sqs_does_not_take_is_an_error(delay: Any) -> None:
    with pytest.raises(ValueError, match="DelaySeconds"):
        Reader(maximum=5, takes=1).queue.send("text", delay)


def test_the_event_source_starts_with_five_and_grows_to_its_maximum() -> None:
    reader = Reader(maximum=12, takes=10)
    for number in range(100):
        reader.queue.send(str(number))
    reader.simulation.run(START + 0.9)
    assert len(reader.queue) == 100 - 5 - 4  # five at first, then one more each 0.2 s
    reader.simulation.run(START + 300)
    assert reader.busiest == 12
    assert len(reader.began) == 100


def test_an_environment_that_nobody_used_is_gone_after_a_while() -> None:
    reader = Reader(maximum=5, takes=0.5)
    for delay in (0, 100, 500):
        reader.queue.send("text", delay)
    reader.simulation.run(START + 600)
    assert (reader.function.use.invocations, reader.function.use.starts) == (3, 2)


# ---- a stack ---------------------------------------------------------------------------------------------------------


def test_jobs_are_sent_once_each_in_order_within_the_limit() -> None:
    stack = Stack(Setting(requests_per_minute=600))
    stack.let_wait("large/hero", 100)
    stack.upload("large/hero", 20)
    stack.run(180)
    assert (stack.waiting, stack.delivered, stack.provider.limited) == (0, 120, 0)
    assert sorted(stack.numbers_sent()) == list(range(120))
    found = measure(stack, stack.provider.posted[-1][0])
    assert found.whole
    assert found.receives == 1
    assert found.off_turn < found.concurrency == parameter("SubmitConcurrency")
    assert found.intake_seconds > 0.35
    assert set(cost(stack)) == set(SERVICES)
    assert row(found)[:3] == ["120", "600", "submits"]


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [watch(Setting(requests_per_minute=600, seed=seed), 30, 30) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].submit_seconds != runs[2].submit_seconds


def test_the_provider_refuses_more_than_the_plan_allows() -> None:
    stack = Stack(Setting(requests_per_minute=100))
    stack.let_wait("large/hero", 300)
    stack.provider.allowed = 50
    stack.run(90)
    assert stack.provider.limited > 0
    assert len(stack.provider.posted) <= 100


def test_an_error_that_the_code_survives_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(Setting())
    monkeypatch.setattr(stack.parts.objects, "generate_presigned_url", lambda *_, **__: 1 / 0)
    stack.upload("large/hero", 1)
    with pytest.raises(ZeroDivisionError):
        stack.run(60)


def test_the_line_moves_again_after_a_pause() -> None:
    figures = pause(200, limit=5)
    assert figures["pause, minutes"] == 60
    assert figures["use of the next ten minutes"] > 0.9
    assert figures["jobs off their turn by at most"] <= parameter("SubmitConcurrency")


def test_a_budget_ends_the_day_and_a_larger_one_continues_it() -> None:
    figures = budget(200, limit=5, usd=1.5)
    assert 1.47 <= figures["spent of it, USD"] <= 1.5
    assert figures["budget raised by half: next request after, s"] <= 120
    assert 2.22 <= figures["spent by midnight, USD"] <= 2.25
    assert figures["use of the ten minutes after midnight"] > 0.9


def test_a_small_client_waits_for_a_round() -> None:
    assert clients(500, others=2)["from upload to request, s: longest"] < 120


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_use_of_the_limit() -> None:
    times = [float(at) for at in range(0, 120, 2)]
    assert use(times, 60, 0, 118) == pytest.approx(60 / 118)
    assert use(times, 60, 200, 200) == 0


@pytest.mark.parametrize(("numbers", "most"), [([], 0), ([1, 2, 9], 0), ([2, 1, 9], 1), ([9, 1, 2], 2)])
def test_jobs_off_their_turn(numbers: list[int], most: int) -> None:
    assert off_turn(numbers) == most
