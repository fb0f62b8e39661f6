"""Turn uploads into jobs in the ledger, or into a record of what they wait for."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.aws.errors import is_transient
from posedrop.aws.ledger import UNEXPECTED_ERRORS, Ledger
from posedrop.aws.messages import PoseMessage, UploadMessage
from posedrop.aws.metrics import count
from posedrop.aws.read_images import ReadImages
from posedrop.aws.record import Record, Status
from posedrop.aws.stored_uploads import UploadChanged
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.contents import Content
from posedrop.contract.deferral import Deferred
from posedrop.contract.errors import InternalError, JobError, PosedropError, TransientFault
from posedrop.contract.job import Job, job_id
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import rfc3339
from posedrop.contract.upload_layout import FileKind, InvalidUploadKey, SideFile, UploadLayout, hint
from posedrop.intake.folder import JobCandidate, later_upload, read_candidate
from posedrop.line.entrance import Entrance
from posedrop.settings import IntakeSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

logger = Logger(child=True)

LONGEST_DELAY = 900
"""The longest delay of a message in seconds (SQS API reference, SendMessage)."""
OWN_EVENT_DELAY = 60
"""Seconds to wait for a pose's own event. After that the pose is handled without it, because it may be lost."""
PAGE = 1000
"""Files of a character that are listed at once: the most that S3 allows (API reference, ListObjectsV2)."""
NOTIFIED_SOON = 5.0
"""Seconds until a new attempt is tried again, while the previous attempt is not notified."""
MAY_COME = 120.0
"""Seconds to wait for a picture after an empty file or another file of its stem. Some gateways write an empty file
first, and a phone's video may arrive before its picture."""
READS = 5
"""How often a folder is read if it keeps changing."""


class FolderUnsteady(PosedropError):
    """The files of a job kept changing while they were being read."""


