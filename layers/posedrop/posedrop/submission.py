"""From a message on the queue to a job at the provider and its execution: the ledger's order, step by step."""

import base64
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.contract import OutsideContract, Role, parse
from posedrop.errors import (
    AccountRefused,
    InternalError,
    JobError,
    NotTaken,
    PosedropError,
    RateLimited,
    Rejected,
    SubmitOutcomeUnknown,
)
from posedrop.executions import Executions
from posedrop.intake import Draft, Image, draft, unsettled
from posedrop.job import Job, job_id, waiting_id
from posedrop.ledger import Conflict, Ledger, Record, Status
from posedrop.messages import Origin, PoseMessage, UploadMessage
from posedrop.pacing import Governor, Held, Pacing
from posedrop.polling import Latency, first_wait
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind, Timeouts
from posedrop.settings import SubmitSettings
from posedrop.uploads import JobFiles, UploadBucket, UploadChanged

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

logger = Logger(child=True)

PATIENCE = 5.0
"""Seconds that a function waits for its slot; a longer wait is the message's."""
SLOT_LEAD = 2.0
"""Seconds before its slot at which a deferred message comes back."""
SLOT_GRACE = 2.0
"""Seconds after which a slot is missed, and another is taken."""
MARGIN = 3.0
"""Seconds that are left for the ledger and the execution after the request."""
URL_SECONDS = 3600
UNEXPECTED_ERRORS = 5
LONGEST_BACKOFF = 900.0


