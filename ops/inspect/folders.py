"""Decide which files of users' folders make which character. Pure.

`hero/` with a face and poses is the character hero, `client/hero/` the character client/hero. In a folder without
`poses/` each other picture is a pose. The contract decides about names, and the files' bytes about types.
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
"""The preferred extensions if a stem has several pictures: a phone exports `walk.heic` and `walk.jpg`."""
_NAMED_FACE = re.compile(r"(^|[-_. ])face([-_. ]|$)", re.IGNORECASE)
_POSE_PREFIX = re.compile(r"^pose[-_. ]+", re.IGNORECASE)


@dataclass
class CharacterFiles:
    """The files of one character, each as its number in the given list.

    - face: None if no name shows which picture is the face.
    - poses: the pose names, by the numbers of their pictures.
    - parameters: the job files, by their poses. The empty name means all poses.
    """

    name: str
    face: int | None = None
    poses: dict[int, str] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why. `side`: programs leave such files beside others."""

    number: int
    why: str
    side: bool = False


@dataclass(frozen=True)
class Arrangement:
    """The characters that some files make, by their names, and the files that are not used."""

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
    """Arrange files into characters. Folders in their paths are separated by slashes.

    Files without a folder make one character, named after the face, or with an empty name. If the first folders are the
    bucket's prefix, they are not part of the name.
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
            left.append(LeftOut(number, "below poses/ there may be files only, no folders"))
            continue
        if below:
            above = above[:-1]
        folders.setdefault("/".join(above), []).append(_File(number, name, bool(below)))
    found = [_character(folder, files, left) for folder, files in sorted(folders.items())]
    left.sort(key=lambda each: each.number)
    return Arrangement([each for each in found if each.face is not None or each.poses], left)


def _ignored(folders: Iterable[str], name: str, layout: UploadLayout) -> str | None:
    """Return why a file is ignored, or None."""
    hidden = next((folder for folder in folders if folder.startswith(".") or folder == "__MACOSX"), None)
    if hidden:
        return f"it is in {hidden}, which a program creates"
    try:
        layout.parse(f"{layout.folder('any').poses_prefix}{name}")
    except SideFile as why:
        return str(why)
    except InvalidUploadKey:
        return None  # the plan reports problems of its name
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
            left.append(LeftOut(file.number, f"there is no pose {file.stem} here that it belongs to"))
    return found


def _pictures(files: list[_File], left: list[LeftOut]) -> list[_File]:
    """Return the pictures among a character's files, one of each stem."""
    best: dict[tuple[bool, str], _File] = {}
    for file in sorted(files, key=lambda file: (file.ending not in SENT_AS_THEY_ARE, file.name)):
        if file.ending == JSON:
            continue
        if file.ending and file.ending not in PICTURE_ENDINGS:
            left.append(LeftOut(file.number, "its name is not that of a picture"))
            continue
        other = best.setdefault((file.in_poses, file.stem.casefold()), file)
        if other is not file:
            left.append(LeftOut(file.number, f"{other.name}, with the same name, is used"))
    return sorted(best.values(), key=lambda file: file.number)


def _face(pictures: list[_File]) -> _File | None:
    """Return the picture that is the face according to the names, or None."""
    beside = [file for file in pictures if not file.in_poses]
    exact = next((file for file in beside if file.stem.casefold() == FACE), None)
    named = next((file for file in beside if _NAMED_FACE.search(file.stem)), None)
    alone = beside[0] if len(beside) == 1 < len(pictures) and beside[0].stem.casefold() != SINGLE_POSE else None
    return exact or named or alone


def face_names(stem: str) -> str:
    """Return the character in a face's file name: astrid for face-astrid, hero for hero, empty for face."""
    return "" if stem.casefold() == FACE else re.sub(r"^face[-_. ]+|[-_. ]+face$", "", stem, flags=re.IGNORECASE)


def _pose_name(file: _File) -> str:
    return file.stem if file.in_poses else _POSE_PREFIX.sub("", file.stem) or file.stem


def _free(name: str, taken: Iterable[str]) -> str:
    names, found, number = set(taken), name, 2
    while found in names:
        found, number = f"{name}-{number}", number + 1
    return found
