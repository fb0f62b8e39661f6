"""Find everything that a stack stores about a character, end its unfinished jobs, and delete it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from botocore.config import Config
from botocore.exceptions import ClientError

from ops.act import cancelling
from ops.act.forget import buckets
from ops.act.forget.buckets import Version
from ops.act.forget.queues import About, purge
from ops.act.forget.table import Jobs, Shared, Table
from ops.errors import Refused
from ops.stack import Stack
from posedrop.aws.parallel import WORKERS, in_threads
from posedrop.aws.record import Status
from posedrop.contract.job import SLUG_LIMIT, waiting_id
from posedrop.contract.upload_layout import FileKind, InvalidUploadKey, Upload, UploadLayout, normal, slug

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 3.0
"""Seconds between two checks whether the unfinished jobs have ended."""
IMAGES = (FileKind.FACE, FileKind.POSE)


@dataclass
class Found:
    """The findings. `hashes` are those of the character's images; `unread` are images whose hash is unknown."""

    character: str
    jobs: Jobs
    uploads: list[Version] = field(default_factory=list)
    outputs: list[Version] = field(default_factory=list)
    hashes: set[str] = field(default_factory=set)
    unread: int = 0
    shared: Shared = field(default_factory=Shared)

    @property
    def nothing(self) -> bool:
        """Return whether the buckets and the ledger have nothing."""
        return not (self.uploads or self.outputs or self.jobs.ids or self.jobs.waiting)


@dataclass
class Gone:
    """The numbers of deleted items. `remembered`: cached reads of uploads; `requests`: owners of request ids."""

    uploads: int = 0
    delete_markers: int = 0
    unfinished_uploads: int = 0
    prepared: int = 0
    outputs: int = 0
    records: int = 0
    waiting: int = 0
    remembered: int = 0
    requests: int = 0
    messages: int = 0
    client_rank: int = 0


@dataclass(frozen=True)
class Left:
    """What was not deleted: hidden messages, prepared images and a rank that others use, and attempt numbers."""

    unseen_messages: int
    shared_images: list[str]
    client_has_others: bool
    attempts: list[str]


def character_of(name: str, layout: UploadLayout) -> str:
    """Return the character for a typed name or folder. Raises Refused if no character can have that name."""
    found = layout.below(normal(name)).strip("/")
    try:
        if layout.parse(f"{layout.folder(found).face}.png") == Upload(FileKind.FACE, found):
            return found
    except InvalidUploadKey as why:
        raise Refused(f"{name} cannot be the name of a character: {why}") from why
    raise Refused(f"{name} cannot be the name of a character")


