"""Have uploads that wait for a file read again, and report those that wait too long."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.channels import Channels
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import PoseMessage
from posedrop.aws.notifier import incomplete
from posedrop.aws.record import WaitingRecord
from posedrop.aws.record_table import Conflict

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

logger = Logger(child=True)

HOUR = 3600.0
LONGEST_BETWEEN = 30 * 24 * HOUR
"""The longest time between two checks of incomplete uploads, in seconds."""


class WaitingSweep:
    """Checks waiting uploads. `clock` is for tests."""

    def __init__(
        self,
        ledger: Ledger,
        sqs: "SQSClient",
        queue_url: str,
        channels: Channels,
        alert_hours: float,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._sqs = sqs
        self._queue_url = queue_url
        self._channels = channels
        self._alert_hours = alert_hours
        self._clock = clock

    def check(self, waiting_id: str, age: float) -> bool:
        """Have uploads read again, unless their record changed less than `age` seconds ago. Return whether it was done.

        If they have waited long enough, that is notified once.
        """
        waiting = self._ledger.get_waiting(waiting_id)
        now = self._clock()
        if waiting is None or waiting.updated_at > now - age:  # the index may be behind the table
            return False
        logger.append_keys(character=waiting.character, pose=waiting.pose)
        check_at = now  # if this fails, the next sweep tries again
        try:
            self._read_again(waiting)
            self._alert(waiting)
            check_at = self._next_check(waiting, now)
        finally:
            with suppress(Conflict):  # the record has changed
                self._ledger.check_later(waiting, check_at)
        return True

    def _read_again(self, waiting: WaitingRecord) -> None:
        message = PoseMessage(waiting.bucket, waiting.character, waiting.pose, None)
        self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=message.to_json(), DelaySeconds=0)
        logger.info("sent again")

    def _alert(self, waiting: WaitingRecord) -> None:
        """Notify once what uploads are waiting for, if they have waited long enough."""
        age = self._clock() - waiting.created_at
        if waiting.alerted_at or age < self._alert_hours * HOUR:
            return
        logger.warning("incomplete", missing=waiting.missing)
        self._channels.publish(
            incomplete(waiting), waiting.published, lambda channels: self._ledger.alert_published(waiting, channels)
        )
        try:
            self._ledger.alerted(waiting, self._clock())
        except Conflict:
            logger.info("the uploads have changed meanwhile")

    def _next_check(self, waiting: WaitingRecord, now: float) -> float:
        """Return when to check uploads again. They are checked ever less often: missing files have own events."""
        created_at = waiting.created_at
        at, alert_at = now + min(max(now - created_at, HOUR), LONGEST_BETWEEN), created_at + self._alert_hours * HOUR
        return min(at, alert_at) if alert_at > now else at
