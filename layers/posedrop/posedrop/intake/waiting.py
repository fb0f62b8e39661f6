"""Record what uploads wait for, and send messages about poses that are handled later."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import PoseMessage
from posedrop.aws.metrics import count
from posedrop.contract.errors import PosedropError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

logger = Logger(child=True)


class Waiting:
    """Uploads that are not a job yet: their records, and the messages that read them again. `clock` is for tests."""

    def __init__(self, ledger: Ledger, sqs: "SQSClient", queue_url: str, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._sqs = sqs
        self._queue_url = queue_url
        self._clock = clock

    def record(self, message: PoseMessage, missing: list[str], reason: str | None = None) -> None:
        """Record what is missing until the files of a message are a job."""
        now = self._clock()
        waiting = self._ledger.wait(message.bucket, message.character, message.pose, missing, now, reason)
        if message.pose:
            self._ledger.stop_waiting(message.character, "")  # the character has a pose now
        if waiting.created_at == waiting.updated_at:  # count only the first time
            count("Waiting")
        logger.info("waiting", missing=missing, reason=reason)

    def stop(self, message: PoseMessage) -> None:
        """Remove the record of uploads that are deleted."""
        self._ledger.stop_waiting(message.character, message.pose)

    def send(self, messages: Sequence[tuple[PoseMessage, int]]) -> None:
        """Send at most ten messages, each with its delay in seconds. Raises PosedropError if the queue rejects one."""
        response = self._sqs.send_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(number), "MessageBody": message.to_json(), "DelaySeconds": delay}
                for number, (message, delay) in enumerate(messages)
            ],
        )
        if response.get("Failed"):
            raise PosedropError(f"{len(response['Failed'])} messages were rejected by the queue")
