"""Two functions with the same job: whichever call of one the other comes in at, one request is paid for."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from tests.integration.conftest import clock_module, load
from tests.memory import MemoryPipeline
from tests.queues import Message
from tests.support import Context
from tests.world import HISTORY, PAUSED, SENDING, Account, World, begin, check, check_cancelled, needed

LONGEST = 200
"""More calls than one story needs."""
LATE = "dispatch, ten minutes later"


class Others:
    """Other processes of the functions that send a job."""

    def __init__(self, pipeline: MemoryPipeline) -> None:
        self._functions = SimpleNamespace(**{name: load(name) for name in SENDING})
        for module in vars(self._functions).values():
            module.time = clock_module(pipeline.clock)

    def come_in(self, world: World, name: str) -> None:
        """Let one of them run, beside the function that runs now."""
        queues = world.queues
        if name == "cancel":
            for job_id in world.pipeline.records():
                body = json.dumps({"cancel": job_id, "attempt": 1})
                queues.deliver(Message("intake", body, 0), Context(), self._functions)
            return
        if name == LATE:
            world.pipeline.clock.now += 601
        if name in ("dispatch", LATE):
            self._functions.dispatch.handler({}, Context())
            return
        messages = [message for message in queues.sent if message.function == name]
        if messages:  # SQS may deliver any of them twice
            queues.deliver(replace(messages[-1], id="copy", receives=0), Context(), self._functions)


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", HISTORY)
    return environment


@pytest.fixture
def provider() -> Account:
    return Account()


@pytest.fixture
def others(in_memory: MemoryPipeline) -> Others:
    return Others(in_memory)


@pytest.mark.parametrize("other", [*SENDING, LATE])
@pytest.mark.parametrize("story", ["accepted", "limited", "500, accepted", "key refused"])
def test_a_second_function_comes_in_at_any_call(
    in_memory: MemoryPipeline, provider: Account, others: Others, story: str, other: str
) -> None:
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, story)
        world.upload()
        calls = at_call(world, number, partial(others.come_in, world, other))
        world.work()
        in_memory.aws.watch_nothing()
        assert check(world)["status"] == "SUCCEEDED", f"at call {number}"
        assert provider.submits_made == needed(story), f"at call {number}"
        if calls() < number:
            break
    else:
        pytest.fail("there is always one call more")
    assert number > 40


@pytest.mark.parametrize("story", ["accepted", "limited", "no response", PAUSED])
def test_a_job_that_is_cancelled_at_any_call_is_not_paid_or_goes_on(
    in_memory: MemoryPipeline, provider: Account, others: Others, story: str
) -> None:
    ends: set[str] = set()
    for number in range(1, LONGEST):
        world = begin(in_memory, provider, story)
        world.upload()
        calls = at_call(world, number, partial(others.come_in, world, "cancel"))
        world.work()
        in_memory.aws.watch_nothing()
        ends.add(world.record["status"])
        if world.record["status"] == "FAILED":
            check_cancelled(world)
            assert provider.submits_made < needed(story)
        else:
            check(world)
            assert provider.submits_made == needed(story)
        if calls() < number:
            break
    else:
        pytest.fail("there is always one call more")
    assert ends == {"SUCCEEDED", "FAILED"}


def at_call(world: World, number: int, act: Callable[[], object]) -> Callable[[], int]:
    """Let something happen before the nth call of AWS by a function that sends the job; return what counts them."""
    calls = 0

    def watch() -> None:
        nonlocal calls
        calls += world.running in SENDING
        if calls == number and world.running in SENDING:
            world.pipeline.aws.watch_nothing()
            act()
            world.pipeline.aws.before = watch

    world.pipeline.aws.before = watch
    return lambda: calls
