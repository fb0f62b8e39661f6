"""Plan an upload of local files, which are named singly, by folders or by a list. Nothing is sent here.

The plan says which job each picture would make, what is wrong with it, and which files would be uploaded.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.errors import Refused
from ops.inspect.drops import Described, Drop, Named, accepted, lay_out, plan_drops, total, why_not_new
from ops.inspect.explain_record import missing
from ops.inspect.folders import CharacterFiles, arrange
from ops.inspect.local_file import examine
from ops.inspect.manifest import Row, located, read_manifest
from ops.inspect.plan import File, InMemory, Outcome, Plan, PlannedJob, job_file, stem
from ops.stack import Stack
from posedrop.contract.errors import InvalidInput
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.parameters import read_job_file
from posedrop.contract.upload_layout import FileKind, UploadLayout

READERS = 4
"""Files that are read at the same time."""
NOT_UPLOADED = (Outcome.REFUSED, Outcome.KNOWN, Outcome.WAITING)
"""Outcomes that are not uploaded: jobs that would be refused or wait, and jobs that exist already."""


@dataclass(frozen=True)
class Problem:
    """A named file or row that makes no job, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        return self.why if self.why.startswith(self.what) else f"{self.what}: {self.why}"


@dataclass
class Batch:
    """Characters with their pictures, and the files that make no job.

    - files: by the names that `characters` uses.
    - parameters: they override those in job files.
    - left_out: files that are not used as a pose.
    - side: the number of side files, which programs leave beside others.
    """

    characters: list[Described] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    side: int = 0


@dataclass(frozen=True)
class Item:
    """One job of a batch: its plan, and the picture of the pose, by its local name and by its key.

    Both names are empty if the pose has no local picture. why: why this is not a new job.
    """

    job: PlannedJob
    picture: str = ""
    key: str = ""
    why: str | None = None


@dataclass(frozen=True)
class Prepared:
    """The plan of a batch. `files`: the files that would be uploaded, by their keys, in order."""

    items: list[Item]
    problems: list[Problem]
    plans: list[Plan]
    files: dict[str, File]
    usd: float
    left_out: list[Problem] = field(default_factory=list)
    side: int = 0

    def of(self, outcome: Outcome) -> list[Item]:
        """Return the jobs with an outcome."""
        return [item for item in self.items if item.job.outcome is outcome]

    @property
    def others(self) -> list[Item]:
        """Return the other jobs that would be made, because they share a face or a job file."""
        return [item for item in self.of(Outcome.NEW) if not item.job.asked]

    @property
    def whole(self) -> bool:
        """Return whether every named file makes a job, or has made it."""
        return not self.problems and not self.of(Outcome.REFUSED) and not self.of(Outcome.WAITING)


# ---- named files -----------------------------------------------------------------------------------------------------


def check_parameters(parameters: Mapping[str, Any], name: str, rules: str) -> None:
    """Raise Refused unless the schema `rules` has these parameters; `name` says where they were given."""
    try:
        read_job_file(name, job_file(parameters), rules)
    except InvalidInput as why:
        raise Refused(str(why)) from why


def of_files(face: Path, poses: Sequence[Path], character: str | None, parameters: Mapping[str, Any]) -> Batch:
    """Return a batch of a face and its poses. Errors of reading them pass as OSError."""
    batch = Batch(parameters=parameters)
    batch.files = _read([face, *poses])
    named = [_named(batch, path) for path in (face, *poses)]
    batch.characters = [Described(character or stem(face.name, FileKind.FACE), named[0], named[1:])]
    return batch


def of_folders(
    folders: Sequence[Path], character: str | None, parameters: Mapping[str, Any], layout: UploadLayout
) -> Batch:
    """Return a batch of folders with a face and poses, or folders of such folders, by the console's rules.

    `character` names the character if there is only one. Raises Refused; errors of reading pass as OSError.
    """
    batch = Batch(parameters=parameters)
    for folder in folders:
        paths = sorted(_walk(folder))
        # Use the folder's real name, also if it was given as `.` or with a slash.
        name = folder.resolve().name
        arranged = arrange([f"{name}/{path.relative_to(folder).as_posix()}" for path in paths], layout)
        batch.side += sum(left.side for left in arranged.left_out)
        batch.left_out += [Problem(str(paths[left.number]), left.why) for left in arranged.left_out if not left.side]
        if not arranged.characters:
            batch.problems.append(Problem(str(folder), "the folder has no picture" if paths else "the folder is empty"))
        used = [paths[number] for each in arranged.characters for number in _numbers(each)]
        batch.files |= _read(used)
        batch.characters += [_described(batch, each, paths) for each in arranged.characters]
    if character:
        if len(batch.characters) != 1:
            raise Refused(f"--character names one character, but there are {len(batch.characters)}")
        batch.characters = [replace(batch.characters[0], character=character)]
    _refuse_twice(batch.characters)
    return batch


def of_manifest(manifest: Path, parameters: Mapping[str, Any], rules: str) -> Batch:
    """Return a batch of the rows of a list; `parameters` are the defaults of rows. Raises BadManifest.

    `rules`: the schema of the model's parameters.
    """
    rows, batch = read_manifest(manifest, rules), Batch()
    named = [path for row in rows for path in (row.face, *row.poses.values()) if path]
    batch.files = _read(dict.fromkeys(located(manifest, path) for path in named))
    by_character: dict[str, Described] = {}
    for row in rows:
        each = by_character.setdefault(row.character, Described(row.character, None, []))
        if row.face and each.face is None:
            by_character[row.character] = each = replace(each, face=_named(batch, located(manifest, row.face)))
        own = _own_parameters(batch, manifest, row, parameters)
        each.poses.extend(_named(batch, located(manifest, path), name, own) for name, path in row.poses.items())
    batch.characters = list(by_character.values())
    return batch


