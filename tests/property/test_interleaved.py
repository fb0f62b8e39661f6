"""Two functions with the same job: whichever AWS call of one the other comes in at, one request is paid for."""

from types import ModuleType
from typing import Any

import boto3
import pytest

from tests.integration import conftest as integration
from tests.integration.conftest import Pipeline, clock_module
from tests.support import Context, image

SERVICES = ("dynamodb", "s3", "sqs", "stepfunctions")
LONGEST = 40
"""More AWS calls than one message needs."""


@pytest.fixture
def other(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Another process of the same function."""
    module = integration._load("submit")
    monkeypatch.setattr(module, "time", clock_module(pipeline.clock))
    return module


class Intruder:
    """Lets something happen at one of the next AWS calls."""

    def __init__(self, number: int, act: Any) -> None:
        self.calls = 0
        self._number = number
        self._act = act

    def __enter__(self) -> "Intruder":
        for service in SERVICES:
            boto3.client(service).meta.events.register_first("before-call", self)  # type: ignore[call-overload]
        return self

    def __exit__(self, *_: object) -> None:
        for service in SERVICES:
            boto3.client(service).meta.events.unregister("before-call", self)  # type: ignore[call-overload]

    def __call__(self, **_: Any) -> None:
        number, self.calls = self.calls, self.calls + 1
        if number == self._number:
            self._act()


def test_a_second_function_comes_in_at_any_call(pipeline: Pipeline, other: ModuleType) -> None:
    for number in range(LONGEST):
        character = f"hero{number}"
        pipeline.put(f"incoming/{character}/face.png", image("png", (10, 10), "white"))
        event = pipeline.put(f"incoming/{character}/poses/walk.png", image("png", (12, 8 + number), "black"))
        posts = len(pipeline.provider.posts)

        def come_in(event: Any = event) -> None:
            other.handler({"Records": [pipeline.record_of(event)]}, Context())

        with Intruder(number, come_in) as intruder:
            pipeline.handle(event)
        for _ in range(LONGEST):
            if not pipeline.later:
                break
            pipeline.resume()
        assert pipeline.later == []
        assert len(pipeline.provider.posts) - posts == 1, f"at call {number}"
        assert len([name for name in pipeline.executions() if name.startswith(f"{character}-")]) == 1
        if intruder.calls <= number:
            break
    else:
        pytest.fail("there is always one call more")
    assert number > 10
