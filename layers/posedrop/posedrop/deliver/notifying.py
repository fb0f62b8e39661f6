"""Notify the end of an attempt, after its result.json is stored."""

from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.channels import Channels
from posedrop.aws.metrics import count, count_failure, count_success
from posedrop.aws.notifier import notification
from posedrop.aws.output_bucket import OutputBucket
from posedrop.aws.record import Record, Status
from posedrop.aws.resources import Resources
from posedrop.contract.errors import DeliveryFailed
from posedrop.contract.execution import ExecutionState
from posedrop.settings import DeliverSettings

logger = Logger(child=True)


class Notifying:
    """Notifies ends.

    `can_rescue`: whether the provider's history can be searched for the pictures of a failed attempt. `clock` is for
    tests.
    """

    def __init__(
        self, settings: DeliverSettings, aws: Resources, clock: Callable[[], float], *, can_rescue: bool
    ) -> None:
        self._ledger = aws.table.ledger
        self._outputs = OutputBucket(aws.s3, settings.output_bucket)
        self._channels = Channels.of(settings, aws.make_client)
        self._link_seconds = settings.result_link_seconds
        """How long the image URLs in a notification work. 0 means no URLs."""
        self._can_rescue = can_rescue
        self._clock = clock

    def notify(self, record: Record, state: ExecutionState | None, *, last: bool) -> None:
        """Notify the end of an attempt. `last`: the last try, so notify even if result.json cannot be stored."""
        if record.notified_at:
            return
        lacks_result = False
        if record.status is Status.SUCCEEDED:
            lacks_result = not self.store_result(record, last=last)
        message = notification(record)
        if self._link_seconds:
            message = message.with_links(lambda key: self._outputs.link(key, self._link_seconds))
        self._channels.publish(message, record.published, lambda channels: self._ledger.published(record, channels))
        self._ledger.notified(record, self._clock(), rescue=self._can_rescue, lacks_result=lacks_result)
        if record.error:
            count_failure(record, record.error["type"])
        else:
            count_success(record, state.elapsed_seconds if state else None)
        if record.metrics.get("rescued"):
            count("Rescued")

    def store_result(self, record: Record, *, last: bool) -> bool:
        """Store result.json, and return whether it is stored. Raises DeliveryFailed unless this is the last try.

        Call it only after the ledger has the success, so that only successful attempts have a result.json.
        """
        try:
            self._outputs.store_result(record.output_folder, notification(record).to_dict())
        except DeliveryFailed:
            if not last:
                raise
            logger.exception("result.json is not stored: the sweep has it stored later, the end is notified now")
            return False
        return True
