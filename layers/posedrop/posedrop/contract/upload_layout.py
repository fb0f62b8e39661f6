"""The upload contract: what a key in the upload bucket means.

The name decides whether a file is a face, a pose or a job file. The bytes decide the type of picture. All keys begin
with one prefix, the template's parameter UploadPrefix:

<character>/face.<ext>           one face
<character>/pose.<ext>           one pose, named "pose"
<character>/poses/<pose>.<ext>   any number of poses
<character>/job.json             parameters of all jobs of the character
<character>/poses/<pose>.json    parameters of one pose; pose.json for the single pose

`face`, `pose`, `job.json` and the folder `poses/` are recognised in upper and lower case. Names are compared in Unicode
NFC, because macOS writes NFD. Several files may have the same stem: their bytes decide which one is the picture.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_PREFIX = "incoming/"
"""The default of UploadPrefix in template.yaml."""
FACE = "face"
SINGLE_POSE = "pose"
POSES = "poses"
JOB_FILE = "job.json"
JSON = "json"
PICTURE_ENDINGS = (
    *("jpg", "jpeg", "png", "webp", "heic", "heif", "hif", "avif", "tif", "tiff", "gif", "bmp"),
    *("jpe", "jfif", "jif", "pjpeg", "dib", "apng"),
)
"""Extensions of pictures. They decide nothing: the upload command and hints use them."""
KNOWN_ENDINGS = frozenset(
    {
        *PICTURE_ENDINGS,
        JSON,
        *("jxl", "jp2", "j2k", "svg", "ico", "icns", "psd", "psb", "xcf", "ai", "eps", "ps", "exr"),
        *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "iiq", "kdc", "mef", "mos", "nef", "nrw", "orf", "pef"),
        *("raf", "raw", "rw2", "sr2", "srf", "srw"),
        *("aae", "xmp", "thm", "lrv", "mov", "mp4", "m4v", "avi", "mkv", "webm", "3gp", "mpg", "mpeg", "mts"),
        *("m2ts", "wmv", "mp3", "m4a", "wav", "aac", "flac", "ogg"),
        *("txt", "md", "rtf", "csv", "log", "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp"),
        *("pages", "numbers", "key", "html", "htm", "bak"),
        *("xml", "yaml", "yml", "toml", "plist", "url", "webloc", "lnk", "zip", "rar", "7z", "gz", "tgz", "tar"),
    }
)
"""Extensions that are not part of a stem: `walk.jpg` and `walk.mov` belong to the pose walk, but `v1.2` is a pose."""
UNFINISHED_ENDINGS = ("tmp", "part", "partial", "filepart", "crdownload")
"""Extensions of files that a program is still writing."""
SIDE_NAMES = ("thumbs.db", "desktop.ini")
MOST_HINTS = 3
CLOSE = 0.75


class FileKind(StrEnum):
    """What an uploaded file is to its jobs."""

    FACE = "face"
    POSE = "pose"
    JOB_FILE = "job file"
    POSE_FILE = "pose file"


class InvalidUploadKey(ValueError):
    """The key is not part of the upload contract. The message says why."""


class SideFile(InvalidUploadKey):
    """A file that another program left there, such as Thumbs.db. It is ignored, without a notification."""


@dataclass(frozen=True)
class Upload:
    """A parsed key. Names are in NFC. `pose` is empty for a face and a job file, because they serve all poses."""

    kind: FileKind
    character: str
    pose: str = ""


@dataclass(frozen=True)
class Folder:
    """The folder of one character, below the prefix `root`."""

    root: str
    character: str

    @property
    def prefix(self) -> str:
        """The key prefix of the folder, with a trailing slash."""
        return f"{self.root}{self.character}/"

    @property
    def face(self) -> str:
        """The key of the face, without its extension."""
        return f"{self.prefix}{FACE}"

    @property
    def job_file(self) -> str:
        """The key of the job file."""
        return f"{self.prefix}{JOB_FILE}"

    @property
    def poses_prefix(self) -> str:
        """The key prefix of the folder's poses, with a trailing slash."""
        return f"{self.prefix}{POSES}/"

    def pose(self, pose: str) -> str:
        """Return the key of a pose, without its extension."""
        return f"{self.poses_prefix}{pose}"

    def pose_file(self, pose: str) -> str:
        """Return the key of the file with a pose's parameters."""
        return f"{self.pose(pose)}.{JSON}"

    def spellings(self, key: str = "") -> list[str]:
        """Return the possible key prefixes of the folder: in NFC, in NFD, and as spelled in `key`, one of its files."""
        own = _own_folder(key) if key else self.prefix
        found = spellings(self.prefix, own)
        return [prefix for prefix in found if normal(prefix) == normal(self.prefix)]


def normal(text: str) -> str:
    """Return a name in NFC. Names are compared in this form."""
    return unicodedata.normalize("NFC", text)


def spellings(text: str, own: str = "") -> list[str]:
    """Return a name in NFC, in NFD and as spelled in `own`, each spelling once."""
    return list(dict.fromkeys(filter(None, (normal(text), unicodedata.normalize("NFD", text), own))))


def is_poses_folder(name: str) -> bool:
    """Return whether a key's segment names the folder of poses."""
    return name.casefold() == POSES


