"""Plan what would be sent, and the cost, with the pipeline's own code for reading a folder. Nothing is sent."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import PurePath
from typing import IO, Any, Protocol

from ops.errors import Refused
from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.record import Record
from posedrop.aws.upload_bucket import Blob, Listed, UploadBucket
from posedrop.contract.errors import UploadChanged
from posedrop.contract.examine import Examined, Examiner
from posedrop.contract.job import Job
from posedrop.contract.reasons import Problem
from posedrop.contract.upload_layout import FileKind, Folder, InvalidUploadKey, Upload, UploadLayout
from posedrop.intake.folder import read_candidate

READERS = 8
"""Characters whose folders are read at the same time."""


class Outcome(StrEnum):
    """The result of uploading a pose."""

    NEW = "new"
    KNOWN = "known"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True)
class PlannedJob:
    """The plan of one pose: a new job, an existing job (with its status), or one that would wait or be refused.

    - asked: whether the user named the pose. Other poses share its face or job file.
    - problems: the problems of its files, each with a code.
    - request: the request to the provider, with the images' names in place of the images.
    - changes: what is done to "face" and "pose" before they are sent.
    - usd: the cost.
    """

    character: str
    pose: str
    asked: bool
    outcome: Outcome
    job_id: str | None = None
    status: str | None = None
    missing: list[str] = field(default_factory=list)
    error: str | None = None
    problems: tuple[Problem, ...] = ()
    request: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, list[str]] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    usd: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The plan of a character's poses. `url` is where the requests would go.

    unchanged: the keys whose content is in the bucket already.
    """

    url: str
    jobs: list[PlannedJob]
    unchanged: frozenset[str] = frozenset()

    @property
    def usd(self) -> float:
        """Return the cost of all new jobs, at the learned price."""
        return round(sum(job.usd for job in self.jobs), 4)

    @property
    def asked(self) -> list[PlannedJob]:
        """Return the poses that were named."""
        return [job for job in self.jobs if job.asked]

    @property
    def others(self) -> list[PlannedJob]:
        """Return the other jobs that would be made, because they share an uploaded file."""
        return [job for job in self.jobs if not job.asked and job.outcome is Outcome.NEW]


class File(Protocol):
    """A file to upload. `md5` equals S3's ETag after an upload in one part."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def md5(self) -> str:
        """Return the MD5 of its bytes in hex."""

    def read(self, limit: int) -> bytes:
        """Return the first `limit` bytes."""

    def open(self) -> IO[bytes]:
        """Open the file, to read it in pieces."""

    def examined(self, key: str) -> Examined:
        """Return what the file would be under this key."""


@dataclass(frozen=True)
class InMemory:
    """A file whose bytes are all in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @cached_property
    def md5(self) -> str:
        """Return the MD5 of its bytes in hex."""
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()

    def read(self, limit: int) -> bytes:
        """Return the first `limit` bytes."""
        return self.data[:limit]

    def open(self) -> IO[bytes]:
        """Open the file, to read it in pieces."""
        return io.BytesIO(self.data)

    def examined(self, key: str) -> Examined:
        """Return what the file would be under this key."""
        examiner = Examiner(key, self.size)
        if examiner.wants_more:
            examiner.feed(self.data)
        return examiner.close(version_id=None, etag="", metadata={})


