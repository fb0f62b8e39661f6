"""Handle uploads, poses and retries: read the files, and have their job recorded if they are one."""

from aws_lambda_powertools import Logger

from posedrop.aws.errors import is_transient
from posedrop.aws.messages import PoseMessage, UploadMessage
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import Deferred, PosedropError, TransientFault
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.upload_layout import FileKind, InvalidUploadKey, SideFile, UploadLayout
from posedrop.intake.fan_out import FanOut
from posedrop.intake.job_reader import JobReader
from posedrop.intake.job_recorder import JobRecorder

logger = Logger(child=True)

NOTIFIED_SOON = 5.0
"""Seconds until a new attempt is tried again, while the previous attempt is not notified."""


class UploadIntake:
    """Handles messages about files."""

    def __init__(
        self,
        layout: UploadLayout,
        *,
        reader: JobReader,
        fan_out: FanOut,
        recorder: JobRecorder,
    ) -> None:
        self._layout = layout
        self._reader = reader
        self._fan_out = fan_out
        self._recorder = recorder

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
        """Handle one pose, and return the record of its job, or None if there is none.

        If the message names no pose, a message is sent for each pose of the character. Raises FolderUnsteady.
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
            return self._recorder.count_error(message, exc)
        return self._recorder.record(message, found) if found else None

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
        return self._recorder.new_attempt(record, message_id, buy_again=buy_again)

    def _retry_unsent(self, record: Record, message_id: str) -> Record | None:
        message = PoseMessage(record.bucket, record.character, record.pose, None)
        found = self._reader.read(message)
        if found is None:
            return None  # the waiting record says what is missing
        if found.job.job_id != record.job_id:
            logger.info("the files have changed, so they are another job", other=found.job.job_id)
            return self._recorder.record(message, found)
        return self._recorder.new_attempt(record, message_id, inputs=found.job.inputs, error=found.error)
