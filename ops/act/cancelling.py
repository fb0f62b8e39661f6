"""Cancel jobs that were not sent: choose them, and wait for the outcome. `intake` ends and notifies them."""

from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ops.errors import OpsError, Refused
from ops.formatting import many
from ops.inspect.records import Records
from ops.inspect.suggestions import no_job
from ops.stack import Stack
from posedrop.aws.messages import CancelMessage
from posedrop.aws.record import AnyRecord, Record, Status, only_jobs
from posedrop.aws.record_reader import BATCH
from posedrop.intake.cancellation import cancelled_upload_id

MOST = 100_000
"""The most jobs that one call cancels: their ids are in memory."""
MESSAGES = 10
"""Messages in one SQS call (API reference, SendMessageBatch)."""
SENDERS = 8
"""Batches that are sent at the same time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 3.0
"""Seconds between two reads of the jobs' records."""
CANCELLED, GONE = "cancelled", "gone"
"""Outcomes besides a status. Uploads that are gone have become a job, or were deleted."""


@dataclass(frozen=True)
class Chosen:
    """The jobs and uploads to cancel: attempts by job ids, and for uploads the ids of the jobs that they become.

    `more`: there are more than one call can cancel.
    """

    attempts: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    more: bool = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.attempts) + len(self.uploads)


@dataclass(frozen=True)
class Outcome:
    """The outcome of cancelling.

    left_alone: the status of each job that was sent or ended before it could be cancelled, or GONE. open: jobs that are
    not decided yet; their messages are still to be handled.
    """

    cancelled: int
    left_alone: dict[str, str]
    open: list[str]


def choose(stack: Stack, job_ids: Sequence[str] = (), character: str = "", statuses: Sequence[Status] = ()) -> Chosen:
    """Return the jobs and uploads to cancel: the named jobs, or else those that wait.

    Without statuses, `character` selects its queued jobs and its waiting uploads. Raises NotFound, and Refused for a
    named job that was sent.
    """
    records = Records(stack)
    if job_ids:
        return _chosen(_named(stack, records, job_ids))
    return _chosen(records.unsent(character, statuses or (Status.QUEUED, Status.WAITING)))


def _named(stack: Stack, records: Records, job_ids: Sequence[str]) -> Iterable[AnyRecord]:
    found = records.get(dict.fromkeys(job_ids))
    for job_id in job_ids:
        if job_id not in found:
            raise no_job(stack, job_id)
        record = found[job_id]
        if not record.can_be_cancelled:
            raise Refused(f"{job_id} cannot be cancelled: {_why(record)}")
    return found.values()


def _why(record: AnyRecord) -> str:
    if record.status is Status.QUEUED:
        return "it was sent, and it is not known yet whether it is billed"
    return f"it is not waiting any more, it is {record.status}"


def _chosen(records: Iterable[AnyRecord]) -> Chosen:
    found = Chosen()
    for record in records:
        if not record.can_be_cancelled:
            continue
        if len(found) >= MOST:
            return Chosen(found.attempts, found.uploads, more=True)
        if record.status is Status.WAITING:
            found.uploads[record.job_id] = cancelled_upload_id(record)
        else:
            found.attempts[record.job_id] = record.attempt
    return found


def cancel(stack: Stack, chosen: Chosen) -> None:
    """Send the cancel messages to `intake`. Raises OpsError if SQS refused some messages; other errors pass."""
    messages = [CancelMessage(job_id, attempt) for job_id, attempt in chosen.attempts.items()]
    messages += [CancelMessage(job_id) for job_id in chosen.uploads]
    batches = [messages[start : start + MESSAGES] for start in range(0, len(messages), MESSAGES)]
    url, sqs = stack.output("UploadQueueUrl"), stack.client("sqs")

    def send(batch: list[CancelMessage]) -> int:
        entries: Any = [{"Id": str(number), "MessageBody": message.to_json()} for number, message in enumerate(batch)]
        return len(sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", []))

    with ThreadPoolExecutor(SENDERS) as pool:
        refused = sum(pool.map(send, batches))
    if refused:
        raise OpsError(f"the queue refused {many(refused, 'message')}: cancel once more")


def outcome(stack: Stack, chosen: Chosen, timeout: float) -> Outcome:
    """Wait up to `timeout` seconds until each job is cancelled or sent, and return the outcomes."""
    records, start, pause = Records(stack), stack.clock(), FIRST_PAUSE
    open_, cancelled, left_alone = [*chosen.attempts, *chosen.uploads], 0, dict[str, str]()
    while True:
        still: list[str] = []
        for first in range(0, len(open_), BATCH):
            ids = open_[first : first + BATCH]
            found = records.get({*ids, *(chosen.uploads[job_id] for job_id in ids if job_id in chosen.uploads)})
            jobs = {record.job_id: record for record in only_jobs(found.values())}
            for job_id in ids:
                if job_id in chosen.uploads:
                    became = _uploads_became(job_id, chosen.uploads[job_id], found)
                else:
                    became = _job_became(jobs.get(job_id), chosen.attempts[job_id])
                if became is None:
                    still.append(job_id)
                elif became == CANCELLED:
                    cancelled += 1
                else:
                    left_alone[job_id] = became
        open_ = still
        if not open_ or stack.clock() - start > timeout:
            return Outcome(cancelled, left_alone, open_)
        stack.sleep(pause)
        pause = min(pause * 1.3, LONGEST_PAUSE)


def _uploads_became(waiting_id: str, cancelled_id: str, found: Container[str]) -> str | None:
    """Return CANCELLED, or GONE for uploads that are left alone; None if that is not known yet."""
    if cancelled_id in found:
        return CANCELLED
    return None if waiting_id in found else GONE


def _job_became(record: Record | None, attempt: int) -> str | None:
    """Return CANCELLED, or the status of a job that is left alone; None if that is not known yet."""
    if record is None:
        return GONE
    if record.attempt == attempt and record.can_be_cancelled:
        return None
    return CANCELLED if record.cancelled else str(record.status)
