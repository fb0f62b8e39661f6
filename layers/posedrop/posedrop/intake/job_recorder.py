"""Record jobs in the ledger, and give each new job or attempt its place."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import UNEXPECTED_ERRORS, Ledger
from posedrop.aws.messages import PoseMessage
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import InternalError, JobError
from posedrop.contract.job import Job, job_id
from posedrop.contract.times import rfc3339
from posedrop.intake.folder import JobCandidate
from posedrop.line.entrance import Entrance

logger = Logger(child=True)


class JobRecorder:
    """Writes the records of new jobs and attempts. `clock` is for tests."""

    def __init__(self, ledger: Ledger, entrance: Entrance, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._entrance = entrance
        self._clock = clock

    def record(self, message: PoseMessage, found: JobCandidate) -> Record:
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

    def new_attempt(self, record: Record, message_id: str, *, error: JobError | None = None, **changes: Any) -> Record:
        """Begin the next attempt of a failed job, and give it a place."""
        place = {}
        if error is None:
            place = self._entrance.place(record.character, record.dispatch_number)
        started = self._ledger.new_attempt(record, message_id, self._clock(), place=place, error=error, **changes)
        self._entrance.send(started, place)
        logger.info("a new attempt", attempt=started.attempt)
        return started

    def count_error(self, message: PoseMessage, exc: Exception) -> Record:
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
            return self.new_attempt(record, ":".join(filter(None, newer.values())), inputs=found.job.inputs)
        return record
