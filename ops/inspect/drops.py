"""Lay out chosen pictures of a character as an upload, plan it, and select the files to upload.

The console and the command line share this: both show a plan before they send.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ops.errors import Refused
from ops.formatting import usd
from ops.inspect.plan import CharacterUpload, File, InMemory, Outcome, Plan, PlannedJob, job_file, place, plan_all, stem
from ops.stack import Stack
from posedrop.contract.errors import InvalidInput
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.parameters import JOB_FILE_LIMIT, read_job_file
from posedrop.contract.upload_layout import FileKind, Folder


@dataclass(frozen=True)
class Named:
    """A file as the page describes it: its name, its hash, and the pose's name if the user gave one.

    A file that was too large to send here has no hash. `parameters` is the hash of a job file for this pose only.
    """

    file: str
    sha256: str = ""
    pose: str = ""
    parameters: str = ""

    @property
    def hashes(self) -> list[str]:
        """Return the hashes of its stored files."""
        return [sha256 for sha256 in (self.sha256, self.parameters) if sha256]


@dataclass(frozen=True)
class Described:
    """A character as the page describes it. `job_file` is the hash of a job file for all poses."""

    character: str
    face: Named | None
    poses: list[Named]
    job_file: str = ""

    @property
    def named(self) -> list[Named]:
        """Return its pictures, the face first."""
        return [*([self.face] if self.face else []), *self.poses]

    @property
    def hashes(self) -> list[str]:
        """Return the hashes of all its files."""
        return [*([self.job_file] if self.job_file else []), *(name for file in self.named for name in file.hashes)]


@dataclass(frozen=True)
class Drop:
    """The chosen files of one character, laid out as an upload: by their keys, in order.

    - rules: the schema of its job files.
    - poses: keys by pose names.
    - refused: the files that cannot be uploaded, and why.
    """

    folder: Folder
    rules: str
    files: dict[str, File]
    poses: dict[str, str]
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def character(self) -> str:
        """Return the character of these files."""
        return self.folder.character


def lay_out(wanted: Described, files: Mapping[str, File], parameters: Mapping[str, Any], stack: Stack) -> Drop:
    """Lay out one character's files. Without a name, the face's file names the character. Raises Refused.

    `parameters` override those of the character's job files, also for each pose.
    """
    face, poses = wanted.face, wanted.poses
    character = wanted.character or (stem(face.file, FileKind.FACE) if face else "")
    if not character:
        raise Refused("name the character, or choose a face whose file name contains the name")
    if not face and not poses:
        raise Refused("choose a face or a pose")
    drop = Drop(stack.layout.folder(character), stack.model.schema, {}, {})
    if wanted.job_file:
        drop.files[drop.folder.job_file] = files[wanted.job_file]
    for kind, file in [*([(FileKind.FACE, face)] if face else []), *((FileKind.POSE, pose) for pose in poses)]:
        name = (file.pose or stem(PurePath(file.file).name, FileKind.POSE)) if kind is FileKind.POSE else ""
        try:
            if kind is FileKind.FACE and not poses and file.sha256:
                _check(file.file, files[file.sha256])  # no pose reports its problems
            _put(drop, kind, file, name, files, parameters)
        except Refused as why:
            drop.refused.append({"character": wanted.character, "file": file.file, "pose": name, "why": str(why)})
    return drop


def _put(
    drop: Drop,
    kind: FileKind,
    file: Named,
    name: str,
    files: Mapping[str, File],
    parameters: Mapping[str, Any],
) -> None:
    """Add one picture to a drop, after its parameters. Raises Refused."""
    if not file.sha256:
        raise Refused(f"the file has more than {UPLOAD_LIMIT} bytes")
    key = place(drop.folder, kind, PurePath(file.file).suffix, name)
    if name in drop.poses:
        raise Refused(f"another pose is also named {name}")
    if kind is FileKind.POSE:
        own = _parameters(file, files, parameters, drop.rules)
        drop.poses[name] = key
        if own:
            drop.files[drop.folder.pose_file(name)] = own
    drop.files[key] = files[file.sha256]


def _parameters(file: Named, files: Mapping[str, File], parameters: Mapping[str, Any], rules: str) -> File | None:
    """Return the job file of one pose: its own, overridden by the page's parameters. Raises Refused."""
    if not file.parameters:
        return InMemory(job_file(parameters)) if parameters else None
    own = files[file.parameters]
    if not parameters:
        return own
    try:
        there = read_job_file(f"{PurePath(file.file).stem}.json", own.read(JOB_FILE_LIMIT + 1), rules)
    except InvalidInput as why:
        raise Refused(str(why)) from why
    return InMemory(job_file({**there, **parameters}))


