"""Reading the upload bucket: which files a job has, and what is in them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from posedrop.aws.errors import SHORT_READ
from posedrop.aws.stored_uploads import CHUNK, translated, version_of
from posedrop.contract.errors import TransientFault
from posedrop.contract.examine import Examined, Examiner
from posedrop.contract.reasons import InputFault
from posedrop.contract.upload_layout import (
    FileKind,
    InvalidUploadKey,
    SideFile,
    UploadLayout,
    is_poses_folder,
    spellings,
    split_name,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef


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
        return [*self.candidates(FileKind.FACE), *self.candidates(FileKind.POSE), *parameters]

    def candidates(self, kind: FileKind) -> list[Listed]:
        """The files of which one is the picture, newest first."""
        newest, older = (self.face, self.older_faces) if kind is FileKind.FACE else (self.pose, self.older_poses)
        return [newest, *older] if newest else []

    @property
    def missing(self) -> list[str]:
        """Which of the two images are missing."""
        return [name for name, found in (("face", self.face), ("pose", self.pose)) if not found]


class UploadBucket:
    """One bucket of uploads. Errors of S3 pass as botocore's ClientError: they are unexpected everywhere here."""

    def __init__(self, s3: "S3Client", name: str, layout: UploadLayout) -> None:
        self._s3 = s3
        self.name = name
        self.layout = layout

    def files(self, character: str, pose: str, key: str = "") -> JobFiles:
        """Find the files of one job. `key` is one of them, for a folder whose name is neither in NFC nor in NFD."""
        found: dict[str, Listed] = {}
        strangers: list[str] = []
        # A listing is the dearest request of all: one for what lies in the folder itself, one for the pose.
        for prefix in self.layout.folder(character).spellings(key):
            listed, folders = self._list_folder(prefix)
            for folder in folders if pose else ():
                if is_poses_folder(_last(folder)):
                    for name in spellings(pose, self._own_stem(key)):
                        listed += self._list(f"{folder}{name}")
            found |= {entry.key: entry for entry in listed}
            strangers += self._strangers(listed, folders)
        by_kind: dict[FileKind, list[Listed]] = {kind: [] for kind in FileKind}
        for entry in sorted(found.values(), key=lambda entry: (entry.modified, entry.key), reverse=True):
            kind = self._kind(entry.key, character, pose)
            if kind:
                by_kind[kind].append(entry)
        newest = {kind: entries[0] if entries else None for kind, entries in by_kind.items()}
        return JobFiles(
            newest[FileKind.FACE],
            newest[FileKind.POSE],
            newest[FileKind.JOB_FILE],
            newest[FileKind.POSE_FILE],
            tuple(by_kind[FileKind.FACE][1:]),
            tuple(by_kind[FileKind.POSE][1:]),
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
        for prefix in self.layout.folder(character).spellings(key):
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
            if (found := self._poses(character, single + listed)) or not after:
                return found, after
        return self._poses(character, single), ""

    def version(self, listed: Listed) -> str | None:
        """Return the version of a file as it was listed, or None if the bucket keeps none, or it may be archived.

        Raises UploadChanged and InvalidInput as `read` does.
        """
        with translated(listed.key, InputFault.IMAGE):
            response = self._s3.head_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        return (
            None if "StorageClass" in response else version_of(response)
        )  # S3 names each class but Standard (HeadObject)

    def read(self, listed: Listed, limit: int) -> Blob:
        """Read a file as it was listed, at most `limit` bytes of it.

        Raises UploadChanged if it is not the same any more, InvalidInput if it is archived or may not be read, and
        TransientFault if it ends early.
        """
        with translated(listed.key, InputFault.PARAMETERS):  # images are examined instead
            response = self._s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        with response["Body"] as body:
            data = body.read(limit)
        if len(data) < min(limit, response["ContentLength"]):  # read(limit) does not notice a connection that breaks
            raise TransientFault(f"{listed.key}: {SHORT_READ}")
        return Blob(
            key=listed.key,
            version_id=version_of(response),
            etag=listed.etag.strip('"'),
            size=response["ContentLength"],
            data=data,
            metadata=response.get("Metadata", {}),
        )

    def examine(self, listed: Listed) -> Examined:
        """Say what is in an image file, as it was listed. It is read once, and never held whole.

        Of what is no picture only the beginning is read, of what is too large nothing. Raises as `read` does.
        """
        with translated(listed.key, InputFault.IMAGE):
            response = self._s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        examiner = Examiner(listed.key, response["ContentLength"])
        with response["Body"] as body:
            while examiner.wants_more:
                chunk = body.read(CHUNK)
                if not chunk:
                    raise TransientFault(f"{listed.key}: {SHORT_READ}")
                examiner.feed(chunk)
        etag = listed.etag.strip('"')
        return examiner.close(version_id=version_of(response), etag=etag, metadata=response.get("Metadata", {}))

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

    def _poses(self, character: str, listed: list[Listed]) -> dict[str, datetime]:
        """The poses that these files belong to, and when each was last changed."""
        changed: dict[str, datetime] = {}
        for entry in listed:
            try:
                upload = self.layout.parse(entry.key)
            except InvalidUploadKey:
                continue
            if upload.character == character and upload.pose:
                changed[upload.pose] = max(changed.get(upload.pose, entry.modified), entry.modified)
        return dict(sorted(changed.items()))

    def _strangers(self, listed: Iterable[Listed], folders: Iterable[str]) -> list[str]:
        """The names in a folder that are none of the contract's; those of folders end with a slash."""
        found = [f"{_last(folder)}/" for folder in folders if not is_poses_folder(_last(folder))]
        for entry in listed:
            try:
                self.layout.parse(entry.key)
            except SideFile:
                continue
            except InvalidUploadKey:
                found.append(_last(entry.key))
        return found

    def _own_stem(self, key: str) -> str:
        """The stem of a pose's file, in its own spelling; empty for a file that is none."""
        try:
            upload = self.layout.parse(key)
        except InvalidUploadKey:
            return ""
        return split_name(_last(key))[0] if upload.pose else ""

    def _kind(self, key: str, character: str, pose: str) -> FileKind | None:
        try:
            upload = self.layout.parse(key)
        except InvalidUploadKey:
            return None
        if upload.character != character or upload.pose not in ("", pose):
            return None
        return upload.kind


def _listed(entry: "ObjectTypeDef") -> Listed:
    return Listed(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])


def _last(key: str) -> str:
    """The last segment of a key, or of a folder's prefix."""
    return key.rstrip("/").rpartition("/")[2]
