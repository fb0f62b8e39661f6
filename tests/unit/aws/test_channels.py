"""The channels of a notification: each is tried again only if it failed."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from posedrop.aws.channels import BUS, TOPIC, Channels, EventBus
from posedrop.aws.notifier import SIZE_LIMIT
from posedrop.contract.errors import EventRejected
from posedrop.contract.notification import Notification
from tests.support import load_event


@dataclass
class Aws:
    """SNS and EventBridge, each of which fails as often as a test says."""

    failing: dict[str, int] = field(default_factory=dict)
    topic: list[dict[str, Any]] = field(default_factory=list)
    bus: list[dict[str, Any]] = field(default_factory=list)
    refuses: bool = False

    def publish(self, **request: Any) -> None:
        self._fail(TOPIC)
        self.topic.append(request)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self._fail(BUS)
        if self.refuses:
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "later"}]}
        self.bus += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

    def _fail(self, channel: str) -> None:
        if self.failing.get(channel):
            self.failing[channel] -= 1
            raise ClientError({"Error": {"Code": "InternalError", "Message": channel}}, "Publish")

    def channels(self) -> Channels:
        sns: Any = self
        return Channels(sns, "topic", EventBus(self, "images"))


def published(aws: Aws, tries: int) -> list[str]:
    """Try until all has gone out, each time with what was recorded; return what was recorded in the end."""
    published: list[str] = []

    def record(done: list[str]) -> None:
        published[:] = done

    for number in range(tries):
        try:
            aws.channels().publish(Notification(**load_event("notification.json")), published, record)
        except (ClientError, EventRejected):
            assert number < tries - 1
    return published


@pytest.mark.parametrize("failing", [{}, {TOPIC: 1}, {BUS: 1}, {TOPIC: 2, BUS: 1}, {TOPIC: 1, BUS: 3}])
def test_each_channel_is_reported_once_whichever_fails(failing: dict[str, int]) -> None:
    aws = Aws(dict(failing))
    assert set(published(aws, max(failing.values(), default=0) + 1)) == {TOPIC, BUS}
    assert (len(aws.topic), len(aws.bus)) == (1, 1)


def test_a_bus_that_does_not_take_an_event_has_failed() -> None:
    aws = Aws(refuses=True)
    with pytest.raises(EventRejected, match="images: InternalFailure: later"):
        aws.channels().publish(Notification(**load_event("notification.json")), [], lambda done: None)
    assert len(aws.topic) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [("SUCCEEDED", "Job Succeeded"), ("FAILED", "Job Failed"), ("INCOMPLETE", "Uploads Incomplete")],
)
def test_the_event_is_the_notification(status: str, kind: str) -> None:
    aws = Aws()
    message = {**load_event("notification.json"), "status": status}
    aws.channels().publish(Notification(**message), [TOPIC], lambda done: None)
    (entry,) = aws.bus
    assert json.loads(entry.pop("Detail")) == message
    assert entry == {"EventBusName": "images", "Source": "posedrop", "DetailType": kind}
    assert aws.topic == []


def test_an_event_always_fits() -> None:
    aws = Aws()
    message = load_event("notification.json")
    message["parameters"]["prompt"] = "\x01" * SIZE_LIMIT
    aws.channels().publish(Notification(**message), [TOPIC], lambda done: None)
    assert len(aws.bus[0]["Detail"]) < SIZE_LIMIT
    assert json.loads(aws.bus[0]["Detail"])["context"] == message["context"]


def test_without_a_bus_nothing_is_recorded_besides() -> None:
    aws: Any = Aws()
    recorded: list[list[str]] = []
    Channels(aws, "topic").publish(Notification(**load_event("notification.json")), [], recorded.append)
    assert len(aws.topic) == 1
    assert recorded == []
