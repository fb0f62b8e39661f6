"""A function that ends at any call, a reply lost at any write, messages in any order and twice: still paid once.

The provider's history can be asked here: so it is always known whether a request exists.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory import MemoryPipeline
from tests.support import FIRST_PRICE
from tests.world import HISTORY, PAUSED, STORIES, Account, DeathAt, begin, check, check_cancelled, check_end, needed

LONGEST = 400
"""More points than one story has."""


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", HISTORY)
    return environment


@pytest.fixture
def provider() -> Account:
    return Account()


@pytest.mark.parametrize("story", STORIES)
def test_a_process_that_ends_at_any_point(in_memory: MemoryPipeline, provider: Account, story: str) -> None:
    ends: set[str] = set()
    died: set[str] = set()
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, story)
        world.upload()
        with DeathAt(world, [number]) as points:
            world.work()
        record = check(world)
        assert provider.submits_made <= needed(story)
        ends.add(record["status"])
        died.update(world.deaths)
        if points.points < number:
            break
        assert len(world.deaths) == 1
    else:
        pytest.fail("there is always one point more")
    assert record["status"] == "SUCCEEDED"
    assert number > 40
    assert ends == {"SUCCEEDED", "FAILED"}
    assert {"intake", "submit"} <= died
    assert ("dispatch" in died) == (story not in ("accepted", "no response"))


def test_a_process_that_ends_at_any_point_of_a_new_attempt(in_memory: MemoryPipeline, provider: Account) -> None:
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, "accepted")
        provider.ends = ["FAILED", "COMPLETED"]
        world.upload()
        world.work()
        assert world.record["error"]["type"] == "InferenceFailed"
        with DeathAt(world, [number]) as points:
            world.retry(f"retry-{number}")
            world.work()
        assert check(world, paid=2)["attempt"] == 2
        if points.points < number:
            break
    else:
        pytest.fail("there is always one point more")
    assert number > 15


@pytest.mark.parametrize("lost", [False, True], ids=["the process ends", "a reply is lost"])
def test_a_cancellation_at_any_point(in_memory: MemoryPipeline, provider: Account, lost: bool) -> None:
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, PAUSED)
        world.upload()
        world.work(until=in_memory.clock.now + 60)
        assert world.record["stands"] == "in line"
        world.cancel()
        table = in_memory.aws.table
        before, table.lost = table.writes, {table.writes + number} if lost else set()
        with DeathAt(world, [] if lost else [number]) as points:
            world.work()
        check_cancelled(world)
        assert provider.submits_made == 0
        if (table.writes - before if lost else points.points) < number:
            break
    else:
        pytest.fail("there is always one point more")
    assert number > 3


@pytest.mark.parametrize("story", STORIES)
def test_a_reply_that_is_lost_at_any_write(in_memory: MemoryPipeline, provider: Account, story: str) -> None:
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, story)
        world.upload()
        table = in_memory.aws.table
        before, table.lost = table.writes, {table.writes + number}
        world.work()
        assert check(world)["status"] == "SUCCEEDED", f"at write {number}"
        assert provider.submits_made == needed(story), f"at write {number}"
        assert not in_memory.gate().breaker.read().is_open
        spent = [float(item["spent"]["N"]) for key, item in table.items.items() if key.startswith("budget/")]
        assert sum(spent) == pytest.approx(FIRST_PRICE), f"at write {number}"
        if table.writes - before < number:
            break
    else:
        pytest.fail("there is always one write more")
    assert number > 12


@given(
    st.data(),
    st.sampled_from(sorted(STORIES)),
    st.lists(st.sampled_from(["retry-1", "retry-2"]), min_size=2, max_size=5),
    st.sampled_from([0, 1, 6]),
)
@settings(max_examples=100)
def test_messages_in_any_order_and_twice(
    in_memory: MemoryPipeline, provider: Account, data: st.DataObject, story: str, retries: list[str], failures: int
) -> None:
    """Each retry makes one attempt at most, each attempt is paid once, and after a success no retry does (P12)."""
    copies = iter(range(12))
    world = begin(in_memory, provider, story)
    world.choose = lambda things: data.draw(st.integers(0, things - 1))
    world.again = lambda: next(copies, None) is not None and data.draw(st.booleans())
    provider.ends = ["FAILED"] * failures
    world.upload()
    world.work()
    for retry in retries:
        world.retry(retry)
        if data.draw(st.sampled_from([True, True, False])):
            world.work()
    world.work()
    notified = world.notifications()
    attempts = int(check_end(world)["attempt"])
    assert attempts <= 1 + min(len(set(retries)), failures)
    assert len(provider.exist) == attempts
    assert [notified[attempt]["status"] for attempt in notified] == [
        "FAILED" if attempt <= failures else "SUCCEEDED" for attempt in notified
    ]