def split_name(name: str) -> tuple[str, str]:
    """Return the stem of a file's name, and its extension in lower case if it is a known one, else an empty text."""
    stem, _, ending = name.rpartition(".")
    if stem and ending.lower() in KNOWN_ENDINGS:
        return stem, ending.lower()
    return name, ""


@dataclass(frozen=True)
class UploadLayout:
    """The keys of all uploads. They begin with `prefix`, which ends with a slash."""

    prefix: str = DEFAULT_PREFIX

    def folder(self, character: str) -> Folder:
        """Return the folder of a character."""
        return Folder(self.prefix, character)

    def covers(self, key: str) -> bool:
        """Return whether a key begins with the prefix."""
        return key.startswith(self.prefix)

    def below(self, key: str) -> str:
        """Return a key without the prefix. A key that does not begin with it is returned as it is."""
        return key.removeprefix(self.prefix)

    def parse(self, key: str) -> Upload:
        """Return what `key` means. Raises InvalidUploadKey with the reason; SideFile for a file to ignore."""
        if not self.covers(key):
            raise InvalidUploadKey(f"not below {self.prefix}")
        *folders, name = normal(self.below(key)).split("/")
        if not name and all(folders):
            raise SideFile("a folder")
        for segment in (*folders, name):
            _check_segment(segment)
        if why := _side_file(name):
            raise SideFile(why)
        below_poses = bool(folders) and is_poses_folder(folders[-1])
        if below_poses:
            folders.pop()
        if not folders:
            raise InvalidUploadKey(f"no character: expected {self.prefix}<character>/{name}")
        if any(is_poses_folder(folder) for folder in folders):
            raise InvalidUploadKey(
                "'poses' is reserved: below it is exactly one file name, and no character is named so"
            )
        kind, pose = _kind(below_poses, name)
        return Upload(kind, "/".join(folders), pose)


def _kind(below_poses: bool, name: str) -> tuple[FileKind, str]:
    stem, ending = split_name(name)
    if below_poses:
        return (FileKind.POSE_FILE if ending == JSON else FileKind.POSE), stem
    if name.casefold() == JOB_FILE:
        return FileKind.JOB_FILE, ""
    if stem.casefold() == FACE and ending != JSON:
        return FileKind.FACE, ""
    if stem.casefold() == SINGLE_POSE:
        return (FileKind.POSE_FILE if ending == JSON else FileKind.POSE), SINGLE_POSE
    raise InvalidUploadKey(
        "the file is none of face.<ext>, pose.<ext>, poses/<pose>.<ext>, job.json, poses/<pose>.json"
    )


def _side_file(name: str) -> str | None:
    """Return why a file is ignored as a side file, or None."""
    if name.startswith("."):
        return "a hidden file"
    if name.startswith("~$") or name.casefold() in SIDE_NAMES:
        return "a side file of the system or of an office program"
    if name.rpartition(".")[2].lower() in UNFINISHED_ENDINGS:
        return "a file that is still being written"
    return None


def _check_segment(segment: str) -> None:
    if segment in ("", ".", ".."):
        raise InvalidUploadKey(f"the segment {segment!r} of the key is empty, '.' or '..'")
    # U+FFFE and U+FFFF are not characters: SNS rejects text that has them.
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in segment):
        raise InvalidUploadKey("the key has control characters")


def _own_folder(key: str) -> str:
    """Return the folder of a valid key, as the key spells it, with a trailing slash."""
    folders = key.split("/")[:-1]
    if folders and is_poses_folder(folders[-1]):
        folders.pop()
    return "/".join([*folders, ""])


# ---- hints for misnamed files ----------------------------------------------------------------------------------------


def hint(missing: Sequence[str], unknown_names: Iterable[str]) -> str | None:
    """Return a hint about files that may be a misnamed face or pose (`missing`), or None.

    `unknown_names` are names in the folder that the upload contract does not know. Names of folders end with a slash.
    """
    wanted = [what for what in (FACE, SINGLE_POSE) if what in missing]
    if not wanted:
        return None
    hints = [_hint(wanted, name) for name in sorted(unknown_names, key=lambda name: (not _looks_meant(name), name))]
    return "; ".join([text for text in hints if text][:MOST_HINTS]) or None


def _hint(wanted: list[str], name: str) -> str | None:
    stem, ending = split_name(name)
    if name.endswith("/"):
        near = SINGLE_POSE in wanted and difflib.get_close_matches(name[:-1].casefold(), [POSES], cutoff=CLOSE)
        return f"{name} is no folder of poses: name it {POSES}/" if near else None
    if ending not in PICTURE_ENDINGS and not _looks_meant(name):
        return None
    ending = f".{ending}" if ending in PICTURE_ENDINGS else ".<ending>"
    if len(wanted) == 2 and not _looks_meant(name):
        return f"{name} is neither a face nor a pose: name it {FACE}{ending}, or put it into {POSES}/"
    meant = next((what for what in wanted if stem.casefold().startswith(what)), wanted[0])
    place = f"{FACE}{ending}" if meant == FACE else f"{SINGLE_POSE}{ending}, or put it into {POSES}/"
    return f"{name} is no {meant}: name it {place}"


def _looks_meant(name: str) -> bool:
    return name.casefold().startswith((FACE, SINGLE_POSE))


def slug(text: str, limit: int) -> str:
    """Return a readable ASCII form of `text`: `[A-Za-z0-9_-]`, at most `limit` characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain)[:limit].strip("-") or "job"