def _check(name: str, file: File) -> None:
    """Raise Refused if a file is not a complete picture, according to its container."""
    found = file.examined(name)
    if not found.type:
        raise Refused(f"{name} is {found.content.words}: {found.content.advice}")
    if found.problem:
        raise Refused(f"{name}: {found.problem}")


# ---- the plan --------------------------------------------------------------------------------------------------------


def plan_drops(stack: Stack, wanted: Sequence[Drop]) -> list[Plan]:
    """Return the plan of each drop. Raises Refused; errors of AWS pass as botocore's."""
    uploads = [CharacterUpload(drop.character, drop.files, list(drop.poses) or None) for drop in wanted]
    found = iter(plan_all(stack, [upload for upload in uploads if upload.files]))
    return [next(found) if upload.files else Plan("", []) for upload in uploads]


def total(planned: Sequence[Plan]) -> float:
    """Return the cost of all plans (USD)."""
    return round(sum(plan.usd for plan in planned), 4)


def why_not_new(job: PlannedJob) -> str | None:
    """Return why a planned job is not a new one, or None."""
    match job.outcome:
        case Outcome.KNOWN:
            text = f"the same job exists already: {(job.status or '').lower()}"
            return f"{text}, {job.error}" if job.error else text
        case Outcome.WAITING:
            return f"it will wait for {' and '.join(f'a {what}' for what in job.missing)}"
    return job.error


def accepted(
    wanted: Sequence[Drop],
    planned: Sequence[Plan],
    agreed_usd: float,
    leave: Collection[Outcome] = (Outcome.REFUSED, Outcome.KNOWN),
) -> dict[str, File]:
    """Return the files to upload, in order: job files and faces first, so that a pose finds all that it needs.

    Leaves out poses whose outcome is excluded (refused, or existing), and files that the bucket has already. Raises
    Refused if no file is left, or if the cost is now higher than agreed.
    """
    usd_now = total(planned)
    if usd_now > agreed_usd + 1e-6:
        raise Refused(f"it would now cost {usd(usd_now)}, not {usd(agreed_usd)}: check the plan again")
    found: dict[str, File] = {}
    reasons = [refused["why"] for drop in wanted for refused in drop.refused]
    for drop, plan in zip(wanted, planned, strict=True):
        own = _own_files(drop)
        left_out = {job.pose for job in plan.asked if job.outcome in leave}
        reasons += [job.error or why_not_new(job) or "" for job in plan.asked if job.pose in left_out]
        if drop.poses and left_out >= drop.poses.keys() and not plan.others:
            continue
        without = {key for pose in left_out for key in own.get(pose, ())} | plan.unchanged - set().union(*own.values())
        found |= {key: file for key, file in drop.files.items() if key not in without}
    if not found:
        raise Refused(next(iter(reasons), "everything exists already"))
    poses = {key for drop in wanted for key in drop.poses.values()}
    return {key: found[key] for key in sorted(found, key=lambda key: key in poses)}


def _own_files(drop: Drop) -> dict[str, set[str]]:
    """Return the keys of each pose's own files."""
    return {name: {key, drop.folder.pose_file(name)} for name, key in drop.poses.items()}
