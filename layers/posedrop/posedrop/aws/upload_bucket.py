"""Read the upload bucket: find the files of a job, and read them."""

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
    """A file that was read, at most up to a limit. `digest` is the SHA-256 of `data`."""

    key: str
    version_id: str | None
    etag: str
    size: int
    data: bytes
    metadata: dict[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of `data`, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def whole(self) -> bool:
        """Whether the whole file was read."""
        return len(self.data) == self.size


@dataclass(frozen=True)
class JobFiles:
    """The files of one job. A missing file is None.

    - face, pose: the newest file of each stem.
    - older_faces, older_poses: the other files of the stem, newest first. Any of them may be the picture.
    - unknown_names: names in the character's folder that the upload contract does not know. Names of folders end with a
      slash.
    """

    face: Listed | None
    pose: Listed | None
    job_file: Listed | None
    pose_file: Listed | None
    older_faces: tuple[Listed, ...] = ()
    older_poses: tuple[Listed, ...] = ()
    unknown_names: tuple[str, ...] = ()

    def present(self) -> list[Listed]:
        """Return the files that exist."""
        parameters = [found for found in (self.job_file, self.pose_file) if found]
        return [*self.candidates(FileKind.FACE), *self.candidates(FileKind.POSE), *parameters]

    def candidates(self, kind: FileKind) -> list[Listed]:
        """Return the files that may be the picture, newest first."""
        newest, older = (self.face, self.older_faces) if kind is FileKind.FACE else (self.pose, self.older_poses)
        return [newest, *older] if newest else []

    @property
    def missing(self) -> list[str]:
        """The missing images: "face", "pose" or both."""
        return [name for name, found in (("face", self.face), ("pose", self.pose)) if not found]


class UploadBucket:
    """One upload bucket. Errors of S3 pass as botocore's ClientError."""

    def __init__(self, s3: "S3Client", name: str, layout: UploadLayout) -> None:
        self._s3 = s3
        self.name = name
        self.layout = layout

    def files(self, character: str, pose: str, key: str = "") -> JobFiles:
        """Return the files of one job. `key`, one of them, is needed if the folder's name is neither NFC nor NFD."""
        found: dict[str, Listed] = {}
        unknown_names: list[str] = []
        # Listings are the most expensive requests, so do only two: one of the folder, and one of the pose.
        for prefix in self.layout.folder(character).spellings(key):
            listed, folders = self._list_folder(prefix)
            for folder in folders if pose else ():
                if is_poses_folder(_last(folder)):
                    for name in spellings(pose, self._own_stem(key)):
                        listed += self._list(f"{folder}{name}")
            found |= {entry.key: entry for entry in listed}
            unknown_names += self._unknown_names(listed, folders)
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
            tuple(sorted(unknown_names)),
        )

    def poses(self, character: str) -> dict[str, datetime]:
        """Return all poses of a character, also those with only a pose file, and when each was last changed."""
        found: dict[str, datetime] = {}
        after = ""
        while True:
            page, after = self.some_poses(character, after, 1000)
            found |= {pose: max(changed, found.get(pose, changed)) for pose, changed in page.items()}
            if not after:
                return dict(sorted(found.items()))

    def some_poses(self, character: str, after: str, size: int, key: str = "") -> tuple[dict[str, datetime], str]:
        """Return one page of a character's poses, and the key after which the next page begins (empty at the end).

        A page has the poses in `size` files after the key `after`, which is empty for the first page. Pages without a
        pose are skipped. A pose with several files may be on two pages. `key` is a file of the folder, as for `files`.
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
        """Return the version of a listed file, or None if the bucket keeps no versions or the file may be archived.

        Raises UploadChanged and InvalidInput, as `read` does.
        """
        with translated(listed.key, InputFault.IMAGE):
            response = self._s3.head_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        # S3 names every storage class except Standard (API reference, HeadObject).
        return None if "StorageClass" in response else version_of(response)

    def read(self, listed: Listed, limit: int) -> Blob:
        """Read a listed file, at most `limit` bytes of it.

        Raises UploadChanged if the file has changed since, InvalidInput if it is archived or the function may not read
        it, and TransientFault if the body ends early.
        """
        with translated(listed.key, InputFault.PARAMETERS):  # only job files are read; images are examined
            response = self._s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=listed.etag)
        with response["Body"] as body:
            data = body.read(limit)
        if len(data) < min(limit, response["ContentLength"]):  # read(limit) does not detect a broken connection
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
        """Return what is in a listed image file. It is streamed, and never in memory as a whole.

        If the file is not a picture, only its beginning is read. If it is too large, nothing is read. Raises as `read`
        does.
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
        """Return the files whose keys begin with a prefix."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [_listed(entry) for page in pages for entry in page.get("Contents", [])]

    def _list_folder(self, prefix: str) -> tuple[list[Listed], list[str]]:
        """Return the files in a folder, and the prefixes of its subfolders."""
        request: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "Delimiter": "/"}
        pages = list(self._s3.get_paginator("list_objects_v2").paginate(**request))
        listed = [_listed(entry) for page in pages for entry in page.get("Contents", [])]
        return listed, [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]

    def _page(self, prefix: str, after: str, size: int) -> tuple[list[Listed], bool]:
        """Return the next `size` files of a folder after a key, and whether there are more."""
        page = self._s3.list_objects_v2(Bucket=self.name, Prefix=prefix, StartAfter=after, MaxKeys=size)
        return [_listed(entry) for entry in page.get("Contents", [])], page["IsTruncated"]

    def _poses(self, character: str, listed: list[Listed]) -> dict[str, datetime]:
        """Return the poses of these files, and when each was last changed."""
        changed: dict[str, datetime] = {}
        for entry in listed:
            try:
                upload = self.layout.parse(entry.key)
            except InvalidUploadKey:
                continue
            if upload.character == character and upload.pose:
                changed[upload.pose] = max(changed.get(upload.pose, entry.modified), entry.modified)
        return dict(sorted(changed.items()))

    def _unknown_names(self, listed: Iterable[Listed], folders: Iterable[str]) -> list[str]:
        """Return the names that the upload contract does not know. Names of folders end with a slash."""
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
        """Return the stem of a pose's file as its key spells it, or an empty text for other files."""
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
    """Return the last segment of a key or of a folder's prefix."""
    return key.rstrip("/").rpartition("/")[2]
