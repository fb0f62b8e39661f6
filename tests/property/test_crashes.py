"""Functions that end anywhere, any number of times: still paid once, notified, and whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory import MemoryPipeline
from tests.world import CHARACTERS, Account, DeathAt, World

FUNCTIONS = ("intake", "dispatch", "submit", "poll", "deliver")


@pytest.fixture
def provider() -> Account:
    return Account()


@given(
    deaths=st.lists(st.integers(1, 200), max_size=6, unique=True),
    answers=st.lists(st.sampled_from(["429", "503", "500", "401", "403"]), max_size=2),
    end=st.sampled_from(["COMPLETED", "FAILED"]),
)
@settings(max_examples=150)
def test_any_number_of_crashes(
    in_memory: MemoryPipeline, provider: Account, deaths: list[int], answers: list[str], end: str
) -> None:
    provider.begin(answers)
    provider.ends = [end]
    world = World(in_memory, provider, next(CHARACTERS))
    world.upload()
    with DeathAt(world, deaths, FUNCTIONS, after_calls=True) as points:
        world.work()

    record, notified = world.record, world.notifications()
    assert len(world.deaths) == len([number for number in deaths if number <= points.points])
    assert list(in_memory.executions()) == [f"{record['job_id']}-1"]
    assert list(notified) == [1]
    assert notified[1]["status"] == record["status"]
    assert record["notified_at"]
    assert not world.unfinished()
    assert provider.submits_made <= len(answers) + 1
    outputs = sorted(key.rpartition("/")[2] for key in in_memory.outputs())
    if notified[1]["status"] == "SUCCEEDED":
        assert len(provider.exist) == 1
        assert provider.submits_made == len(answers) + 1
        assert outputs == ["1.png", "result.json"]
    else:
        # An end after the request, before it is written: nobody can know, and it is never sent again.
        assert notified[1]["error"]["type"] == (
            "InferenceFailed" if record.get("request_id") else "SubmitOutcomeUnknown"
        )
        assert len(provider.exist) <= 1
        assert outputs == []
