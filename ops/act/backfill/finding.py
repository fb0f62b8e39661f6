"""Find uploads that made no job: whether each can be sent, why not, and what its job costs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from botocore.config import Config

from ops.act.backfill.files import Files, Group, grouped
from ops.act.backfill.known import Outputs, Parameters, with_jobs
from ops.act.backfill.windows import WINDOW, pages, windows
from ops.errors import Refused
from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.errors import InvalidInput, UploadChanged
from posedrop.contract.times import DAY, rfc3339
from posedrop.contract.upload_layout import normal, spellings

WORKERS = 16
"""Characters that are checked at the same time."""


class Outcome(StrEnum):
    """What `backfill` does with an upload that made no job."""

    TO_SEND = "to-send"
    HAS_OUTPUTS = "has-outputs"
    TOO_OLD = "too-old"
    INCOMPLETE = "incomplete"
    REFUSED = "refused"


WHY = {
    Outcome.TO_SEND: "made no job",
    Outcome.HAS_OUTPUTS: "has outputs already, so its job was paid for: upload it again to make another one",
    Outcome.TOO_OLD: "is older than RecordRetentionDays, so its record may have expired: upload it again to make a job",
    Outcome.INCOMPLETE: "is not a job yet: uploading the missing file makes the job",
    Outcome.REFUSED: "would be refused: fix the file and upload it again",
}
"""What each outcome means."""


@dataclass(frozen=True)
class Found:
    """A pose without a job, or (with an empty pose) the files of a character that has no pose.

    - key, etag, size: its newest file.
    - uploaded_at: when its newest file, or a newer face or job file, was uploaded (RFC 3339).
    - detail: what is missing or wrong.
    - usd: the job's cost at the learned price.
    """

    outcome: Outcome
    character: str
    pose: str
    key: str
    etag: str
    size: int
    uploaded_at: str
    detail: str = ""
    usd: float = 0.0


@dataclass
class Seen:
    """Counters: keys of the listing, keys outside the contract, poses that have a job."""

    keys: int = 0
    outside_contract: int = 0
    known: int = 0


class Finder:
    """Searches the upload bucket of a stack. `seen` counts what was searched so far."""

    def __init__(self, stack: Stack, window: int = WINDOW) -> None:
        config = Config(max_pool_connections=WORKERS)
        self._stack = stack
        self._window = window
        self._s3 = stack.client("s3", config=config)
        self._bucket = UploadBucket(self._s3, stack.output("UploadBucketName"), stack.layout)
        self._records = Records(stack, unreadable=lambda job_id: None)
        self._prices = stack.prices()
        self._now = stack.clock()
        self._default_prompt = stack.parameter("DefaultPrompt")
        self._retention = stack.seconds("RecordRetentionDays") * DAY
        self.seen = Seen()

    def find(self, prefix: str = "") -> Iterator[Found]:
        """Yield uploads that made no job, from the keys that begin with a prefix, in the order of the listing.

        One window of the listing is in memory at a time. Errors of AWS pass as botocore's.
        """
        with ThreadPoolExecutor(WORKERS) as pool:
            for spelled in spellings(under_prefix(prefix, self._bucket)):
                listed = (files for files, _ in pages(self._s3, self._bucket.name, spelled))
                for window in windows(listed, self._window):
                    groups, outside_contract = grouped(window, self._bucket.layout)
                    self.seen.keys += len(window)
                    self.seen.outside_contract += outside_contract
                    for known, found in pool.map(self._look_up, groups):
                        self.seen.known += known
                        yield from found

    def _look_up(self, group: Group) -> tuple[int, list[Found]]:
        """Return how many poses of a character have a job, and the outcomes of the others."""
        files, parameters = (
            Files(self._s3, self._bucket, group),
            Parameters(self._s3, self._bucket, self._stack.model.schema),
        )
        poses = {pose: files.of(pose) for pose in list(group.poses) if pose}
        known = with_jobs(self._records, self._bucket, parameters, group.character, poses)
        new = {pose: found for pose, found in poses.items() if pose not in known}
        outputs = Outputs(self._s3, self._stack.output("OutputBucketName"), group.character) if new else None
        found = [self._judge(group.character, pose, new[pose], parameters, outputs) for pose in new]
        if not poses and files.lacks_poses():
            lacking = self._judge(group.character, "", files.of(""), parameters, outputs)
            found.append(lacking)
        return len(known), [each for each in found if each]

    def _judge(
        self, character: str, pose: str, files: JobFiles, parameters: Parameters, outputs: Outputs | None
    ) -> Found | None:
        """Return the outcome of a pose without a job; None if its files were deleted meanwhile."""
        present = files.present()
        if not present:
            return None
        changed = max(listed.modified for listed in present).timestamp()

        def found(outcome: Outcome, detail: str = "", usd: float = 0.0) -> Found:
            named: Listed = files.pose or files.pose_file or present[0]
            etag, uploaded_at = named.etag.strip('"'), rfc3339(changed)
            return Found(outcome, character, pose, named.key, etag, named.size, uploaded_at, detail, usd)

        if outputs and outputs.since(pose, changed):
            return found(Outcome.HAS_OUTPUTS)
        if files.missing:
            return found(Outcome.INCOMPLETE, f"lacks {' and '.join(f'a {what}' for what in files.missing)}")
        if self._retention and changed < self._now - self._retention:
            return found(Outcome.TOO_OLD)
        try:
            made, _ = parameters.of(files, self._default_prompt)
        except InvalidInput as exc:
            return found(Outcome.REFUSED, str(exc))
        except UploadChanged:
            return found(Outcome.INCOMPLETE, "is being replaced just now")
        if "prompt" not in made:
            return found(Outcome.INCOMPLETE, "lacks a prompt")
        return found(Outcome.TO_SEND, usd=self._prices(made))


def under_prefix(prefix: str, bucket: UploadBucket) -> str:
    """Return a typed prefix as a prefix of upload keys. Pure.

    `hero/` is below the stack's prefix, like all uploads. Raises Refused if the prefix names another bucket.
    """
    key = prefix.removeprefix(f"s3://{bucket.name}/")
    if key.startswith("s3://"):
        raise Refused(f"{prefix} is not in the upload bucket, which is {bucket.name}")
    return normal(key if bucket.layout.covers(key) else f"{bucket.layout.prefix}{key}")