class Forgetting:
    """Forgets one character of a stack. Errors of AWS pass as botocore's."""

    def __init__(self, stack: Stack, character: str) -> None:
        self._stack = stack
        self._character = character
        self._layout = stack.layout
        self._uploads = stack.output("UploadBucketName")
        self._outputs = stack.output("OutputBucketName")
        self._s3 = stack.client("s3", config=Config(max_pool_connections=WORKERS))
        self._table = Table(stack)

    # ---- findings ----------------------------------------------------------------------------------------------------

    def find(self) -> Found:
        """Return the findings. Reads the table once, to see what other characters use."""
        found = Found(self._character, self._table.jobs(self._character))
        found.uploads = list(buckets.upload_versions(self._s3, self._uploads, self._layout.prefix, self._character))
        found.hashes |= found.jobs.hashes
        for job_id, version in buckets.output_versions(self._s3, self._outputs, self._character):
            found.outputs.append(version)
            if version.key.endswith(f"/{buckets.RESULT}") and job_id not in found.jobs.attempts:
                found.hashes |= buckets.hashes_of_result(self._s3, self._outputs, version)
        self._find_hashes(found)
        found.shared = self._table.shared(self._character, found.hashes)
        return found

    def _find_hashes(self, found: Found) -> None:
        """Find the hashes of uploads that no record names, to find the pictures prepared from them."""
        images = {self._named(version): version for version in found.uploads if self._is_image(version)}
        unknown = [version for version in images if version not in found.jobs.versions]
        remembered = self._table.remembered(unknown)
        found.hashes |= set(remembered.values())
        unread = [images[version] for version in unknown if version not in remembered]
        if unread and self._prepares:
            digests = in_threads(lambda version: buckets.digest(self._s3, self._uploads, version), unread)
            found.hashes |= {digest for digest in digests if digest}
            found.unread = digests.count(None)

    @cached_property
    def _prepares(self) -> bool:
        """Return whether the stack prepares pictures at all."""
        listed = self._s3.list_object_versions(Bucket=self._outputs, Prefix=buckets.PREPARED, MaxKeys=1)
        return bool(listed.get("Versions") or listed.get("DeleteMarkers"))

    def _is_image(self, version: Version) -> bool:
        upload = _upload(version.key, self._layout)
        return upload is not None and upload.kind in IMAGES and not version.marker

    def _named(self, version: Version) -> tuple[str, str, str]:
        return self._uploads, version.key, version.version_id

    # ---- unfinished jobs ---------------------------------------------------------------------------------------------

    def abandon(self, timeout: float) -> Found:
        """Cancel queued jobs, stop executions, and wait until the ends are notified.

        Returns the findings after that, or after `timeout` seconds.
        """
        stack = self._stack
        queued = cancelling.choose(stack, character=self._character, statuses=[Status.QUEUED])
        if len(queued):
            cancelling.cancel(stack, queued)
        start, pause, stopped = stack.clock(), FIRST_PAUSE, set[str]()
        while under_way := self._table.jobs(self._character).under_way:
            for record in under_way.values():
                arn = stack.execution_arn(record)
                if record.status is Status.SUBMITTED and arn not in stopped:
                    stopped.add(arn)
                    self._stop(arn)
            if stack.clock() - start > timeout:
                break
            stack.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE)
        return self.find()

    def _stop(self, arn: str) -> None:
        try:
            self._stack.client("stepfunctions").stop_execution(executionArn=arn, cause="The character is forgotten.")
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise

    # ---- deletion ----------------------------------------------------------------------------------------------------

    def forget(self, found: Found) -> tuple[Gone, Left]:
        """Delete the findings; return what was deleted and what is left. Raises OpsError if S3 refused some."""
        gone = Gone()
        self._remove_images(found, gone)
        self._remove_uploads(found, gone)
        attempts = self._table.attempt_items(found.jobs.ids)
        purged = purge(self._stack, About(self._character, self._layout, _IsJob(self._stack, found)))
        gone.messages = purged.removed
        self._remove_records(found, gone)
        others = found.shared.client or buckets.has_others(
            self._s3, self._uploads, self._layout.prefix, self._outputs, self._client
        )
        if not others:
            gone.client_rank = self._table.delete_rank(self._character)
        return gone, Left(purged.unseen, sorted(found.shared.hashes), others, attempts)

    @property
    def _client(self) -> str:
        return self._character.partition("/")[0]

    def _remove_images(self, found: Found, gone: Gone) -> None:
        """Delete the prepared pictures and the outputs, while the records that lead to them still exist."""

        def prepared(removed: Sequence[Version]) -> None:
            gone.prepared += len(removed)

        def outputs(removed: Sequence[Version]) -> None:
            gone.outputs += sum(not version.marker for version in removed)

        own = sorted(found.hashes - found.shared.hashes)
        buckets.delete(self._s3, self._outputs, buckets.prepared_versions(self._s3, self._outputs, own), prepared)
        buckets.delete(self._s3, self._outputs, found.outputs, outputs)

    def _remove_uploads(self, found: Found, gone: Gone) -> None:
        def uploads(removed: Sequence[Version]) -> None:
            gone.delete_markers += sum(version.marker for version in removed)
            gone.uploads += sum(not version.marker for version in removed)

        versions = {*map(self._named, found.uploads), *found.jobs.versions}
        gone.remembered = self._table.delete_remembered(versions)
        gone.unfinished_uploads = buckets.abort_uploads(self._s3, self._uploads, self._layout.prefix, self._character)
        buckets.delete(self._s3, self._uploads, found.uploads, uploads)

    def _remove_records(self, found: Found, gone: Gone) -> None:
        gone.requests = self._table.delete_requests(found.jobs.requests)
        waiting = {
            *found.jobs.waiting,
            *(waiting_id(self._character, pose) for pose in ("", *_poses(found, self._layout))),
        }
        gone.waiting = self._table.delete(waiting)
        self._table.clear_breaker(found.jobs.ids)
        gone.records = self._table.delete(found.jobs.ids)


class _IsJob:
    """Decides whether a job id belongs to the character. Without a record, only the id's slug can decide."""

    def __init__(self, stack: Stack, found: Found) -> None:
        self._stack = stack
        self._ids = set(found.jobs.ids)
        self._names = {slug(f"{found.character}-{pose}", SLUG_LIMIT) for pose in _poses(found, stack.layout)}

    def __call__(self, job_id: str) -> bool:
        if job_id in self._ids:
            return True
        return job_id.rpartition("-")[0] in self._names and self._stack.record(job_id) is None


def _poses(found: Found, layout: UploadLayout) -> Iterator[str]:
    """Yield the poses that a character has or had, some more than once."""
    yield from found.jobs.poses
    uploads: Iterable[Upload | None] = (_upload(version.key, layout) for version in found.uploads)
    yield from (upload.pose for upload in uploads if upload and upload.pose)


def _upload(key: str, layout: UploadLayout) -> Upload | None:
    try:
        return layout.parse(key)
    except InvalidUploadKey:
        return None