class Overlay(UploadBucket):
    """The upload bucket as it would be after an upload of `files`, by their keys. Each folder is listed once.

    A file that is in the bucket already, with the same key and bytes, keeps its present version.
    """

    def __init__(self, stack: Stack, files: Mapping[str, File]) -> None:
        super().__init__(stack.client("s3"), stack.uploads.name, stack.layout)
        self._files = files
        self._shared: dict[tuple[str, str], Blob] = {}
        self._examined: dict[tuple[str, str], Examined] = {}
        self._folders: dict[str, tuple[list[Listed], list[str]]] = {}
        self.unchanged: set[str] = set()
        now = datetime.fromtimestamp(stack.clock(), UTC)
        # Before the upload there is no ETag. The MD5, which it will be, is only computed where it is compared.
        self._own = [Listed(key, "", file.size, now) for key, file in files.items()]

    def read(self, listed: Listed, limit: int) -> Blob:
        """Read a file; a file that all poses of a character share is read once."""
        if listed.key in self._files:
            data = self._files[listed.key].read(limit)
            return Blob(listed.key, None, listed.etag, listed.size, data, {})
        shared = (listed.key, listed.etag)
        if shared not in self._shared:
            blob = super().read(listed, limit)
            if self.layout.parse(listed.key).kind not in (FileKind.FACE, FileKind.JOB_FILE):
                return blob
            self._shared[shared] = blob
        return self._shared[shared]

    def examine(self, listed: Listed) -> Examined:
        """Return the format of an image file; each is read once."""
        found = (listed.key, listed.etag)
        if found not in self._examined:
            own = self._files.get(listed.key)
            self._examined[found] = own.examined(listed.key) if own else super().examine(listed)
        return self._examined[found]

    def _list(self, prefix: str) -> list[Listed]:
        """Return the files of a prefix. Files of the contract are never deeper than the prefix's own folder."""
        listed, _ = self._list_folder(prefix[: prefix.rindex("/") + 1])
        return [entry for entry in listed if entry.key.startswith(prefix)]

    def _list_folder(self, prefix: str) -> tuple[list[Listed], list[str]]:
        if prefix not in self._folders:
            listed, folders = super()._list_folder(prefix)
            own = {entry.key[len(prefix) :]: entry for entry in self._own if entry.key.startswith(prefix)}
            same = {entry.key for entry in listed if self._is_same(entry)}
            self.unchanged |= same
            there = [entry for entry in listed if entry.key in same or entry.key not in self._files]
            below = {f"{prefix}{rest.partition('/')[0]}/" for rest in own if "/" in rest}
            files = there + [entry for rest, entry in own.items() if "/" not in rest and entry.key not in same]
            self._folders[prefix] = files, sorted({*folders, *below})
        return self._folders[prefix]

    def _is_same(self, entry: Listed) -> bool:
        own = self._files.get(entry.key)
        return own is not None and own.size == entry.size and own.md5 == entry.etag.strip('"')

    def _page(self, prefix: str, after: str, size: int) -> tuple[list[Listed], bool]:
        return self._list(prefix), False


@dataclass(frozen=True)
class CharacterUpload:
    """Files of one character to upload, by their keys, and the poses to plan; None: all."""

    character: str
    files: Mapping[str, File]
    asked: Sequence[str] | None = None


def plan(stack: Stack, character: str, files: Mapping[str, bytes], asked: Sequence[str] | None = None) -> Plan:
    """Return the plan of a character's poses if `files` were uploaded.

    `asked` are the poses to plan, None for all. Errors of S3 pass as botocore's ClientError.
    """
    (found,) = plan_all(
        stack, [CharacterUpload(character, {key: InMemory(data) for key, data in files.items()}, asked)]
    )
    return found


def plan_all(stack: Stack, uploads: Sequence[CharacterUpload]) -> list[Plan]:
    """Return the plans of several characters, in order. Errors of S3 pass as botocore's ClientError."""
    with ThreadPoolExecutor(READERS, "plan") as pool:
        read = list(pool.map(lambda upload: _read(stack, upload), uploads))
    ids = {job.job_id for plan in read for job in plan.jobs if job.job_id}
    known, prices = Records(stack).jobs(ids), stack.prices()
    return [replace(plan, jobs=[_priced(job, known, prices) for job in plan.jobs]) for plan in read]


def plan_pose(stack: Stack, character: str, pose: str) -> PlannedJob:
    """Return the plan of one pose with its present files. Raises Refused; errors of AWS pass as botocore's."""
    job = _job(stack, stack.uploads, character, pose, asked=True)
    known = stack.table.ledger.get(job.job_id) if job.job_id else None
    return _priced(job, {known.job_id: known} if known else {}, stack.prices())