def _own_parameters(batch: Batch, manifest: Path, row: Row, parameters: Mapping[str, Any]) -> str:
    """Return the name of the job file that a row makes, or nothing."""
    merged = {**parameters, **row.parameters}
    if not merged:
        return ""
    name = f"{manifest}, line {row.line}"
    batch.files[name] = InMemory(job_file(merged))
    return name


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but not those in hidden folders or in macOS's archive folders."""
    for above, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        yield from (Path(above) / name for name in names)


def _raise(error: OSError) -> None:
    raise error


def _read(paths: Iterable[Path]) -> dict[str, File]:
    """Return files by their paths; each is read once. Files that are too large for an upload are left out."""
    small = [path for path in paths if path.stat().st_size <= UPLOAD_LIMIT]
    with ThreadPoolExecutor(READERS, "read") as pool:
        return dict(zip(map(str, small), pool.map(examine, small), strict=True))


def _named(batch: Batch, path: Path, pose: str = "", parameters: str = "") -> Named:
    name = str(path)
    return Named(name, name if name in batch.files else "", pose, parameters)


def _numbers(each: CharacterFiles) -> list[int]:
    face = [] if each.face is None else [each.face]
    return [*face, *each.poses, *each.parameters.values()]


def _described(batch: Batch, each: CharacterFiles, paths: Sequence[Path]) -> Described:
    """Return a character of a folder; its files are known by their paths."""
    job_files = {pose: str(paths[number]) for pose, number in each.parameters.items()}
    face = None if each.face is None else _named(batch, paths[each.face])
    poses = [_named(batch, paths[number], pose, job_files.get(pose, "")) for number, pose in each.poses.items()]
    return Described(each.name, face, poses, job_files.get("", ""))


def _refuse_twice(characters: Sequence[Described]) -> None:
    names = [each.character for each in characters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refused(f"two folders make the same character: {', '.join(twice)}")


# ---- the plan --------------------------------------------------------------------------------------------------------


def prepare(stack: Stack, batch: Batch) -> Prepared:
    """Return the plan of a batch. Raises Refused; errors of AWS pass as botocore's."""
    problems = list(batch.problems)
    drops: list[Drop] = []
    named: list[Described] = []
    for described in batch.characters:
        drop = lay_out(described, batch.files, batch.parameters, stack)
        problems += [Problem(each["file"], _as_named(each["why"], described, drop)) for each in drop.refused]
        if described.poses and not drop.poses:
            continue  # a new face alone would make the bucket's poses again
        drops.append(drop)
        named.append(described)
    planned = plan_drops(stack, drops)
    items = [
        _item(job, each, drop) for each, drop, plan in zip(named, drops, planned, strict=True) for job in plan.jobs
    ]
    items = [item for item in items if item.job.asked or item.job.outcome is Outcome.NEW]
    problems += [
        Problem(each.face.file, "a face without poses makes no job")
        for each, plan in zip(named, planned, strict=True)
        if each.face and not each.poses and not any(job.outcome is Outcome.NEW for job in plan.jobs)
    ]
    return Prepared(items, problems, planned, _files(drops, planned), total(planned), batch.left_out, batch.side)


def _files(drops: Sequence[Drop], planned: Sequence[Plan]) -> dict[str, File]:
    """Return the files of the plans that make jobs."""
    making = [
        (drop, plan)
        for drop, plan in zip(drops, planned, strict=True)
        if any(job.outcome is Outcome.NEW for job in plan.jobs)
    ]
    if not making:
        return {}
    return accepted([drop for drop, _ in making], [plan for _, plan in making], float("inf"), NOT_UPLOADED)


def _item(job: PlannedJob, described: Described, drop: Drop) -> Item:
    """Return a job with its picture, and why it is no new job, in terms of local file names."""
    names = {_pose_of(pose): pose.file for pose in reversed(described.poses)}
    why = why_not_new(job)
    if job.outcome is Outcome.WAITING:
        why = missing(drop.folder, job.pose, job.missing).sentence
        if "face" in job.missing:
            why = f"no picture here is named as the face of {job.character}: name it face, with its own extension"
        elif "prompt" in job.missing:
            why = "there is no prompt: use --prompt, or set the stack's DefaultPrompt"
    said = _as_named(why, described, drop) if why else None
    return Item(job, names.get(job.pose, ""), drop.poses.get(job.pose, ""), said)


def _pose_of(named: Named) -> str:
    return named.pose or stem(Path(named.file).name, FileKind.POSE)


def _as_named(why: str, described: Described, drop: Drop) -> str:
    """Return a sentence with local file names in place of keys."""
    names: dict[str, str] = {}
    folder, layout = drop.folder, UploadLayout(drop.folder.root)
    for key in drop.files:
        if layout.parse(key).kind is FileKind.FACE and described.face:
            names[key] = described.face.file
    for pose in described.poses:
        name = _pose_of(pose)
        if name in drop.poses:
            names.setdefault(drop.poses[name], pose.file)
        if pose.parameters:
            names.setdefault(folder.pose_file(name), pose.parameters)
    if described.job_file:
        names[folder.job_file] = described.job_file
    for key in sorted(names, key=len, reverse=True):
        why = why.replace(key, names[key])
    return why
