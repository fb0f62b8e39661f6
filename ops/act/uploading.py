"""Follow jobs to their ends, and download their images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import AWS_ERRORS, OpsError, passes, sentence
from ops.inspect.records import Records
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.record import Record, Status
from posedrop.contract.contents import HEAD_BYTES, content_of

READ_SECONDS = 0.5
"""Seconds between two reads of the ledger: at first, and at most."""
SLOWEST_READ_SECONDS = 3.0


def content_type(key: str, head: bytes) -> str:
    """Return the content type of a file that begins with `head`."""
    if key.endswith(".json"):
        return "application/json"
    return content_of(head[:HEAD_BYTES], key).type or "application/octet-stream"


@dataclass(frozen=True)
class Standing:
    """The state of a job that is being followed: its progress (0 to 1) and the state in words."""

    job_id: str
    state: str
    share: float
    record: Record | None = None

    @property
    def ended(self) -> bool:
        """Return whether the job has ended."""
        return self.record is not None and self.record.ended


def standing(job_id: str, record: Record | None, situation: Situation) -> Standing:
    """Return the state of a job; `record` is None if the job is not in the ledger yet. Pure."""
    if record is None:
        return Standing(job_id, "settling", 0.05)
    match record.status:
        case Status.SUBMITTED if record.submitted_at:
            # The median duration of the last jobs fills two thirds of the bar. A slower job approaches the end without
            # reaching it.
            age = max(0.0, situation.now - record.submitted_at)
            share = 0.2 + 0.75 * (1 - 3 ** (-age / situation.typical_seconds))
            return Standing(job_id, "in the model", share, record)
        case Status.SUCCEEDED | Status.FAILED:
            return Standing(job_id, str(record.status).lower(), 1.0, record)
        case Status.SUBMITTING:
            return Standing(job_id, "submitting", 0.15, record)
        case Status.QUEUED:
            return Standing(job_id, record.reason or "queued", 0.1, record)
    return Standing(job_id, "waiting", 0.0, record)


def follow(
    stack: Stack,
    attempts: Mapping[str, int],
    timeout: float,
    on_error: Callable[[str], object] = lambda said: None,
) -> Iterator[list[Standing]]:
    """Yield the states of jobs repeatedly, until all have ended or `timeout` (seconds) has passed.

    `attempts`: the jobs' ids, and the attempt to wait for. A temporary error is passed to `on_error` once, and the read
    is repeated; but the first read must succeed. Other errors of AWS pass as botocore's.
    """
    start = stack.clock()
    pause = READ_SECONDS
    found: dict[str, Standing] = {}
    unwell = False
    while True:
        try:
            situation = Situation.of(stack)
            open_ = [job_id for job_id in attempts if job_id not in found or not found[job_id].ended]
            records = Records(stack).jobs(open_)
        except AWS_ERRORS as exc:
            if not found or not passes(exc):
                raise
            if not unwell:
                on_error(f"{sentence(exc)} The read is repeated until it succeeds.")
            unwell = True
        else:
            unwell = False
            for job_id in open_:
                record = records.get(job_id)
                ours = record if record and record.attempt >= attempts[job_id] else None
                found[job_id] = standing(job_id, ours, situation)
        yield [found[job_id] for job_id in attempts]
        if all(each.ended for each in found.values()) or stack.clock() - start >= timeout:
            return
        stack.sleep(pause)
        pause = min(pause * 1.1, SLOWEST_READ_SECONDS)


def download(stack: Stack, record: Record, directory: Path) -> list[Path]:
    """Download a job's images as <job id>-<n>.<ext>, and return their paths. Raises OpsError; boto3's errors pass."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for output in record.outputs:
        name = str(output["key"]).rpartition("/")[2]
        if name in ("", ".", ".."):
            raise OpsError(f"not the name of a file: {output['key']}")
        path = directory / f"{record.job_id}-{name}"
        stack.client("s3").download_file(output["bucket"], output["key"], str(path))
        paths.append(path)
    return paths
