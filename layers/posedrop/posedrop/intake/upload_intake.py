"""Turn uploads into jobs in the ledger, or into a record of what they wait for."""

import time
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.errors import is_transient
from posedrop.aws.ledger import UNEXPECTED_ERRORS, Ledger
from posedrop.aws.messages import PoseMessage, UploadMessage
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import Deferred, InternalError, JobError, PosedropError, TransientFault
from posedrop.contract.job import Job, job_id
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import rfc3339
from posedrop.contract.upload_layout import FileKind, InvalidUploadKey, SideFile, UploadLayout
from posedrop.intake.fan_out import FanOut
from posedrop.intake.folder import JobCandidate
from posedrop.intake.job_reader import JobReader
from posedrop.line.entrance import Entrance

logger = Logger(child=True)

NOTIFIED_SOON = 5.0
"""Seconds until a new attempt is tried again, while the previous attempt is not notified."""


class UploadIntake:
    """Handles the messages of the upload queue. `clock` is for tests."""

    def __init__(
        self,
        layout: UploadLayout,
        *,
        ledger: Ledger,
        reader: JobReader,
        fan_out: FanOut,
        entrance: Entrance,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._layout = layout
        self._ledger = ledger
        self._reader = reader
        self._fan_out = fan_out
        self._entrance = entrance
        self._clock = clock

    def upload(self, message: UploadMessage) -> Record | None:
        """Handle an upload, and return the record of its job, or None if there is none.

        For a face or a job file, a message is sent for each pose of the character. Raises FolderUnsteady.
        """
        try:
            upload = self._layout.parse(message.upload.key)
        except SideFile as why:
            logger.info("ignored: a side file", key=ascii(message.upload.key), reason=str(why))
            return None
        except InvalidUploadKey as why:
            key = ascii(message.upload.key)
            logger.warning("ignored: the upload is outside the contract", key=key, reason=str(why))
            return None
        logger.append_keys(character=upload.character)
        pose = "" if upload.kind in (FileKind.FACE, FileKind.JOB_FILE) else upload.pose
        return self.pose(PoseMessage(message.bucket, upload.character, pose, message.upload, message.done_at))

    def pose(self, message: PoseMessage) -> Record | None:
        """Handle one pose, and return the record of its job or None; or send a message for each pose if none is named.

        Raises FolderUnsteady.
        """
        logger.append_keys(character=message.character, pose=message.pose)
        found = None
        try:
            if message.pose:
                found = self._reader.read(message)
            else:
                self._fan_out.expand(message)
        except PosedropError:
            raise
        except Exception as exc:
            if is_transient(exc):
                raise TransientFault(f"the files cannot be read for now: {type(exc).__name__}: {exc}") from exc
            return self._count(message, exc)
        return self._record(message, found) if found else None

    def retry(self, record: Record, message_id: str, *, buy_again: bool) -> Record | None:
        """Begin a new attempt of a failed job, and return its record. Each message makes one attempt.

        If the job failed because of its files or before it was sent, the folder is read again. If its content has
        changed, it is another job. Raises Deferred while the previous attempt is not notified.
        """
        if record.status is not Status.FAILED or message_id in record.retry_messages:
            logger.info("no new attempt: the job has not failed, or this message made one", status=record.status)
            return record
        if not record.notified_at:
            raise Deferred(ReasonCode.BUSY, "the previous attempt is not notified yet", NOTIFIED_SOON)
        if record.failed_unsent:
            return self._retry_unsent(record, message_id)
        return self._new_attempt(record, message_id, buy_again=buy_again)

    def _retry_unsent(self, record: Record, message_id: str) -> Record | None:
        message = PoseMessage(record.bucket, record.character, record.pose, None)
        found = self._reader.read(message)
        if found is None:
            return None  # the waiting record says what is missing
        if found.job.job_id != record.job_id:
            logger.info("the files have changed, so they are another job", other=found.job.job_id)
            return self._record(message, found)
        return self._new_attempt(record, message_id, inputs=found.job.inputs, error=found.error)

    def _new_attempt(self, record: Record, message_id: str, *, error: JobError | None = None, **changes: Any) -> Record:
        """Begin the next attempt of a failed job, and give it a place."""
        place = {}
        if error is None:
            place = self._entrance.place(record.character, record.dispatch_number)
        started = self._ledger.new_attempt(record, message_id, self._clock(), place=place, error=error, **changes)
        self._entrance.send(started, place)
        logger.info("a new attempt", attempt=started.attempt)
        return started

    def _record(self, message: PoseMessage, found: JobCandidate) -> Record:
        """Return the record of a job. Create it with a place, or update it if the content was uploaded again."""
        now = self._clock()
        record = self._ledger.get(found.job.job_id)
        if record:
            record = self._renew(record, found, now)
        elif found.error:
            record = self._ledger.refuse(found.job, found.error, now)
        else:
            place = self._entrance.place(message.character)
            record = self._ledger.queue(found.job, place, now)
            self._entrance.send(record, place)
        for waiting in (message.pose, ""):
            self._ledger.stop_waiting(message.character, waiting)
        return record

    def _renew(self, record: Record, found: JobCandidate, now: float) -> Record:
        """Update an existing job after its content was uploaded again."""
        newer = {name: made.version_id for name, made in found.job.inputs.items()}
        known = {name: made["version_id"] for name, made in record.inputs.items()}
        if found.error or newer == known:
            return record
        if record.status is Status.QUEUED:
            return self._ledger.renew_inputs(record, found.job.inputs, now)
        if record.notified_at and record.failed_unsent:
            # The content is valid, so it failed for another reason. Uploading it again asks for a new attempt.
            return self._new_attempt(record, ":".join(filter(None, newer.values())), inputs=found.job.inputs)
        return record

    def _count(self, message: PoseMessage, exc: Exception) -> Record:
        """Count an unexpected error before there is a job. After UNEXPECTED_ERRORS, return a failed job's record."""
        text = f"unexpected error: {type(exc).__name__}: {exc}"
        now = self._clock()
        waiting = self._ledger.count_unread(message.bucket, message.character, message.pose, text, now)
        if waiting.errors < UNEXPECTED_ERRORS:
            raise exc
        logger.exception("too many unexpected errors: the job ends")
        upload = [message.upload.key, message.upload.etag] if message.upload else None
        content = {"unread": upload, "since": rfc3339(waiting.created_at)}
        name = job_id(message.bucket, message.character, message.pose, content)
        error = InternalError(f"the files could not be read: {type(exc).__name__}: {exc}")
        job = Job(name, message.bucket, message.character, message.pose, {})
        record = self._ledger.refuse(job, error, self._clock())
        self._ledger.stop_waiting(message.character, message.pose)
        return record
