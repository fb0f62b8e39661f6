"""Handle the messages on the upload queue, and notify jobs that end unsent."""

import time
from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.executions import Executions
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import (
    CancelMessage,
    PoseMessage,
    RetryMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)
from posedrop.aws.record import Record
from posedrop.contract.errors import Conflict, Deferred
from posedrop.contract.reasons import ReasonCode
from posedrop.intake.cancellation import Cancellation
from posedrop.intake.upload_intake import UploadIntake

logger = Logger(child=True)

BUSY_SECONDS = 5.0
"""Seconds until a message is handled again, if another function has changed its job meanwhile."""


class Intake:
    """Handles the messages of the upload queue. `clock` is for tests."""

    def __init__(
        self,
        ledger: Ledger,
        executions: Executions,
        uploads: UploadIntake,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._executions = executions
        self._uploads = uploads
        self._cancellation = Cancellation(ledger, clock)

    def handle(self, body: str, message_id: str) -> None:
        """Handle one message. If its job ended unsent, start an execution that notifies the end.

        Raises UnreadableMessage, and Deferred if the message must be redelivered.
        """
        try:
            record = self._record(body, message_id)
        except Conflict as exc:
            raise Deferred(ReasonCode.BUSY, "another function has changed the job", BUSY_SECONDS) from exc
        if record is None:
            return
        logger.append_keys(job_id=record.job_id, attempt=record.attempt, execution=record.execution_name)
        logger.info("recorded", status=record.status, stands=record.stands, rank=record.rank, reason=record.reason)
        if record.ended and not record.notified_at:
            self._ledger.use_attempt(record)
            self._executions.start_ended(record)

    def _record(self, body: str, message_id: str) -> Record | None:
        """Return the record of the job that a message is about, or None if there is none."""
        match parse_message(body):
            case UploadMessage() as upload:
                return self._uploads.upload(upload)
            case PoseMessage() as pose:
                return self._uploads.pose(pose)
            case RetryMessage(job_id, buy_again):
                record = self._ledger.get(job_id)
                if record is None:
                    raise UnreadableMessage(f"no such job: {job_id}")
                return self._uploads.retry(record, message_id, buy_again=buy_again)
            case CancelMessage() as cancel:
                return self._cancellation.cancel(cancel)
        raise UnreadableMessage("the message belongs to another queue")
