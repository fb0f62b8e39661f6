"""Publish a notification through each of its channels: the SNS topic, and an EventBridge bus if there is one."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.notifier import SIZE_LIMIT, publish, shortened
from posedrop.contract.errors import EventRejected
from posedrop.contract.notification import Notification

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

logger = Logger(child=True)

TOPIC, BUS = "topic", "bus"
SOURCE = "posedrop"
DETAIL_TYPES = {"SUCCEEDED": "Job Succeeded", "FAILED": "Job Failed", "INCOMPLETE": "Uploads Incomplete"}


class EventBus:
    """A bus of EventBridge, in the same account and region."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def publish(self, message: Notification) -> None:
        """Publish a notification as an event. Raises EventRejected; other errors of EventBridge pass as botocore's.

        PutEvents raises no error for an event that it rejects, but reports the event in its response. An event may have
        256 KiB (API reference, PutEventsRequestEntry), so the texts of a larger one are cut.
        """
        kind = DETAIL_TYPES[message.status]
        detail = json.dumps(message.to_dict())
        if len(detail) + len(SOURCE) + len(kind) > SIZE_LIMIT:
            detail = json.dumps(shortened(message).to_dict())
        response = self._client.put_events(
            Entries=[{"EventBusName": self._name, "Source": SOURCE, "DetailType": kind, "Detail": detail}]
        )
        if response["FailedEntryCount"]:
            entry = response["Entries"][0]
            raise EventRejected(f"the event bus {self._name}: {entry.get('ErrorCode')}: {entry.get('ErrorMessage')}")


class ChannelSettings(Protocol):
    """The settings that say which channels a stack has."""

    @property
    def notification_topic_arn(self) -> str:
        """The ARN of the SNS topic."""

    @property
    def event_bus_name(self) -> str:
        """The name of the EventBridge bus, or empty if there is none."""


class Channels:
    """All channels of a stack. `bus` is None if the stack has none."""

    @classmethod
    def of(cls, settings: ChannelSettings, client: Callable[..., Any]) -> Self:
        """Return the channels that the settings name. `client` makes the boto3 client of a service."""
        bus = EventBus(client("events"), settings.event_bus_name) if settings.event_bus_name else None
        return cls(client("sns"), settings.notification_topic_arn, bus)

    def __init__(self, sns: "SNSClient", topic_arn: str, bus: EventBus | None = None) -> None:
        self._channels: dict[str, Callable[[Notification], None]] = {
            TOPIC: lambda message: publish(sns, topic_arn, message)
        }
        if bus:
            self._channels[BUS] = bus.publish

    def publish(self, message: Notification, published: Sequence[str], record: Callable[[list[str]], object]) -> None:
        """Publish a notification through each channel that is not yet in `published`.

        If there are several channels, `record` is called after each success with all channels that have succeeded, so
        that a later try skips them. If one channel fails, the others are still tried, and the first error is raised at
        the end.
        """
        done = list(published)
        failure: Exception | None = None
        for name, send in self._channels.items():
            if name in done:
                continue
            try:
                send(message)
            except (ClientError, BotoCoreError, EventRejected) as exc:
                logger.warning("a channel of the notification failed", channel=name, reason=str(exc))
                failure = failure or exc
                continue
            done.append(name)
            if len(self._channels) > 1:
                record(done)
        if failure:
            raise failure
