"""Folders as people have them: which files make which character. Pure.

`hero/` with a face and poses is the character hero, `client/hero/` the character client/hero. In a folder without
`poses/` each other picture is a pose. The contract decides about names, the files' bytes about types.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from posedrop.contract.upload_layout import (
    FACE,
    JOB_FILE,
    JSON,
    PICTURE_ENDINGS,
    SINGLE_POSE,
    InvalidUploadKey,
    SideFile,
    UploadLayout,
    is_poses_folder,
    split_name,
)

SENT_AS_THEY_ARE = ("jpg", "jpeg", "png", "webp")
"""Endings that come first where a stem has several pictures: a phone exports `walk.heic` and `walk.jpg`."""
_NAMED_FACE = re.compile(r"(^|[-_. ])face([-_. ]|$)", re.IGNORECASE)
_POSE_PREFIX = re.compile(r"^pose[-_. ]+", re.IGNORECASE)


@dataclass
class CharacterFiles:
    """The files of one character, each by its number in the list that was arranged.

    face: None where no name says which picture it is. poses: the names of the poses by the numbers of their pictures.
    parameters: job files by the pose that they are for; the empty name stands for all poses.
    """

    name: str
    face: int | None = None
    poses: dict[int, str] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A file that makes nothing, and why. `side`: programs leave such files beside others."""

    number: int
    why: str
    side: bool = False


@dataclass(frozen=True)
class Arrangement:
    """The characters that some files make, by their names, and the files that make nothing."""

    characters: list[CharacterFiles]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class _File:
    number: int
    name: str
    in_poses: bool

    @property
    def stem(self) -> str:
        return split_name(self.name)[0]

    @property
    def ending(self) -> str:
        return split_name(self.name)[1]


def arrange(paths: Sequence[str], layout: UploadLayout) -> Arrangement:
    """Arrange files by their paths, whose folders are separated by slashes, into characters.

    Files without a folder make one character whose name is the face's, or empty. First folders that are the
    bucket's own prefix are no part of a name.
    """
    folders: dict[str, list[_File]] = {}
    left: list[LeftOut] = []
    for number, path in enumerate(paths):
        *above, name = [part for part in unicodedata.normalize("NFC", path).split("/") if part]
        root = layout.prefix.rstrip("/").split("/")
        if len(above) > len(root) and above[: len(root)] == root:
            above = above[len(root) :]
        if why := _ignored(above, name, layout):
            left.append(LeftOut(number, why, side=True))
            continue
        below = [position for position, folder in enumerate(above) if is_poses_folder(folder)]
        if below and below[0] < len(above) - 1:
            left.append(LeftOut(number, "below poses/ there are files only, no folders"))
            continue
        if below:
            above = above[:-1]
        folders.setdefault("/".join(above), []).append(_File(number, name, bool(below)))
    found = [_character(folder, files, left) for folder, files in sorted(folders.items())]
    left.sort(key=lambda each: each.number)
    return Arrangement([each for each in found if each.face is not None or each.poses], left)


def _ignored(folders: Iterable[str], name: str, layout: UploadLayout) -> str | None:
    """Why a file is none that anybody means, or None."""
    hidden = next((folder for folder in folders if folder.startswith(".") or folder == "__MACOSX"), None)
    if hidden:
        return f"it is in {hidden}, which programs make"
    try:
        layout.parse(f"{layout.folder('any').poses_prefix}{name}")
    except SideFile as why:
        return str(why)
    except InvalidUploadKey:
        return None  # what is wrong with its name is said with the plan
    return None


def _character(folder: str, files: list[_File], left: list[LeftOut]) -> CharacterFiles:
    pictures, parameters = _pictures(files, left), [file for file in files if file.ending == JSON]
    face = _face(pictures)
    name = folder or (face_names(face.stem) if face else "")
    found = CharacterFiles(name, face.number if face else None)
    for file in pictures:
        if file is not face:
            found.poses[file.number] = _free(_pose_name(file), found.poses.values())
    stems = {file.stem: found.poses[file.number] for file in pictures if file.number in found.poses}
    for file in parameters:
        if file.name.casefold() == JOB_FILE and not file.in_poses:
            found.parameters[""] = file.number
        elif file.stem in stems:
            found.parameters[stems[file.stem]] = file.number
        else:
            left.append(LeftOut(file.number, f"there is no pose {file.stem} here that it could be for"))
    return found


def _pictures(files: list[_File], left: list[LeftOut]) -> list[_File]:
    """The pictures among the files of a character, one of each stem."""
    best: dict[tuple[bool, str], _File] = {}
    for file in sorted(files, key=lambda file: (file.ending not in SENT_AS_THEY_ARE, file.name)):
        if file.ending == JSON:
            continue
        if file.ending and file.ending not in PICTURE_ENDINGS:
            left.append(LeftOut(file.number, "it is no picture, by its name"))
            continue
        other = best.setdefault((file.in_poses, file.stem.casefold()), file)
        if other is not file:
            left.append(LeftOut(file.number, f"{other.name} is the picture of the same name"))
    return sorted(best.values(), key=lambda file: file.number)


def _face(pictures: list[_File]) -> _File | None:
    """The picture that the names say is the face, or None."""
    beside = [file for file in pictures if not file.in_poses]
    exact = next((file for file in beside if file.stem.casefold() == FACE), None)
    named = next((file for file in beside if _NAMED_FACE.search(file.stem)), None)
    alone = beside[0] if len(beside) == 1 < len(pictures) and beside[0].stem.casefold() != SINGLE_POSE else None
    return exact or named or alone


def face_names(stem: str) -> str:
    """Return whom a face's file name names: astrid for face-astrid, and hero for hero; nobody for face."""
    return "" if stem.casefold() == FACE else re.sub(r"^face[-_. ]+|[-_. ]+face$", "", stem, flags=re.IGNORECASE)


def _pose_name(file: _File) -> str:
    return file.stem if file.in_poses else _POSE_PREFIX.sub("", file.stem) or file.stem


def _free(name: str, taken: Iterable[str]) -> str:
    names, found, number = set(taken), name, 2
    while found in names:
        found, number = f"{name}-{number}", number + 1
    return found
