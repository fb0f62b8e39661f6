"""A function that ends at any call, a reply lost at any write, messages in any order and twice: still paid once.

The provider's history can be asked here: so it is always known whether a request exists.
"""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Pipeline
from tests.world import HISTORY, Account, DeathAt, LostReply, World

CHARACTERS = (f"call{number}" for number in count())
LONGEST = 150
"""More points than one story has."""

STORIES: dict[str, list[str]] = {
    "accepted": [],
    "limited": ["429"],
    "500": ["500"],
    "500, accepted": ["taken 500"],
    "no response": ["taken"],
    "refused": ["403"],
    "key refused": ["401"],
}


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", HISTORY)
    return environment


@pytest.fixture
def provider() -> Account:
    return Account()


def begin(pipeline: Pipeline, provider: Account, story: list[str]) -> World:
    """A job of its own, whose submits get the answers of a story."""
    pipeline.clock.now += 7200
    provider.answers = [*story]
    provider.exist.clear()
    provider.ends.clear()
    return World(pipeline, provider, next(CHARACTERS))


def check(world: World, *, paid: int = 1) -> dict[str, Any]:
    """What was paid was delivered, each attempt was notified, and no name was used twice. Return the job's record."""
    told, record = world.notifications(), world.record
    assert record["notified_at"]
    assert list(told) == list(range(1, int(record["attempt"]) + 1))
    assert told[int(record["attempt"])]["status"] == record["status"]
    executions = [name for name in world.executions() if name.startswith(f"{record['job_id']}-")]
    assert executions == [f"{record['job_id']}-{attempt}" for attempt in told]
    if record["status"] == "SUCCEEDED":
        assert len(world.account.exist) == paid
    else:
        # The process ended beside a request that never came to be.
        assert record["error"]["type"] == "SubmitOutcomeUnknown"
        assert len(world.account.exist) == paid - 1
    return record


@pytest.mark.parametrize("story", STORIES)
def test_a_process_that_ends_at_any_point(pipeline: Pipeline, provider: Account, story: str) -> None:
    ends: set[str] = set()
    for number in range(1, LONGEST):
        world = begin(pipeline, provider, STORIES[story])
        world.upload()
        with DeathAt(number, world) as points:
            world.work()
        ends.add(check(world)["status"])
        if points.points < number:
            break
        assert world.deaths == 1
    else:
        pytest.fail("there is always one point more")
    assert number > 15
    assert "SUCCEEDED" in ends


def test_a_process_that_ends_at_any_point_of_a_new_attempt(pipeline: Pipeline, provider: Account) -> None:
    for number in range(1, LONGEST):
        world = begin(pipeline, provider, [])
        provider.ends = ["FAILED", "COMPLETED"]
        world.upload()
        world.work()
        failed = world.record
        assert failed["error"]["type"] == "InferenceFailed"
        with DeathAt(number, world) as points:
            world.send(json.dumps({"retry": failed["job_id"]}), f"wish-{number}")
            world.work()
        assert check(world, paid=2)["attempt"] == 2
        if points.points < number:
            break
    else:
        pytest.fail("there is always one point more")
    assert number > 15


@pytest.mark.parametrize("story", STORIES)
def test_a_reply_that_is_lost_at_any_write(pipeline: Pipeline, provider: Account, story: str) -> None:
    for number in range(1, LONGEST):
        world = begin(pipeline, provider, STORIES[story])
        posts = len(provider.posts)
        world.upload()
        with LostReply(number) as lost:
            world.work()
        assert check(world)["status"] == "SUCCEEDED", f"at write {number}"
        needed = len([answer for answer in STORIES[story] if not answer.startswith("taken")]) + 1
        assert len(provider.posts) - posts == needed, f"at write {number}"
        if lost.writes < number:
            break
    else:
        pytest.fail("there is always one write more")
    assert number > 12


@given(
    st.data(),
    st.sampled_from(sorted(STORIES)),
    st.lists(st.sampled_from(["wish-1", "wish-2"]), min_size=2, max_size=5),
    st.sampled_from([0, 1, 6]),
)
@settings(max_examples=20, phases=[Phase.explicit, Phase.generate])  # to shrink an example takes minutes
def test_messages_in_any_order_and_twice(
    pipeline: Pipeline, provider: Account, data: st.DataObject, story: str, wishes: list[str], failures: int
) -> None:
    """Each wish makes one attempt at most, each attempt is paid once, and once one has succeeded no wish does (P12)."""
    copies = iter(range(12))
    world = begin(pipeline, provider, STORIES[story])
    world._choose = lambda messages: data.draw(st.integers(0, messages - 1))
    world._again = lambda: next(copies, None) is not None and data.draw(st.booleans())
    provider.ends = ["FAILED"] * failures
    world.upload()
    world.work()
    for wish in wishes:
        world.send(json.dumps({"retry": world.record["job_id"]}), wish)
        if data.draw(st.sampled_from([True, True, False])):
            world.work()
    world.work()
    record, told = world.record, world.notifications()
    attempts = int(record["attempt"])
    assert attempts <= 1 + min(len(set(wishes)), failures)
    assert len(provider.exist) == attempts
    assert list(told) == list(range(1, attempts + 1))
    assert [told[attempt]["status"] for attempt in told] == [
        "FAILED" if attempt <= failures else "SUCCEEDED" for attempt in told
    ]
    assert record["notified_at"]