class UploadIntake:
    """Handles the messages of the upload queue. `clock` is for tests."""

    def __init__(
        self,
        settings: IntakeSettings,
        default_prompt: Callable[[], str],
        *,
        s3: "S3Client",
        sqs: "SQSClient",
        ledger: Ledger,
        entrance: Entrance,
        images: ReadImages,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._layout = UploadLayout(settings.upload_prefix)
        self._default_prompt = default_prompt
        self._s3 = s3
        self._sqs = sqs
        self._ledger = ledger
        self._entrance = entrance
        self._images = images
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
                found = self._read(message)
            else:
                self._expand(message)
        except PosedropError:
            raise
        except Exception as exc:
            if is_transient(exc):
                raise TransientFault(f"the files cannot be read for now: {type(exc).__name__}: {exc}") from exc
            return self._count(message, exc)
        return self._record(message, found) if found else None

    def retry(self, record: Record, wish: str, *, buy_again: bool) -> Record | None:
        """Begin a new attempt of a failed job, and return its record. Each `wish` (a message's id) makes one attempt.

        If the job failed because of its files or before it was sent, the folder is read again. If its content has
        changed, it is another job. Raises Deferred while the previous attempt is not notified.
        """
        if record.status is not Status.FAILED or wish in record.wishes:
            logger.info("no new attempt: the job has not failed, or this message made one", status=record.status)
            return record
        if not record.notified_at:
            raise Deferred(ReasonCode.BUSY, "the previous attempt is not notified yet", NOTIFIED_SOON)
        if record.failed_unsent:
            return self._retry_unsent(record, wish)
        return self._new_attempt(record, wish, buy_again=buy_again)

    def _retry_unsent(self, record: Record, wish: str) -> Record | None:
        message = PoseMessage(record.bucket, record.character, record.pose, None)
        found = self._read(message)
        if found is None:
            return None  # the waiting record says what is missing
        if found.job.job_id != record.job_id:
            logger.info("the files have changed, so they are another job", other=found.job.job_id)
            return self._record(message, found)
        return self._new_attempt(record, wish, inputs=found.job.inputs, error=found.error)

    def _new_attempt(self, record: Record, wish: str, *, error: JobError | None = None, **changes: Any) -> Record:
        """Begin the next attempt of a failed job, and give it a place."""
        place = {}
        if error is None:
            place = self._entrance.place(record.character, record.dispatch_number)
        started = self._ledger.new_attempt(record, wish, self._clock(), place=place, error=error, **changes)
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

    def _expand(self, message: PoseMessage) -> None:
        """Send a message for each pose on a page of the listing, and one for the next page.

        So the queue never has much more than one page of a character. If the function dies, the page is done again.
        """
        bucket = UploadBucket(self._s3, message.bucket, self._layout)
        own = message.upload.key if message.upload else ""
        poses, after = bucket.some_poses(message.character, message.after, PAGE, own)
        if not poses and not message.after:
            found = bucket.files(message.character, "", own)
            if not found.present():
                logger.info("ignored: the upload was deleted meanwhile")
                self._ledger.stop_waiting(message.character, "")
                return
            missing = ["pose"] if found.face else ["face", "pose"]
            self._wait(message, missing, hint(missing, found.strangers))
            poses, after = bucket.some_poses(message.character, "", PAGE, own)  # a pose may have arrived meanwhile
        delays = {pose: self._delay(modified, message.done_at) for pose, modified in poses.items()}
        messages = [(replace(message, pose=pose, after=""), delay) for pose, delay in delays.items()]
        for start in range(0, len(messages), 10):
            self._send(messages[start : start + 10])
        if after:
            self._send([(replace(message, after=after), max(delays.values()))])
        logger.info("expanded", poses=len(poses), later=sum(delay > 0 for delay in delays.values()), after=after)

    def _delay(self, modified: datetime, done_at: float | None) -> int:
        """Return the delay in seconds of the message for a pose, after a face or job file was uploaded at `done_at`.

        A pose that was still settling then, or arrived later, has its own event, which sees the file and should handle
        the pose first.
        """
        # + 1: S3 truncates its times to seconds.
        settled_before = (done_at or math.inf) + 1 - self._settings.settle_seconds
        return 0 if modified.timestamp() < settled_before else OWN_EVENT_DELAY

    def _send(self, messages: Sequence[tuple[PoseMessage, int]]) -> None:
        """Send at most ten messages, each with its delay in seconds."""
        response = self._sqs.send_message_batch(
            QueueUrl=self._settings.upload_queue_url,
            Entries=[
                {"Id": str(number), "MessageBody": message.to_json(), "DelaySeconds": delay}
                for number, (message, delay) in enumerate(messages)
            ],
        )
        if response.get("Failed"):
            raise PosedropError(f"{len(response['Failed'])} messages were rejected by the queue")

    def _read(self, message: PoseMessage) -> JobCandidate | None:
        """Return the job that the files make. If they are not a job yet, record what is missing and return None."""
        bucket = UploadBucket(self._s3, message.bucket, self._layout)
        own = message.upload.key if message.upload else ""
        before: JobFiles | None = None
        for _ in range(READS):
            files = bucket.files(message.character, message.pose, own)
            newer = later_upload(files, message.upload, self._settings.settle_seconds, self._clock())
            if newer:
                logger.info("left to the event of a newer file", key=newer.key)
                left = newer.modified.timestamp() + self._settings.settle_seconds - self._clock()
                self._read_again(replace(message, upload=None), left)
                return None
            if not files.pose and not files.pose_file:
                logger.info("ignored: the upload was deleted meanwhile")
                self._ledger.stop_waiting(message.character, message.pose)
                return None
            missing, reason = files.missing, hint(files.missing, files.strangers)
            if not missing:
                try:
                    found = self._candidate(bucket, message, files)
                except UploadChanged as exc:
                    logger.info("a file changed while it was read", key=str(exc))
                    continue
                coming = self._coming(found)
                if not found.lacks_prompt and not coming:
                    return found
                missing, reason = list(coming) or ["prompt"], _pending_reason(coming)
                if coming and files != before:
                    youngest = max(listed.modified.timestamp() for listed, _ in coming.values())
                    self._read_again(message, youngest + MAY_COME - self._clock())
            if files == before:
                return None
            self._wait(message, missing, reason)
            before = files  # read once more: a file may have arrived meanwhile
        raise FolderUnsteady("the files keep changing")

    def _candidate(self, bucket: UploadBucket, message: PoseMessage, files: JobFiles) -> JobCandidate:
        return read_candidate(
            bucket,
            message.character,
            message.pose,
            files,
            self._default_prompt(),
            self._images,
            prepares=self._settings.prepare_images,
            model=self._settings.model,
        )

    def _coming(self, found: JobCandidate) -> dict[str, tuple[Listed, Content]]:
        """Return the recent files that a picture may still replace or join, by "face" and "pose"."""
        since = self._clock() - MAY_COME
        return {what: pair for what, pair in found.pending.items() if pair[0].modified.timestamp() > since}

    def _read_again(self, message: PoseMessage, seconds: float) -> None:
        """Send the message again with a delay, because the own event of a recent file may be lost."""
        self._send([(message, min(max(1, math.ceil(seconds)), LONGEST_DELAY))])

    def _wait(self, message: PoseMessage, missing: list[str], reason: str | None = None) -> None:
        now = self._clock()
        record = self._ledger.wait(message.bucket, message.character, message.pose, missing, now, reason)
        if message.pose:
            self._ledger.stop_waiting(message.character, "")  # the character has a pose now
        if record.created_at == record.updated_at:  # count only the first time
            count("Waiting")
        logger.info("waiting", missing=missing, reason=reason)

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


def _pending_reason(pending: dict[str, tuple[Listed, Content]]) -> str | None:
    named = [f"{listed.key} is {content.words}" for listed, content in pending.values()]
    return f"{', '.join(named)}: read again for two minutes" if named else None
