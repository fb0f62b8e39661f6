"""Cancel what was not sent: a queued job, or uploads that are no job yet.

The end is one conditional write. It leaves the record among those whose end is to be notified, so `intake` notifies it
as any other job that fails before it is sent; should its function die in between, the redelivered message or the sweep
does.
"""

from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import CANCELLED, Ledger
from posedrop.aws.messages import CancelMessage
from posedrop.aws.record import Record, Status
from posedrop.contract.job import Job, job_id
from posedrop.contract.times import rfc3339

logger = Logger(child=True)


def cancelled_upload_id(waiting: Record) -> str:
    """Return the id of the failed job that uploads become which are cancelled before they are a job."""
    return job_id(waiting.bucket, waiting.character, waiting.pose, {"cancelled": rfc3339(waiting.created_at)})


class Cancellation:
    """Cancels jobs in the ledger. `clock` gives seconds since the epoch."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    def cancel(self, message: CancelMessage) -> Record | None:
        """Cancel what a message names; return the record that is to be notified, or None if there is none.

        A job that was sent, has ended, or has a later attempt is left alone. Raises Conflict if it moves meanwhile.
        """
        record = self._ledger.get(message.job_id)
        if record is None or record.attempt != message.attempt or not record.can_be_cancelled:
            logger.info("nothing to cancel", status=record.status if record else None)
            # Where this message was handled before, its function may have died before it notified anybody.
            return record if record and record.cancelled and record.attempt == message.attempt else None
        if record.status is Status.WAITING:
            return self._cancel_uploads(record)
        return self._ledger.cancel(record, self._clock())

    def _cancel_uploads(self, waiting: Record) -> Record:
        """Report uploads as a job that failed, since only a job's end is notified, and stop waiting for the rest."""
        job = Job(cancelled_upload_id(waiting), waiting.bucket, waiting.character, waiting.pose, {})
        record = self._ledger.refuse(job, CANCELLED, self._clock(), cancelled=True)
        self._ledger.stop_waiting(waiting.character, waiting.pose)
        return record
