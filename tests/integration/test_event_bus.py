"""A stack with an event bus: if one channel fails, a delivery or a sweep later tries only that channel again."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from posedrop import settings
from posedrop.contract.errors import SweepIncomplete
from tests.integration.conftest import Pipeline, clock_module, load
from tests.support import Context, image

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))


class Bus:
    """What comes over the bus, which fails a few times first."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.failing = 0

    def put(self, params: dict[str, Any], **_: Any) -> Any:
        """Answer PutEvents."""
        if self.failing:
            self.failing -= 1
            return SimpleNamespace(status_code=400), {"Error": {"Code": "InternalException", "Message": "by the test"}}
        self.events += [json.loads(entry["Detail"]) for entry in json.loads(params["body"])["Entries"]]
        return SimpleNamespace(status_code=200), {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


@pytest.fixture
def bus(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """The stack's event bus."""
    monkeypatch.setenv("EVENT_BUS_NAME", "images")
    settings.from_environment.cache_clear()
    found = Bus()
    pipeline.hook("events", "PutEvents", found.put)
    return found


def test_the_notification_is_an_event_too(pipeline: Pipeline, bus: Bus) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    assert bus.events == pipeline.notifications()
    assert pipeline.record()["notified_at"]


@pytest.mark.parametrize("channel", ["bus", "topic"])
def test_the_channel_that_failed_is_tried_again_alone(pipeline: Pipeline, bus: Bus, channel: str) -> None:
    pipeline.upload(FACE, WALK)
    (execution,) = pipeline.executions().values()
    if channel == "bus":
        bus.failing = 3
    else:
        pipeline.break_call("sns", "Publish", "InternalError", times=3)
    for _ in range(3):
        with pytest.raises(ClientError):
            pipeline.run(execution)
        assert "notified_at" not in pipeline.record()
    pipeline.run(execution)
    assert pipeline.record()["notified_at"]
    assert len(bus.events) == len(pipeline.notifications()) == 1


@pytest.mark.parametrize("channel", ["bus", "topic"])
def test_a_report_of_waiting_uploads_is_also_tried_again_alone(
    pipeline: Pipeline, bus: Bus, monkeypatch: pytest.MonkeyPatch, channel: str
) -> None:
    monkeypatch.setenv("DELIVER_FUNCTION", "deliver")
    monkeypatch.setenv("WAITING_ALERT_HOURS", "24")
    sweep = load("sweep")
    monkeypatch.setattr(sweep, "time", clock_module(pipeline.clock))
    pipeline.hook("lambda", "Invoke", lambda *_, **__: (SimpleNamespace(status_code=202), {"StatusCode": 202}))
    pipeline.upload(WALK)
    pipeline.clock.now += 25 * 3600
    if channel == "bus":
        bus.failing = 1
    else:
        pipeline.break_call("sns", "Publish", "InternalError", times=1)
    with pytest.raises(SweepIncomplete):
        sweep.handler({}, Context(300))
    assert "alerted_at" not in pipeline.record()
    pipeline.clock.now += 3600
    sweep.handler({}, Context(300))
    assert pipeline.record()["alerted_at"]
    assert bus.events == pipeline.notifications()
    assert [event["status"] for event in bus.events] == ["INCOMPLETE"]
