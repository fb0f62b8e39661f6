"""The upload contract: what a key in the upload bucket means.

incoming/<character>/face.<ext>           one face
incoming/<character>/pose.<ext>           one pose, named "pose"
incoming/<character>/poses/<pose>.<ext>   any number of poses
incoming/<character>/job.json             parameters of all jobs of the character
incoming/<character>/poses/<pose>.json    parameters of one pose
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "incoming/"
IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
SINGLE_POSE = "pose"
JOB_FILE = "job.json"


class Role(StrEnum):
    """What an uploaded file is to its jobs."""

    FACE = "face"
    POSE = "pose"
    JOB_FILE = "job file"
    POSE_FILE = "pose file"


class OutsideContract(ValueError):
    """The key is none of the contract's. The message says why."""


@dataclass(frozen=True)
class Upload:
    """One key of the contract. `pose` is empty for a face and for a job file, which serve all poses."""

    role: Role
    character: str
    pose: str = ""


@dataclass(frozen=True)
class Folder:
    """Where the files of one character lie."""

    character: str

    @property
    def prefix(self) -> str:
        """The key prefix of the folder, with a slash at its end."""
        return f"{PREFIX}{self.character}/"

    @property
    def job_file(self) -> str:
        """The key of the job file."""
        return f"{self.prefix}{JOB_FILE}"

    @property
    def poses_prefix(self) -> str:
        """The key prefix of the folder's poses, with a slash at its end."""
        return f"{self.prefix}poses/"

    def pose_file(self, pose: str) -> str:
        """The key of a pose's own parameters."""
        return f"{self.poses_prefix}{pose}.json"


def parse(key: str) -> Upload:
    """Say what `key` is. Raises OutsideContract with the reason."""
    if not key.startswith(PREFIX):
        raise OutsideContract(f"not below {PREFIX}")
    *folders, name = key.removeprefix(PREFIX).split("/")
    for segment in (*folders, name):
        _check_segment(segment)
    below_poses = folders[-1:] == ["poses"]
    if below_poses:
        folders.pop()
    if not folders:
        raise OutsideContract(f"no character: expected {PREFIX}<character>/{name}")
    if "poses" in folders:
        raise OutsideContract("'poses' is reserved: below it is exactly one file name, and no character is named so")
    stem, _, extension = name.rpartition(".")
    role, pose = _role(below_poses, stem, extension)
    if role in (Role.FACE, Role.POSE) and extension.lower() not in IMAGE_EXTENSIONS:
        raise OutsideContract(f"the file {name!r} does not end in one of .{', .'.join(IMAGE_EXTENSIONS)}")
    return Upload(role, "/".join(folders), pose)


def _role(below_poses: bool, stem: str, extension: str) -> tuple[Role, str]:
    if below_poses and stem:
        return (Role.POSE_FILE if extension == "json" else Role.POSE), stem
    if not below_poses and f"{stem}.{extension}" == JOB_FILE:
        return Role.JOB_FILE, ""
    if not below_poses and stem == "face":
        return Role.FACE, ""
    if not below_poses and stem == SINGLE_POSE:
        return Role.POSE, SINGLE_POSE
    raise OutsideContract("the file is none of face.<ext>, pose.<ext>, poses/<pose>.<ext>, job.json, poses/<pose>.json")


def _check_segment(segment: str) -> None:
    if segment in ("", ".", ".."):
        raise OutsideContract(f"the segment {segment!r} of the key is empty, '.' or '..'")
    # U+FFFE and U+FFFF are no characters: SNS takes no text with them.
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in segment):
        raise OutsideContract("the key has control characters")


def slug(text: str, limit: int) -> str:
    """An ASCII name `[A-Za-z0-9_-]` of at most `limit` characters that a person recognises `text` in."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain)[:limit].strip("-") or "job"
