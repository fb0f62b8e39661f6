"""Process the messages of a queue: handle each one, defer it, or dead-letter it with a reason."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.errors import is_transient
from posedrop.aws.messages import UnreadableMessage
from posedrop.contract.errors import Deferred
from posedrop.contract.reasons import backoff

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

logger = Logger(child=True)

LONGEST_VISIBILITY = 43200 - 900
"""Seconds. SQS hides a message for at most twelve hours from its receipt (API reference, ChangeMessageVisibility). The
function may have used 900 seconds of them."""
LAST_RECEIVED = 950
"""A message that was received more often is dead-lettered with a reason. The queue's own maxReceiveCount is 1000."""
JOB_KEYS = ("message_id", "character", "pose", "job_id", "attempt", "execution")
"""The log keys that are set for one message and removed after it."""

Handle = Callable[[SQSRecord, int], None]
"""Handles a message. The second argument is how often it was received."""


class Inbox:
    """One queue. Its dead letters have `source` as an attribute."""

    def __init__(self, sqs: "SQSClient", url: str, dead_letter_url: str, source: str) -> None:
        self._sqs = sqs
        self._url = url
        self._dead_letter_url = dead_letter_url
        self._source = source

    def process(self, event: dict[str, Any], handle: Handle) -> dict[str, Any]:
        """Handle the messages of a Lambda event. Unfinished ones are batch item failures, so SQS redelivers them."""
        unfinished = []
        for message in SQSEvent(event).records:
            logger.append_keys(message_id=message.message_id)
            try:
                done = self._process(message, handle)
            except (BotoCoreError, ClientError) as exc:
                logger.warning(
                    "not handled: SQS redelivers it after the visibility timeout", reason=f"{type(exc).__name__}: {exc}"
                )
                done = False
            finally:
                logger.remove_keys(JOB_KEYS)
            unfinished += [] if done else [{"itemIdentifier": message.message_id}]
        return {"batchItemFailures": unfinished}

    def _process(self, message: SQSRecord, handle: Handle) -> bool:
        """Handle one message, and return whether it is finished. Errors of SQS pass as botocore's ClientError."""
        received = int(message.attributes.approximate_receive_count)
        try:
            if received > LAST_RECEIVED:
                raise UnreadableMessage(
                    f"received {received} times: it was deferred for days, or the function died each time"
                )
            handle(message, received)
        except UnreadableMessage as exc:
            self._dead_letter(message, str(exc))
        except Deferred as exc:
            return self._defer(message, str(exc), exc.seconds)
        except Exception as exc:
            if not is_transient(exc):
                logger.exception("unexpected error")
            return self._defer(message, f"{type(exc).__name__}: {exc}", backoff(received))
        return True

    def _defer(self, message: SQSRecord, reason: str, seconds: float) -> bool:
        """Hide a message for some seconds, at most as long as SQS allows."""
        logger.info("deferred", reason=reason, seconds=seconds)
        self._sqs.change_message_visibility(
            QueueUrl=self._url,
            ReceiptHandle=message.receipt_handle,
            VisibilityTimeout=min(round(seconds), LONGEST_VISIBILITY),
        )
        return False

    def _dead_letter(self, message: SQSRecord, reason: str) -> None:
        logger.error("dead-lettered", reason=reason)
        self._sqs.send_message(
            QueueUrl=self._dead_letter_url,
            MessageBody=message.body,
            MessageAttributes={
                "reason": {"DataType": "String", "StringValue": reason[:1000]},
                "source": {"DataType": "String", "StringValue": self._source},
            },
        )
