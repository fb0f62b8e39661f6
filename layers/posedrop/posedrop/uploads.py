"""Reading the upload bucket: which files a job has, and their bytes."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws_errors import SHORT_READ, is_transient
from posedrop.contract import SINGLE_POSE, Folder, OutsideContract, Role, parse
from posedrop.errors import InvalidInput, TransientFault

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

IMAGE_LIMIT = 20 * 1024 * 1024
GONE = ("PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404")
"""What S3 says of a file that is not as it was listed or read."""


FORBIDDEN = "the function may not read the file: allow its role in the bucket's policy and key, then `retry` the job"
UNREADABLE = {
    "InvalidObjectState": "the file is archived: restore it, then `retry` the job",
    "AccessDenied": FORBIDDEN,
    "403": FORBIDDEN,
}
"""What S3 says of a file that is there and cannot be read (API reference, GetObject), and what to do."""


class UploadChanged(Exception):
    """A file was replaced or deleted after it was listed."""


@dataclass(frozen=True)
class Listed:
    """A file as the bucket lists it. `size` is in bytes."""

    key: str
    etag: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Blob:
    """A file that was read. `data` stops at the limit, `digest` is the SHA-256 of `data`."""

    key: str
    version_id: str | None
    etag: str
    size: int
    data: bytes
    metadata: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of what was read, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def whole(self) -> bool:
        """Whether all of the file was read."""
        return len(self.data) == self.size


@dataclass(frozen=True)
class JobFiles:
    """The files of one job, each None where it is missing."""

    face: Listed | None
    pose: Listed | None
    job_file: Listed | None
    pose_file: Listed | None

    def present(self) -> list[Listed]:
        """The files that are there."""
        return [found for found in (self.face, self.pose, self.job_file, self.pose_file) if found]

    @property
    def missing(self) -> list[str]:
        """Which of the two images are missing."""
        return [name for name, found in (("face", self.face), ("pose", self.pose)) if not found]


class UploadBucket:
    """One bucket of uploads. Errors of S3 pass as botocore's ClientError: they are unexpected everywhere here."""

    def __init__(self, s3: "S3Client", name: str) -> None:
        self._s3 = s3
        self.name = name

    def files(self, character: str, pose: str) -> JobFiles:
        """Find the files of one job. Where a stem is there twice, the newest counts."""
        folder = Folder(character)
        # A listing is the dearest request of all: one for what lies in the folder itself, one for the pose.
        listed = self._list(folder.prefix, below=False)
        listed += self._list(f"{folder.poses_prefix}{pose}.")
        newest: dict[Role, Listed] = {}
        for entry in sorted(listed, key=lambda entry: (entry.modified, entry.key)):
            role = _role(entry.key, character, pose)
            if role:
                newest[role] = entry
        return JobFiles(
            newest.get(Role.FACE), newest.get(Role.POSE), newest.get(Role.JOB_FILE), newest.get(Role.POSE_FILE)
        )

    def poses(self, character: str) -> dict[str, datetime]:
        """All poses in a character's folder, those with only a pose file among them, and when each was last changed."""
        folder = Folder(character)
        listed = self._list(f"{folder.prefix}{SINGLE_POSE}.") + self._list(folder.poses_prefix)
        return _poses(character, listed)

    def some_poses(self, character: str, after: str, size: int) -> tuple[dict[str, datetime], str]:
        """List the poses in the next `size` files after a key, at first after none.

        Returns them as `poses` does, and the key after which to go on, empty at the end. The first files with a pose
        among them count. A pose with several files may come again.
        """
        folder = Folder(character)
        single = [] if after else self._list(f"{folder.prefix}{SINGLE_POSE}.")
        after = after or folder.poses_prefix
        while True:
            page = self._s3.list_objects_v2(
                Bucket=self.name, Prefix=folder.poses_prefix, StartAfter=after, MaxKeys=size
            )
            listed = [_listed(entry) for entry in page.get("Contents", [])]
            after = listed[-1].key if page["IsTruncated"] else ""
            if (found := _poses(character, single + listed)) or not after:
                return found, after

    def version(self, listed: Listed) -> str | None:
        """Return the version of a file as it was listed, or None if the bucket keeps none, or it may be archived.

        Raises UploadChanged and InvalidInput as `read` does.
        """
        with _translated(listed.key):
            answer = self._s3.head_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        return None if "StorageClass" in answer else _version(answer)  # S3 names each class but Standard (HeadObject)

    def read(self, listed: Listed, limit: int) -> Blob:
        """Read a file as it was listed, at most `limit` bytes of it.

        Raises UploadChanged if it is not the same any more, InvalidInput if it is archived or may not be read, and
        TransientFault if it ends early.
        """
        with _translated(listed.key):
            answer = self._s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        with answer["Body"] as body:
            data = body.read(limit)
        if len(data) < min(limit, answer["ContentLength"]):  # read(limit) does not notice a connection that breaks
            raise TransientFault(f"{listed.key}: {SHORT_READ}")
        return Blob(
            key=listed.key,
            version_id=_version(answer),
            etag=listed.etag.strip('"'),
            size=answer["ContentLength"],
            data=data,
            metadata=answer.get("Metadata", {}),
        )

    def _list(self, prefix: str, *, below: bool = True) -> list[Listed]:
        """The files whose keys begin with a prefix, or, not `below`, only those in the folder that it names."""
        request: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, **({} if below else {"Delimiter": "/"})}
        pages = self._s3.get_paginator("list_objects_v2").paginate(**request)
        return [_listed(entry) for page in pages for entry in page.get("Contents", [])]


