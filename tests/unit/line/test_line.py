"""The line and `dispatch`: which job is sent when, also if other runs interfere. Without a clock or AWS."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from posedrop.aws.items import Item
from posedrop.aws.messages import SubmitMessage
from posedrop.aws.places import DUE, IN_LINE, LOST_AFTER, Entry, due, in_line
from posedrop.contract.times import rfc3339
from posedrop.dispatch.dispatcher import Dispatched, Dispatcher
from posedrop.gate.breaker import PROBE_SECONDS
from posedrop.gate.budget import Budget, BudgetStore, Charge
from posedrop.gate.gate import HORIZON, Gate
from posedrop.gate.rate_limit import RateLimit, RateLimiter, RateLimitState, paused
from posedrop.line.line import Line
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.items import MemoryItems
from tests.support import FIRST_PRICE

NOW = 1_800_000_000.0
LIMIT = RateLimit(50, "submits")
NO_BUDGET = Budget()
MINUTE = 60.0


class Line50:
    """A line, its gate and its dispatcher, with a plan of 50 requests a minute, and all messages that were sent."""

    def __init__(self, limit: RateLimit = LIMIT, budget: Budget = NO_BUDGET) -> None:
        self.items = MemoryItems()
        self.line = Line(self.items)
        self.limit = limit
        self.gate = Gate(self.items, limit, budget, CONSISTENT_CHARACTER)
        self.now = NOW
        self.sent: list[tuple[SubmitMessage, float]] = []
        self.key_changed_at = 0.0
        self.dispatcher = Dispatcher(
            self.gate,
            self.line,
            self,
            clock=self.clock,
            key_changed_at=lambda: self.key_changed_at,
            parallel=in_order,
        )

    def clock(self) -> float:
        return self.now

    def send(self, messages: Sequence[tuple[SubmitMessage, float]]) -> None:
        self.sent += [(message, self.now + delay) for message, delay in messages]

    def add(self, character: str, name: str) -> Entry:
        """Let a job stand in line."""
        rank = self.line.rank(character, self.gate.read(self.now).highest_rank, self.now)
        item: Item = {"status": "QUEUED", "rank": rank, "queued_at": rfc3339(self.now), **in_line(rank, self.now)}
        self.items.table[name] = {"job_id": name, **item}
        return Entry.of(self.items.table[name])

    def run(self) -> Dispatched:
        return self.dispatcher.run(lambda: 60.0)

    def claim(self, name: str) -> None:
        """What `submit` does with the record."""
        self.items.table[name]["status"] = "SUBMITTING"
        for attribute in ("stands", "place", "send_at"):
            self.items.table[name].pop(attribute, None)

    @property
    def order(self) -> list[str]:
        """The jobs in the order of the times for which they were dispatched."""
        return [message.job_id for message, _ in sorted(self.sent, key=lambda sent: sent[1])]

    @property
    def times(self) -> list[float]:
        return sorted(at for _, at in self.sent)


def in_order(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    return [function(value) for value in values]


@pytest.fixture
def line() -> Line50:
    return Line50()


# ---- what goes when ------------------------------------------------------------------------------------------------


def test_an_empty_line_costs_no_write(line: Line50) -> None:
    assert line.run() == Dispatched(sent=0, returned=0, closed=None)
    assert line.items.writes == 0


def test_jobs_get_times_of_their_own_until_the_horizon(line: Line50) -> None:
    for number in range(200):
        line.add("hero", f"job-{number}")
    assert line.run().sent == int(HORIZON / LIMIT.interval) + 1
    assert line.times == pytest.approx([NOW + number * LIMIT.interval for number in range(len(line.sent))])
    assert line.times[-1] <= NOW + HORIZON
    assert line.order == [f"job-{number}" for number in range(len(line.sent))]


def test_a_run_each_minute_uses_all_of_the_limit(line: Line50) -> None:
    for number in range(300):
        line.add("hero", f"job-{number}")
    while line.run().sent:
        line.now += MINUTE
        for message, at in line.sent:
            if at <= line.now:
                line.claim(message.job_id)
    assert line.order == [f"job-{number}" for number in range(300)]
    assert line.times == pytest.approx([NOW + number * LIMIT.interval for number in range(300)])


def test_running_twice_dispatches_nothing_twice(line: Line50) -> None:
    for number in range(200):
        line.add("hero", f"job-{number}")
    line.run()
    assert line.run().sent == 0
    line.now += 10
    assert 7 <= line.run().sent <= 9
    assert len(set(line.order)) == len(line.order)


def test_the_message_has_the_number_of_the_record(line: Line50) -> None:
    line.add("hero", "job-1")
    line.run()
    ((message, _),) = line.sent
    record = line.items.table["job-1"]
    assert (message, record["dispatch_number"]) == (SubmitMessage("job-1", 1), 1)
    assert (record["stands"], record["send_at"]) == (DUE, rfc3339(NOW))
    assert record["place"] == rfc3339(NOW + LOST_AFTER)


def test_a_job_whose_message_was_lost_gets_another_number_after_ten_minutes(line: Line50) -> None:
    line.add("hero", "job-1")
    line.run()
    line.now += LOST_AFTER
    assert line.run().sent == 0
    line.now += 1
    assert line.run().sent == 1
    assert [message.number for message, _ in line.sent] == [1, 2]


def test_a_due_job_that_is_not_sent_yet_is_in_line_at_its_old_rank(line: Line50) -> None:
    for number in range(100):
        line.add("hero", f"job-{number}")
    line.run()
    line.now += LOST_AFTER + HORIZON + 1  # all messages were lost
    assert line.run().returned == 0
    assert line.order[-73:] == [f"job-{number}" for number in range(73)]
    assert [entry.job_id for entry in line.line.head(100)] == [f"job-{number}" for number in range(73, 100)]


# ---- who goes first ------------------------------------------------------------------------------------------------


def test_clients_take_turns(line: Line50) -> None:
    for number in range(4):
        line.add("big/hero", f"big-{number}")
    line.add("small/hero", "small-0")
    line.add("small/villain", "small-1")
    line.run()
    assert line.order == ["big-0", "small-0", "big-1", "small-1", "big-2", "big-3"]


def test_one_job_of_another_client_does_not_wait_for_two_thousand(line: Line50) -> None:
    for number in range(2000):
        line.add("big", f"big-{number:04}")
    line.run()
    line.now += 30
    line.add("small", "small")
    asked = line.now
    line.now += MINUTE
    line.run()
    (sent_at,) = (at for message, at in line.sent if message.job_id == "small")
    assert sent_at - asked < 2 * MINUTE


def test_a_late_client_begins_at_the_highest_rank_so_far(line: Line50) -> None:
    for number in range(10):
        line.add("big", f"big-{number}")
    line.run()
    assert line.add("late", "late").rank == 11
    assert line.add("big", "big-10").rank == 11
    assert line.add("late", "late-1").rank == 12


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_each_client_gets_its_share_of_every_round(clients: list[str]) -> None:
    line = Line50()
    for number, client in enumerate(clients):
        line.add(client, f"{client}-{number}")
    line.run()
    assert len(line.order) == len(clients)
    # Until a client's jobs are over, nobody gets more than one job ahead of it.
    left = {client: clients.count(client) for client in set(clients)}
    done = dict.fromkeys(left, 0)
    for name in line.order:
        client = name[0]
        done[client] += 1
        assert all(done[client] - done[other] <= 1 for other in left if done[other] < left[other])


def test_the_place_in_line_is_counted_exactly_up_to_a_thousand(line: Line50) -> None:
    entries = [line.add("hero", f"job-{number}") for number in range(1100)]
    # Of jobs of one age: those of a lower rank stand before.
    assert line.line.before(entries[0].place) == 0
    assert line.line.before(entries[7].place) == 7
    assert line.line.before(entries[1099].place) == 1000


# ---- the gate ------------------------------------------------------------------------------------------------------


def test_jobs_are_dispatched_for_the_time_when_a_pause_ends(line: Line50) -> None:
    for number in range(100):
        line.add("hero", f"job-{number}")
    RateLimiter(line.items, LIMIT).pause(NOW, 80)
    assert line.run().sent == 9
    assert line.times[0] == NOW + 80


def test_nothing_is_dispatched_while_the_gate_opens_later_than_the_horizon(line: Line50) -> None:
    line.add("hero", "job-1")
    RateLimiter(line.items, LIMIT).pause(NOW, 3600)
    assert line.run().sent == 0
    line.now += 3600 - HORIZON
    assert line.run().sent == 1
    assert line.times == [NOW + 3600]


def test_an_open_breaker_gets_one_job(line: Line50) -> None:
    for number in range(5):
        line.add("hero", f"job-{number}")
    line.gate.breaker.change(lambda state: (state.key_refused(NOW, "401", 30), None))
    assert line.run().sent == 1
    assert line.sent == [(SubmitMessage("job-0", 1, probe=True), NOW + 30)]
    assert line.run().sent == 0
    line.now += 30 + PROBE_SECONDS  # the probe was lost
    line.run()
    assert [message.probe for message, _ in line.sent] == [True, True]


def test_a_new_key_is_tried_at_once(line: Line50) -> None:
    for number in range(5):
        line.add("hero", f"job-{number}")
    line.gate.breaker.change(lambda state: (state.key_refused(NOW, "401", 3600), None))
    line.now += MINUTE
    assert line.run().sent == 0
    line.key_changed_at = NOW + 20
    assert line.run().sent == 1
    assert line.sent == [(SubmitMessage("job-0", 1, probe=True), line.now)]


def test_a_new_key_does_not_end_a_pause_for_another_cause(line: Line50) -> None:
    line.add("hero", "job-0")
    line.gate.breaker.change(lambda state: (state.outcome_unknown(NOW, 3600).outcome_unknown(NOW, 3600), None))
    line.key_changed_at = NOW + 20
    line.now += MINUTE
    assert line.run().sent == 0


def test_no_more_jobs_are_dispatched_than_the_budget_pays_for() -> None:
    line = Line50(budget=Budget(daily=3 * FIRST_PRICE))
    for number in range(5):
        line.add("hero", f"job-{number}")
    BudgetStore(line.items, Budget(), CONSISTENT_CHARACTER).charge(NOW)
    assert line.run().sent == 2


def test_after_a_spent_day_jobs_are_sent_at_midnight() -> None:
    line = Line50(budget=Budget(daily=2 * FIRST_PRICE))
    midnight = (NOW // 86400 + 1) * 86400
    line.now = midnight - 200
    for number in range(5):
        line.add("hero", f"job-{number}")
    for _ in range(2):
        BudgetStore(line.items, Budget(), CONSISTENT_CHARACTER).charge(line.now)
    assert line.run().sent == 0
    line.now = midnight - 30
    assert line.run().sent == 2
    assert line.times == pytest.approx([midnight, midnight + LIMIT.interval])


def test_where_all_calls_count_jobs_leave_room_for_their_polls() -> None:
    line = Line50(RateLimit(50, "all"))
    for number in range(100):
        line.add("hero", f"job-{number}")
    assert line.run().sent == int(HORIZON / line.limit.job_interval(RateLimitState(), NOW)) + 1


# ---- what a run sees -----------------------------------------------------------------------------------------------


def test_a_run_sees_how_long_the_next_job_has_waited(line: Line50) -> None:
    for number in range(200):
        line.add("hero", f"job-{number}")
    line.run()
    line.now += 500
    assert line.run().oldest_seconds == 500


def test_a_run_sees_how_long_nothing_was_delivered_while_the_gate_was_open(line: Line50) -> None:
    line.add("hero", "job-0")
    line.now += 500
    assert line.run().idle_seconds == 500
    BudgetStore(line.items, NO_BUDGET, CONSISTENT_CHARACTER).settle(Charge(FIRST_PRICE, NOW), None, line.now - 20)
    line.now += 200
    found = line.run()
    assert (found.oldest_seconds, found.idle_seconds) == (700, 220)  # of the job whose message is under way
    RateLimiter(line.items, LIMIT).pause(line.now, 60)
    found = line.run()
    assert (found.idle_seconds, found.closed) == (0, paused(line.gate.read(line.now).limit))


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def test_the_times_of_jobs_that_have_moved_are_for_the_next_ones(line: Line50, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedrop.dispatch.dispatcher.CHUNK", 10)
    for number in range(30):
        line.add("hero", f"job-{number}")
    query = line.items.query

    def stale(*arguments: Any, **named: Any) -> Any:
        """The index still shows two jobs that have just been claimed."""
        found = list(query(*arguments, **named))
        line.claim("job-1")
        line.claim("job-2")
        return iter(found)

    line.items.query = stale  # type: ignore[method-assign]
    line.run()
    assert line.order == [f"job-{number}" for number in range(30) if number not in (1, 2)]
    assert line.times == pytest.approx([NOW + number * LIMIT.interval for number in range(28)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_overlapping_runs_that_die_anywhere_lose_nothing_and_send_nothing_twice(data: st.DataObject) -> None:
    line = Line50()
    names = [f"job-{number}" for number in range(data.draw(st.integers(1, 120)))]
    for number, name in enumerate(names):
        line.add("abc"[number % 3], name)
    update, beside = line.items.update, [False]
    deaths = data.draw(st.lists(st.integers(0, 200), max_size=4))
    calls = [0]

    def failing(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] in deaths:
            raise Death
        if not beside[0] and calls[0] % 7 == 0:
            beside[0] = True  # another run goes through in between
            try:
                line.run()
            finally:
                beside[0] = False
        return update(*arguments, **named)

    line.items.update = failing  # type: ignore[method-assign]
    accepted: list[str] = []
    for _ in range(40):
        try:
            line.run()
        except Death:
            beside[0] = False
        line.now += MINUTE
        for message, at in list(line.sent):
            record = line.items.table[message.job_id]
            if at <= line.now and record["status"] == "QUEUED" and record["dispatch_number"] == message.number:
                accepted.append(message.job_id)
                line.claim(message.job_id)
    assert sorted(accepted) == sorted(names)
    assert all(later - earlier > 0 for earlier, later in pairwise(line.times))


class Death(BaseException):
    """The function ends here."""


def test_a_write_that_fails_leaves_the_job_where_it_is(line: Line50) -> None:
    line.add("hero", "job-0")
    line.add("hero", "job-1")
    update = line.items.update

    def throttled(key: str, **named: Any) -> Any:
        if key == "job-0":
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "UpdateItem")
        return update(key, **named)

    line.items.update = throttled  # type: ignore[method-assign]
    assert line.run().sent == 1
    assert line.items.table["job-0"]["stands"] == IN_LINE


def test_the_place_sorts_by_rank_and_then_by_age() -> None:
    places = [in_line(rank, at)["place"] for rank in (0, 9, 10, 123456) for at in (NOW, NOW + 0.001, NOW + 9)]
    assert places == sorted(places)
    assert due(NOW) == {"stands": DUE, "place": rfc3339(NOW)}
    assert re.fullmatch(r"0000000009 2027-.*Z", places[3])