class Deferred(PosedropError):
    """The message comes back after `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = max(1.0, seconds)


@dataclass(frozen=True)
class Delivery:
    """What a function knows of the message it handles: how often it was received, and the seconds it has left."""

    receive_count: int
    remaining: Callable[[], float]


class Submission:
    """Handles the messages of the upload queue. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        settings: SubmitSettings,
        *,
        s3: "S3Client",
        sqs: "SQSClient",
        ledger: Ledger,
        governor: Governor,
        segmind: Segmind,
        api_key: ApiKey,
        executions: Executions,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._s3 = s3
        self._sqs = sqs
        self._ledger = ledger
        self._governor = governor
        self._segmind = segmind
        self._api_key = api_key
        self._executions = executions
        self._clock = clock
        self._sleep = sleep
        self._timeouts = Timeouts.within(min(36.0, settings.submit_timeout_seconds * 0.6))

    # ---- uploads ---------------------------------------------------------------------------------------------------

    def upload(self, message: UploadMessage, delivery: Delivery) -> None:
        """Handle an upload: its job, or, of a face or a job file, one message for each pose of the character."""
        try:
            upload = parse(message.origin.key)
        except OutsideContract as why:
            logger.warning(
                "ignored: the upload is outside the contract", key=ascii(message.origin.key), reason=str(why)
            )
            return
        logger.append_keys(character=upload.character, pose=upload.pose or None)
        if upload.role in (Role.FACE, Role.JOB_FILE):
            self._expand(UploadBucket(self._s3, message.bucket), upload.character, message.origin)
        else:
            self.pose(PoseMessage(message.bucket, upload.character, upload.pose, message.origin), delivery)

    def _expand(self, bucket: UploadBucket, character: str, origin: Origin) -> None:
        poses = bucket.poses(character)
        if not poses:
            found = bucket.files(character, "")
            if not found.present():
                logger.info("ignored: the upload was deleted meanwhile", key=origin.key)
                return
            missing = ["pose"] if found.face else ["face", "pose"]
            self._ledger.wait(character, "", missing, self._clock())
            logger.info("waiting", missing=missing)
            poses = bucket.poses(character)  # read once more, for a pose that came meanwhile
        for start in range(0, len(poses), 10):
            entries = [
                {
                    "Id": str(number),
                    "MessageBody": PoseMessage(bucket.name, character, pose, origin).to_json(),
                    "DelaySeconds": 0,
                }
                for number, pose in enumerate(poses[start : start + 10])
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._settings.upload_queue_url, Entries=entries)  # type: ignore[arg-type]
            if answer.get("Failed"):
                raise PosedropError(f"{len(answer['Failed'])} pose messages were not taken by the queue")
        logger.info("expanded", poses=len(poses))

    def pose(self, message: PoseMessage, delivery: Delivery) -> None:
        """Handle one pose: its job, or what it waits for.

        Raises Deferred if the message must come back. The fifth unexpected error ends the job.
        """
        logger.append_keys(character=message.character, pose=message.pose)
        try:
            found = self._read(message)
        except PosedropError:
            raise
        except Exception as exc:
            self._unexpected_before_job(message, exc)
            raise
        if found is None:
            return
        logger.append_keys(job_id=found.job.job_id)
        now = self._clock()
        if found.error:
            record = self._ledger.refuse(found.job, found.error, now)
        else:
            record = self._ledger.queue(found.job, now)
        for waiting in {message.pose, ""}:
            self._ledger.stop_waiting(message.character, waiting)
        try:
            self._advance(record, found, delivery)
        except (PosedropError, Conflict):
            raise
        except Exception as exc:
            self._unexpected(record, exc)
            raise

    def _read(self, message: PoseMessage) -> Draft | None:
        """The job that the files make now, or None if they are no job: then it is written what is missing."""
        bucket = UploadBucket(self._s3, message.bucket)
        before: JobFiles | None = None
        for _ in range(5):
            files = bucket.files(message.character, message.pose)
            younger = unsettled(files, message.origin, self._settings.settle_seconds, self._clock())
            if younger:
                logger.info("left to the event of a younger file", key=younger.key)
                return None
            if not files.pose and not files.pose_file:
                logger.info("ignored: the upload was deleted meanwhile")
                return None
            missing = files.missing
            found = None
            if not missing:
                try:
                    found = draft(bucket, message.character, message.pose, files, self._settings.default_prompt)
                except UploadChanged as exc:
                    logger.info("a file changed while it was read", key=str(exc))
                    continue
                if not found.lacks_prompt:
                    return found
                missing = ["prompt"]
            if files == before:
                logger.info("waiting", missing=missing)
                return None
            self._ledger.wait(message.character, message.pose, missing, self._clock())
            before = files  # read once more, for the file that came meanwhile
        raise Deferred("the files keep changing", self._settings.settle_seconds)

    # ---- the job ---------------------------------------------------------------------------------------------------

    def _advance(self, record: Record, found: Draft, delivery: Delivery) -> None:
        """Do what the record's status asks for next."""
        if record.status is Status.QUEUED:
            self._send(record, found, delivery)
        elif record.status is Status.SUBMITTING:
            self._look_after_claim(record)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started: its name makes starting it again harmless.
            logger.info("duplicate: the job is under way or to be told", status=record.status)
            self._start(record)

    def _look_after_claim(self, record: Record) -> None:
        now = self._clock()
        age = now - (record.claimed_at or 0.0)
        if age <= self._settings.submit_timeout_seconds:
            raise Deferred("another function is submitting the job", self._settings.submit_timeout_seconds - age + 1)
        self._outcome_unknown(record, SubmitOutcomeUnknown("the function ended while it submitted the job"))

    def _send(self, record: Record, found: Draft, delivery: Delivery) -> None:
        if delivery.remaining() < self._timeouts.total + PATIENCE + MARGIN:
            raise Deferred("too little time is left for the request", 1)
        body = self._body(found)
        self._wait_for_slot(record)
        if delivery.remaining() < self._timeouts.total + MARGIN:
            raise Deferred("too little time is left for the request", 1)
        try:
            claimed = self._ledger.claim(record, uuid.uuid4().hex, self._clock())
        except Conflict as exc:
            raise Deferred("another function has claimed the job", 5) from exc
        try:
            request_id = self._segmind.submit(body, self._timeouts)
        except Rejected as exc:
            self._governor.change(Pacing.answered)
            self._fail(claimed, exc)
        except SubmitOutcomeUnknown as exc:
            self._governor.change(
                lambda pacing: pacing.outcome_unknown(self._clock(), self._settings.account_pause_seconds)
            )
            self._outcome_unknown(claimed, exc)
        except NotTaken as exc:
            seconds = self._not_taken(exc, delivery.receive_count)
            now = self._clock()
            self._ledger.release(claimed, str(exc), now + seconds, now)
            raise Deferred(str(exc), seconds) from exc
        else:
            submitted = self._ledger.submitted(claimed, request_id, self._clock())
            logger.info("submitted", request_id=request_id)
            self._start(submitted)
            self._governor.change(Pacing.answered)

    def _wait_for_slot(self, record: Record) -> None:
        now = self._clock()
        at = record.slot_at
        if at is None or now > at + SLOT_GRACE or self._governor.read().held(now):
            taken = self._governor.take(now)
            if isinstance(taken, Held):
                self._ledger.hold(record, taken.reason, taken.until, now)
                raise Deferred(taken.reason, taken.until - now)
            at = taken.at
        if at - now > PATIENCE:
            reason = "waits for the plan's request limit"
            self._ledger.hold(record, reason, at, now, slot_at=at)
            raise Deferred(reason, at - now - SLOT_LEAD)
        self._sleep(max(0.0, at - now))

    def _not_taken(self, exc: NotTaken, receive_count: int) -> float:
        """Tell the governor what the provider said, and return the seconds after which the job is tried again."""
        now = self._clock()
        if isinstance(exc, AccountRefused):
            if exc.status == 401 and self._api_key.renew():
                logger.warning("the API key was refused and has been read again")
                return 1.0
            pause = self._settings.account_pause_seconds
            pacing = self._governor.change(lambda state: state.account_refused(now, str(exc), pause))
            logger.error("submitting is paused", reason=str(exc), until=pacing.open_until)
            return pacing.open_until - now
        if isinstance(exc, RateLimited):
            pacing = self._governor.change(lambda state: state.rate_limited(now, exc.retry_after))
            logger.warning("rate limited", reason=str(exc), until=pacing.paused_until)
            return pacing.paused_until - now
        self._governor.change(Pacing.not_taken)
        logger.warning("the provider is not available", reason=str(exc))
        return backoff(receive_count)

    def _outcome_unknown(self, claimed: Record, error: SubmitOutcomeUnknown) -> None:
        logger.error("the outcome of a request is unknown", reason=str(error))
        if self._settings.resubmit_unknown:
            now = self._clock()
            self._ledger.release(claimed, str(error), now, now)
            raise Deferred(str(error), 1)
        self._fail(claimed, error)

    def _fail(self, record: Record, error: JobError) -> None:
        logger.warning("failed", error_type=error.type, reason=str(error))
        self._start(self._ledger.fail(record, error, self._clock()))

    def _start(self, record: Record) -> None:
        self._executions.start(record, first_wait(Latency.typical(self._settings.typical_inference_seconds)))

    def _body(self, found: Draft) -> dict[str, Any]:
        return {**found.job.parameters, **{f"{name}_image": self._image(image) for name, image in found.images.items()}}

    def _image(self, image: Image) -> str:
        if self._settings.image_transport == "base64":
            return base64.b64encode(image.blob.data).decode()
        return image.bucket.presigned_url(image.blob, image.content_type, URL_SECONDS)

    # ---- what nobody expected --------------------------------------------------------------------------------------

    def _unexpected(self, record: Record, exc: Exception) -> None:
        text = f"unexpected error: {type(exc).__name__}"
        count = self._ledger.count_error(record.job_id, {}, text, self._clock())
        current = self._ledger.get(record.job_id)
        if count >= UNEXPECTED_ERRORS and current and current.status is Status.QUEUED:
            logger.exception("the last unexpected error: the job ends")
            self._fail(current, InternalError(f"{count} unexpected errors, the last: {type(exc).__name__}: {exc}"))

    def _unexpected_before_job(self, message: PoseMessage, exc: Exception) -> None:
        text = f"unexpected error: {type(exc).__name__}"
        values = {"character": message.character, "pose": message.pose, "status": Status.WAITING, "missing": []}
        waiting = waiting_id(message.character, message.pose)
        if self._ledger.count_error(waiting, values, text, self._clock()) < UNEXPECTED_ERRORS:
            return
        logger.exception("the last unexpected error: the job ends")
        origin = [message.origin.key, message.origin.etag] if message.origin else None
        name = job_id(message.bucket, message.character, message.pose, {"unread": origin})
        error = InternalError(f"the files could not be read: {type(exc).__name__}: {exc}")
        self._start(self._ledger.refuse(Job(name, message.character, message.pose, {}), error, self._clock()))
        self._ledger.stop_waiting(message.character, message.pose)


def backoff(receive_count: int) -> float:
    """Seconds until a message is tried again: later and later with each time it was received. Pure."""
    return min(15.0 * 2.0 ** min(receive_count - 1, 10), LONGEST_BACKOFF)