def presigned_url(s3: "S3Client", stored: Mapping[str, Any], name: str, seconds: int) -> str:
    """A URL that serves an input of the ledger, the version that was read, under the file name `name`.

    It lives for `seconds`, but never longer than the session of the role that signs it.
    """
    parameters = {
        "Bucket": stored["bucket"],
        "Key": stored["key"],
        "ResponseContentType": stored["content_type"],
        "ResponseContentDisposition": f'inline; filename="{name}"',
    }
    if stored["version_id"]:
        parameters["VersionId"] = stored["version_id"]
    return s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)


def read_stored(s3: "S3Client", stored: Mapping[str, Any]) -> bytes:
    """The bytes of an input of the ledger, the version that was read.

    Raises UploadChanged if it is not there any more.
    """
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    try:
        answer = s3.get_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    except ClientError as exc:
        if exc.response["Error"]["Code"] in GONE:
            raise UploadChanged(stored["key"]) from exc
        raise
    return answer["Body"].read()


def check_stored(s3: "S3Client", stored: Mapping[str, Any]) -> None:
    """Make sure that an input of the ledger is still there. Raises UploadChanged."""
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    try:
        s3.head_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    except ClientError as exc:
        if exc.response["Error"]["Code"] in GONE:
            raise UploadChanged(stored["key"]) from exc
        raise


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Translate what S3 says of a file that cannot be read: UploadChanged, InvalidInput."""
    try:
        yield
    except ClientError as exc:
        code = exc.response["Error"]["Code"]
        if code in GONE:
            raise UploadChanged(key) from exc
        if code in UNREADABLE or (code.startswith("KMS.") and not is_transient(exc)):
            raise InvalidInput(f"{key}: {UNREADABLE.get(code, FORBIDDEN)} ({code})") from exc
        raise


def _listed(entry: "ObjectTypeDef") -> Listed:
    return Listed(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])


def _version(answer: Mapping[str, Any]) -> str | None:
    """The version that S3 names; where a bucket's versioning is suspended it is called null."""
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def _poses(character: str, listed: list[Listed]) -> dict[str, datetime]:
    """The poses that these files belong to, and when each was last changed."""
    changed: dict[str, datetime] = {}
    for entry in listed:
        try:
            upload = parse(entry.key)
        except OutsideContract:
            continue
        if upload.character == character and upload.pose:
            changed[upload.pose] = max(changed.get(upload.pose, entry.modified), entry.modified)
    return dict(sorted(changed.items()))


def _role(key: str, character: str, pose: str) -> Role | None:
    try:
        upload = parse(key)
    except OutsideContract:
        return None
    if upload.character != character or upload.pose not in ("", pose):
        return None
    return upload.role
