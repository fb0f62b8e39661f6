"""Reading the upload bucket: which files a job has, and what is in them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws_errors import SHORT_READ, is_transient
from posedrop.contract import Folder, OutsideContract, Role, SideFile, is_poses_folder, parse, spellings, split_name
from posedrop.errors import InvalidInput, TransientFault
from posedrop.examine import Examined, Examiner

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

CHUNK = 1024 * 1024
"""Bytes of an image that are held at once."""
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
    """The files of one job, each None where it is missing.

    face, pose: the newest of their stems. older_faces, older_poses: the others of the stems, newest first: any of them
    may be the picture. strangers: the names in the character's folder that are none of the contract's; those of folders
    end with a slash.
    """

    face: Listed | None
    pose: Listed | None
    job_file: Listed | None
    pose_file: Listed | None
    older_faces: tuple[Listed, ...] = ()
    older_poses: tuple[Listed, ...] = ()
    strangers: tuple[str, ...] = ()

    def present(self) -> list[Listed]:
        """The files that are there."""
        parameters = [found for found in (self.job_file, self.pose_file) if found]
        return [*self.candidates(Role.FACE), *self.candidates(Role.POSE), *parameters]

    def candidates(self, role: Role) -> list[Listed]:
        """The files of which one is the picture, newest first."""
        newest, older = (self.face, self.older_faces) if role is Role.FACE else (self.pose, self.older_poses)
        return [newest, *older] if newest else []

    @property
    def missing(self) -> list[str]:
        """Which of the two images are missing."""
        return [name for name, found in (("face", self.face), ("pose", self.pose)) if not found]


class UploadBucket:
    """One bucket of uploads. Errors of S3 pass as botocore's ClientError: they are unexpected everywhere here."""

    def __init__(self, s3: "S3Client", name: str) -> None:
        self._s3 = s3
        self.name = name

    def files(self, character: str, pose: str, key: str = "") -> JobFiles:
        """Find the files of one job. `key` is one of them, for a folder whose name is neither in NFC nor in NFD."""
        found: dict[str, Listed] = {}
        strangers: list[str] = []
        # A listing is the dearest request of all: one for what lies in the folder itself, one for the pose.
        for prefix in Folder(character).spellings(key):
            listed, folders = self._list_folder(prefix)
            for folder in folders if pose else ():
                if is_poses_folder(_last(folder)):
                    for name in spellings(pose, _own_stem(key)):
                        listed += self._list(f"{folder}{name}")
            found |= {entry.key: entry for entry in listed}
            strangers += _strangers(listed, folders)
        by_role: dict[Role, list[Listed]] = {role: [] for role in Role}
        for entry in sorted(found.values(), key=lambda entry: (entry.modified, entry.key), reverse=True):
            role = _role(entry.key, character, pose)
            if role:
                by_role[role].append(entry)
        newest = {role: entries[0] if entries else None for role, entries in by_role.items()}
        return JobFiles(
            newest[Role.FACE],
            newest[Role.POSE],
            newest[Role.JOB_FILE],
            newest[Role.POSE_FILE],
            tuple(by_role[Role.FACE][1:]),
            tuple(by_role[Role.POSE][1:]),
            tuple(sorted(strangers)),
        )

    def poses(self, character: str) -> dict[str, datetime]:
        """All poses in a character's folder, those with only a pose file among them, and when each was last changed."""
        found: dict[str, datetime] = {}
        after = ""
        while True:
            page, after = self.some_poses(character, after, 1000)
            found |= {pose: max(changed, found.get(pose, changed)) for pose, changed in page.items()}
            if not after:
                return dict(sorted(found.items()))

    def some_poses(self, character: str, after: str, size: int, key: str = "") -> tuple[dict[str, datetime], str]:
        """List the poses in the next `size` files after a key, at first after none.

        Returns them as `poses` does, and the key after which to go on, empty at the end. The first files with a pose
        among them count. A pose with several files may come again. `key` is a file of the folder, as for `files`.
        """
        single: list[Listed] = []
        folders: list[str] = []
        for prefix in Folder(character).spellings(key):
            listed, below = self._list_folder(prefix)
            single += [] if after else listed
            folders += [folder for folder in below if is_poses_folder(_last(folder))]
        folders.sort()
        left = [folder for folder in folders if not after or after.startswith(folder) or folder > after]
        while left:
            listed, more = self._page(left[0], after if after.startswith(left[0]) else left[0], size)
            after = listed[-1].key if more else ""
            if not more and left[1:]:
                left.pop(0)
                after = left[0]
            if (found := _poses(character, single + listed)) or not after:
                return found, after
        return _poses(character, single), ""

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

    def examine(self, listed: Listed) -> Examined:
        """Say what is in an image file, as it was listed. It is read once, and never held whole.

        Of what is no picture only the beginning is read, of what is too large nothing. Raises as `read` does.
        """
        with _translated(listed.key):
            answer = self._s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        examiner = Examiner(listed.key, answer["ContentLength"])
        with answer["Body"] as body:
            while examiner.wants_more:
                chunk = body.read(CHUNK)
                if not chunk:
                    raise TransientFault(f"{listed.key}: {SHORT_READ}")
                examiner.feed(chunk)
        etag = listed.etag.strip('"')
        return examiner.close(version_id=_version(answer), etag=etag, metadata=answer.get("Metadata", {}))

    def _list(self, prefix: str) -> list[Listed]:
        """The files whose keys begin with a prefix."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [_listed(entry) for page in pages for entry in page.get("Contents", [])]

    def _list_folder(self, prefix: str) -> tuple[list[Listed], list[str]]:
        """The files in a folder, and the prefixes of the folders in it."""
        request: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "Delimiter": "/"}
        pages = list(self._s3.get_paginator("list_objects_v2").paginate(**request))
        listed = [_listed(entry) for page in pages for entry in page.get("Contents", [])]
        return listed, [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]

    def _page(self, prefix: str, after: str, size: int) -> tuple[list[Listed], bool]:
        """The next `size` files of a folder after a key, and whether there are more."""
        page = self._s3.list_objects_v2(Bucket=self.name, Prefix=prefix, StartAfter=after, MaxKeys=size)
        return [_listed(entry) for entry in page.get("Contents", [])], page["IsTruncated"]


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

    Raises UploadChanged if it is not there any more, InvalidInput if it may not be read.
    """
    with open_stored(s3, stored) as (body, _):
        return bytes(body.read())


