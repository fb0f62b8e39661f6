"""Send dispatched jobs to the queue that `submit` reads."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.messages import LONGEST_DELAY, SubmitMessage
from posedrop.aws.parallel import Parallel, in_threads

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

logger = Logger(child=True)

BATCH = 10
"""The most messages of one SendMessageBatch (SQS API reference)."""


class SubmitQueue:
    """The queue of dispatched jobs. Errors of SQS pass as botocore's ClientError. `parallel` is for simulations."""

    def __init__(self, sqs: "SQSClient", url: str, parallel: Parallel = in_threads) -> None:
        self._sqs = sqs
        self._url = url
        self._parallel = parallel

    def send(self, messages: Sequence[tuple[SubmitMessage, float]]) -> None:
        """Send messages, each after its delay in seconds.

        A message that the queue rejects is not sent again. Its job is due in ten minutes, as after a lost message.
        """
        batches = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
        self._parallel(self._send_batch, batches)

    def _send_batch(self, messages: Sequence[tuple[SubmitMessage, float]]) -> None:
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {
                "Id": str(number),
                "MessageBody": message.to_json(),
                # Whole seconds, rounded up: a job that arrives before the gate opens would be put back.
                "DelaySeconds": min(max(0, math.ceil(delay)), LONGEST_DELAY),
            }
            for number, (message, delay) in enumerate(messages)
        ]
        response = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
        for failed in response.get("Failed", []):
            job_id = messages[int(failed["Id"])][0].job_id
            logger.warning("the queue rejected a message", job_id=job_id, reason=failed.get("Message"))
