"""Cancel a queued job that was not sent, or uploads that are not a job yet.

Cancelling is one conditional write. The record then counts as ended and not notified, so `intake` notifies it like any
other job that ends unsent. If the function dies in between, the redelivered message or the sweep completes this.
"""

from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import CANCELLED, Ledger
from posedrop.aws.messages import CancelMessage
from posedrop.aws.record import Record, WaitingRecord
from posedrop.contract.job import Job, is_waiting_id, job_id
from posedrop.contract.times import rfc3339

logger = Logger(child=True)


def cancelled_upload_id(waiting: WaitingRecord) -> str:
    """Return the job id for uploads that are cancelled before they are a job. They are reported as a failed job."""
    return job_id(waiting.bucket, waiting.character, waiting.pose, {"cancelled": rfc3339(waiting.created_at)})


class Cancellation:
    """Cancels jobs in the ledger. `clock` gives seconds since the epoch."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    def cancel(self, message: CancelMessage) -> Record | None:
        """Cancel what a message names. Return the record to notify, or None if there is none.

        A job that was sent, has ended, or has a later attempt is not changed. Raises Conflict if the record changes
        meanwhile.
        """
        if is_waiting_id(message.job_id):
            return self._cancel_uploads(message.job_id)
        record = self._ledger.get(message.job_id)
        if record is None or record.attempt != message.attempt or not record.can_be_cancelled:
            logger.info("nothing to cancel", status=record.status if record else None)
            # If this message was handled before, the function may have died before it notified.
            return record if record and record.cancelled and record.attempt == message.attempt else None
        return self._ledger.cancel(record, self._clock())

    def _cancel_uploads(self, waiting_id: str) -> Record | None:
        """Record the uploads as a failed job, because only jobs are notified, and delete their waiting record."""
        waiting = self._ledger.get_waiting(waiting_id)
        if waiting is None:
            logger.info("nothing to cancel", status=None)
            return None
        job = Job(cancelled_upload_id(waiting), waiting.bucket, waiting.character, waiting.pose, {})
        record = self._ledger.refuse(job, CANCELLED, self._clock(), cancelled=True)
        self._ledger.stop_waiting(waiting.character, waiting.pose)
        return record