@contextmanager
def open_stored(s3: "S3Client", stored: Mapping[str, Any]) -> Iterator[tuple["StreamingBody", int]]:
    """Open an input of the ledger, the version that was read; yield its body and its size in bytes.

    Raises UploadChanged if it is not there any more, InvalidInput if it may not be read.
    """
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    with _translated(stored["key"]):
        answer = s3.get_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    with answer["Body"] as body:
        yield body, answer["ContentLength"]


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


def _strangers(listed: Iterable[Listed], folders: Iterable[str]) -> list[str]:
    """The names in a folder that are none of the contract's; those of folders end with a slash."""
    found = [f"{_last(folder)}/" for folder in folders if not is_poses_folder(_last(folder))]
    for entry in listed:
        try:
            parse(entry.key)
        except SideFile:
            continue
        except OutsideContract:
            found.append(_last(entry.key))
    return found


def _last(key: str) -> str:
    """The last segment of a key, or of a folder's prefix."""
    return key.rstrip("/").rpartition("/")[2]


def _own_stem(key: str) -> str:
    """The stem of a pose's file, in its own spelling; empty for a file that is none."""
    try:
        upload = parse(key)
    except OutsideContract:
        return ""
    return split_name(_last(key))[0] if upload.pose else ""


def _role(key: str, character: str, pose: str) -> Role | None:
    try:
        upload = parse(key)
    except OutsideContract:
        return None
    if upload.character != character or upload.pose not in ("", pose):
        return None
    return upload.role