def _read(stack: Stack, upload: CharacterUpload) -> Plan:
    """Return a plan before the ledger is checked for existing jobs."""
    bucket = Overlay(stack, upload.files)
    url = f"{stack.parameter('SegmindBaseUrl')}{stack.model.path}"
    asked = upload.asked
    poses = list(bucket.poses(upload.character))
    # Only a face or a job file is shared: without a new one, the other poses keep their jobs.
    shared = [key for key in upload.files if stack.layout.parse(key).kind in (FileKind.FACE, FileKind.JOB_FILE)]
    if asked and bucket.unchanged.issuperset(shared):
        poses = sorted(asked)
    jobs = [_job(stack, bucket, upload.character, pose, asked is None or pose in asked) for pose in poses]
    return Plan(url, jobs, frozenset(bucket.unchanged))


def _job(stack: Stack, bucket: UploadBucket, character: str, pose: str, asked: bool) -> PlannedJob:
    files = bucket.files(character, pose)
    if files.missing:
        return PlannedJob(character, pose, asked, Outcome.WAITING, missing=files.missing)
    try:
        prompt, prepares, model = stack.parameter("DefaultPrompt"), stack.prepares, stack.model
        found = read_candidate(bucket, character, pose, files, prompt, prepares=prepares, model=model)
    except UploadChanged as exc:
        raise Refused(f"{exc} is being replaced right now: try again") from exc
    changes = {name: list(read.changes) for name, read in found.job.inputs.items() if read.changes} if prepares else {}
    if found.lacks_prompt:
        return PlannedJob(character, pose, asked, Outcome.WAITING, missing=["prompt"], changes=changes)
    if found.error:
        return PlannedJob(
            character, pose, asked, Outcome.REFUSED, error=str(found.error), problems=found.error.problems
        )
    return replace(_new(stack, found.job), asked=asked, changes=changes)


def _new(stack: Stack, job: Job) -> PlannedJob:
    images = {str(kind): f"s3://{read.bucket}/{read.key}" for kind, read in job.inputs.items()}
    request = stack.model.request(job.parameters, images)
    made = PlannedJob(job.character, job.pose, True, Outcome.NEW, job.job_id)
    return replace(made, request=request, parameters=job.parameters, context=job.context)


def _priced(job: PlannedJob, known: Mapping[str, Record], prices: Callable[[Mapping[str, Any]], float]) -> PlannedJob:
    """Return a planned job with its price, or with its record in the ledger."""
    if not job.job_id:
        return job
    record = known.get(job.job_id)
    if record is None:
        return replace(job, usd=prices(job.parameters))
    error = record.error["message"] if record.error else None
    return replace(job, outcome=Outcome.KNOWN, status=str(record.status), error=error)


# ---- local files -----------------------------------------------------------------------------------------------------


def place(where: Folder, kind: FileKind, ending: str, name: str = "") -> str:
    """Return the key for a face, or for a pose with a name. Raises Refused.

    `ending` is the file's extension with its dot.
    """
    layout = UploadLayout(where.root)
    ending = ending.lower()
    key = f"{where.pose(name) if kind is FileKind.POSE else where.face}{ending}"
    try:
        upload = layout.parse(key)
    except InvalidUploadKey as why:
        raise Refused(f"{layout.below(key)}: {why}") from why
    if upload != Upload(kind, where.character, name):
        raise Refused(f"{layout.below(key)} would be another kind of upload: choose other names")
    return key


def job_file(parameters: Mapping[str, Any]) -> bytes:
    """Return the content of a job file."""
    return json.dumps(parameters, ensure_ascii=False).encode()


def stem(file_name: str, kind: FileKind) -> str:
    """Return the name in a file name: `face-anna.png` is the face of anna."""
    name = PurePath(file_name).stem
    return name.removeprefix(f"{kind}-").removeprefix(f"{kind}_") or name
