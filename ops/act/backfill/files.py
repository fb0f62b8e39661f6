"""Find the files of each pose in a window of the listing, with few further S3 calls."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.act.backfill.windows import pages
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.upload_layout import SINGLE_POSE, FileKind, InvalidUploadKey, UploadLayout, is_poses_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ByRole = Mapping[FileKind, Sequence[Listed]]


@dataclass
class Group:
    """The files of one character in a window, by pose and kind. Files of all poses, as the face, have the pose ''.

    key: one of the files; it has the folder's real spelling.
    """

    character: str
    key: str
    poses: dict[str, dict[FileKind, list[Listed]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )


def grouped(window: Iterable[Listed], layout: UploadLayout) -> tuple[list[Group], int]:
    """Group files by character and pose; return the groups, and how many files are outside the contract. Pure."""
    groups: dict[str, Group] = {}
    outside_contract = 0
    for listed in window:
        try:
            upload = layout.parse(listed.key)
        except InvalidUploadKey:
            outside_contract += 1
            continue
        group = groups.setdefault(upload.character, Group(upload.character, listed.key))
        group.poses[upload.pose][upload.kind].append(listed)
    return list(groups.values()), outside_contract


class Files:
    """Find the files of the poses of one group. Errors of S3 pass as botocore's ClientError."""

    def __init__(self, s3: "S3Client", bucket: UploadBucket, group: Group) -> None:
        self._bucket = bucket
        self._group = group
        self._shared: dict[FileKind, list[Listed]] = defaultdict(list)
        self._single: dict[FileKind, list[Listed]] = defaultdict(list)
        folders = set()
        folder = bucket.layout.folder(group.character)
        for prefix in folder.spellings(group.key):
            for listed, below in pages(s3, bucket.name, prefix, "/"):
                self._keep(listed)
                folders |= {found for found in below if is_poses_folder(found[len(prefix) :].rstrip("/"))}
        # If names have one spelling and the poses are in one folder, the window has all files of a pose.
        self._plain = group.character.isascii() and folders <= {folder.poses_prefix}
        self._has_folder = bool(folders)

    def of(self, pose: str) -> JobFiles:
        """Return the present files of one pose."""
        own = self._group.poses[pose]
        listed = [entry for entries in own.values() for entry in entries]
        if pose == SINGLE_POSE:
            if self._plain and not self._has_folder:
                return _files(self._shared, self._single)
        elif self._plain and own[FileKind.POSE] and all(entry.key.isascii() for entry in listed):
            return _files(self._shared, own)
        return self._bucket.files(self._group.character, pose, listed[0].key if listed else self._group.key)

    def lacks_poses(self) -> bool:
        """Return whether the character has no pose at all, in this window or elsewhere."""
        if self._single or any(pose for pose in self._group.poses):
            return False
        return not self._bucket.some_poses(self._group.character, "", 1, self._group.key)[0]

    def _keep(self, listed: Iterable[Listed]) -> None:
        """Keep only files that jobs are made of: a folder may have any number of other files."""
        for entry in listed:
            try:
                upload = self._bucket.layout.parse(entry.key)
            except InvalidUploadKey:
                continue
            (self._single if upload.pose else self._shared)[upload.kind].append(entry)


def _files(shared: ByRole, own: ByRole) -> JobFiles:
    """Return the files of a pose, the newest first, as UploadBucket.files returns them. Pure."""

    def newest(files: ByRole, kind: FileKind) -> list[Listed]:
        return sorted(files.get(kind, ()), key=lambda entry: (entry.modified, entry.key), reverse=True)

    faces, job_files = newest(shared, FileKind.FACE), newest(shared, FileKind.JOB_FILE)
    poses, pose_files = newest(own, FileKind.POSE), newest(own, FileKind.POSE_FILE)
    return JobFiles(
        face=next(iter(faces), None),
        pose=next(iter(poses), None),
        job_file=next(iter(job_files), None),
        pose_file=next(iter(pose_files), None),
        older_faces=tuple(faces[1:]),
        older_poses=tuple(poses[1:]),
    )
