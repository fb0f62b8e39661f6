"""What the page sends: characters with their plans, new attempts, and jobs once more with other parameters."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from ops.act import actions
from ops.console.staging import Staged, Staging
from ops.errors import Refused
from ops.formatting import usd
from ops.inspect.explain_record import explain_record
from ops.inspect.plan import File, InMemory, Outcome, Plan, PlannedJob, Wish, job_file, place, plan_all, stem
from ops.inspect.records import Records
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.record import Record, Status
from posedrop.aws.stored_uploads import UploadChanged, read_stored
from posedrop.contract.errors import InvalidInput
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.job import waiting_id
from posedrop.contract.parameters import JOB_FILE_LIMIT, read_job_file
from posedrop.contract.reasons import Problem
from posedrop.contract.upload_layout import FileKind, Folder, UploadLayout

MOST_FILES = 5000
SEEDS = 2**32
MOST_SEEDS = 8
UNKNOWN = "SubmitOutcomeUnknown"


# ---- what is asked for -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A file as the page describes it: its name there, its hash, and the pose's name if somebody gave one.

    Without a hash the file was too large to be sent here. `parameters` is the hash of a job file for this pose alone.
    """

    file: str
    sha256: str = ""
    pose: str = ""
    parameters: str = ""

    @property
    def hashes(self) -> list[str]:
        """The hashes of what is kept of it."""
        return [sha256 for sha256 in (self.sha256, self.parameters) if sha256]


@dataclass(frozen=True)
class Described:
    """A character as the page describes it. `job_file` is the hash of a job file for all its poses."""

    character: str
    face: Named | None
    poses: list[Named]
    job_file: str = ""

    @property
    def named(self) -> list[Named]:
        """Its pictures, the face first."""
        return [*([self.face] if self.face else []), *self.poses]

    @property
    def hashes(self) -> list[str]:
        """The hashes of all its files."""
        return [*([self.job_file] if self.job_file else []), *(name for file in self.named for name in file.hashes)]


@dataclass(frozen=True)
class Drop:
    """What was chosen of one character, laid out as it would be uploaded: files by their keys, in their order.

    `rules`: the schema of its job files. `poses` are their keys by their names; `refused` says of each file that has no
    place, why.
    """

    folder: Folder
    rules: str
    files: dict[str, File]
    poses: dict[str, str]
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def character(self) -> str:
        """Whose files these are."""
        return self.folder.character


def described(body: Mapping[str, Any]) -> list[Described]:
    """The characters that the page describes: one, or a list of them. Raises Refused."""
    given = body.get("characters", [body])
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Refused("the characters are a list of objects")
    found = [_described(each) for each in given]
    if sum(len(each.named) for each in found) > MOST_FILES:
        raise Refused(f"choose at most {MOST_FILES} files at once")
    names = [each.character for each in found]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise Refused(f"two characters have the same name: {', '.join(twice)}")
    return found


def _described(given: Mapping[str, Any]) -> Described:
    face, poses = given.get("face"), given.get("poses") or []
    try:
        files = [Named(**file) for file in [*([face] if face else []), *(poses if isinstance(poses, list) else [0])]]
    except TypeError:
        files = [Named("")]
    if not all(file.file and all(isinstance(value, str) for value in vars(file).values()) for file in files):
        raise Refused("each file is described by its name, the pose's name and its hash")
    name, job_file = (str(given.get(part) or "").strip() for part in ("character", "job_file"))
    return Described(name, files[0] if face else None, files[1:] if face else files, job_file)


def drops(staging: Staging, stack: Stack, body: Mapping[str, Any]) -> list[Drop]:
    """What is asked for, laid out. Raises Lost and Refused."""
    wanted = described(body)
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused("the parameters are no JSON object")
    files = staging.get(name for each in wanted for name in each.hashes)
    return [lay_out(each, files, parameters, stack) for each in wanted]


def lay_out(wanted: Described, files: Mapping[str, Staged], parameters: Mapping[str, Any], stack: Stack) -> Drop:
    """Lay out one character's files. It is named by the face where it has no name. Raises Refused.

    `parameters` go over those of the character's own job files, and beside each pose.
    """
    face, poses = wanted.face, wanted.poses
    character = wanted.character or (stem(face.file, FileKind.FACE) if face else "")
    if not character:
        raise Refused("name the character, or choose a face whose file name names it")
    if not face and not poses:
        raise Refused("choose a face or a pose")
    drop = Drop(stack.layout.folder(character), stack.model.schema, {}, {})
    if wanted.job_file:
        drop.files[drop.folder.job_file] = files[wanted.job_file]
    for kind, file in [*([(FileKind.FACE, face)] if face else []), *((FileKind.POSE, pose) for pose in poses)]:
        name = (file.pose or stem(PurePath(file.file).name, FileKind.POSE)) if kind is FileKind.POSE else ""
        try:
            if kind is FileKind.FACE and not poses and file.sha256:
                _check(file.file, files[file.sha256])  # no pose says what is wrong with it
            _put(drop, kind, file, name, files, parameters)
        except Refused as why:
            drop.refused.append({"character": wanted.character, "file": file.file, "pose": name, "why": str(why)})
    return drop


def _put(
    drop: Drop,
    kind: FileKind,
    file: Named,
    name: str,
    files: Mapping[str, Staged],
    parameters: Mapping[str, Any],
) -> None:
    """Put one picture into a drop, and its parameters before it. Raises Refused."""
    if not file.sha256:
        raise Refused(f"the file has more than {UPLOAD_LIMIT} bytes")
    key = place(drop.folder, kind, PurePath(file.file).suffix, name)
    if name in drop.poses:
        raise Refused(f"another pose is named {name}, too")
    if kind is FileKind.POSE:
        own = _parameters(file, files, parameters, drop.rules)
        drop.poses[name] = key
        if own:
            drop.files[drop.folder.pose_file(name)] = own
    drop.files[key] = files[file.sha256]


def _parameters(file: Named, files: Mapping[str, Staged], parameters: Mapping[str, Any], rules: str) -> File | None:
    """The job file of one pose: its own, with what was set on the page over it. Raises Refused."""
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


def _check(name: str, file: Staged) -> None:
    """Raise Refused if a file is no whole picture, as far as its container says."""
    found = file.examined(name)
    if not found.type:
        raise Refused(f"{name} is {found.content.words}: {found.content.advice}")
    if found.problem:
        raise Refused(f"{name}: {found.problem}")


# ---- what would become of it -----------------------------------------------------------------------------------------


def plan_drops(stack: Stack, wanted: Sequence[Drop]) -> list[Plan]:
    """What would become of each. Raises Refused; errors of AWS pass as botocore's."""
    wishes = [Wish(drop.character, drop.files, list(drop.poses) or None) for drop in wanted]
    found = iter(plan_all(stack, [wish for wish in wishes if wish.files]))
    return [next(found) if wish.files else Plan("", []) for wish in wishes]


def total(planned: Sequence[Plan]) -> float:
    """What all of it would cost (USD)."""
    return round(sum(plan.usd for plan in planned), 4)


def summary(planned: Sequence[Plan], layout: UploadLayout) -> list[dict[str, Any]]:
    """The planned jobs as the page shows them; those that nobody asked for only if they are made again."""
    return [
        {
            "character": job.character,
            "pose": job.pose,
            "asked": job.asked,
            "outcome": str(job.outcome),
            "status": job.status,
            "why": _problems(job, layout) or _why(job),
            "usd": job.usd,
            "changes": job.changes,
            "parameters": job.parameters,
            "job_id": job.job_id or (waiting_id(job.character, job.pose) if job.missing else None),
        }
        for plan in planned
        for job in plan.jobs
        if job.asked or job.outcome is Outcome.NEW
    ]


def _problems(job: PlannedJob, layout: UploadLayout) -> str:
    """What is wrong with a pose's files. The row is the pose's: only of other files it is said which they are."""

    def shown(problem: Problem) -> str:
        own = problem.file and layout.parse(problem.file).kind in (FileKind.POSE, FileKind.POSE_FILE)
        return problem.text if own else str(replace(problem, file=layout.below(problem.file)))

    return "; ".join(map(shown, job.problems))


def _why(job: PlannedJob) -> str | None:
    match job.outcome:
        case Outcome.KNOWN:
            text = f"the same job is there already: {(job.status or '').lower()}"
            return f"{text}, {job.error}" if job.error else text
        case Outcome.WAITING:
            return f"it will wait for {' and '.join(f'a {what}' for what in job.missing)}"
    return job.error


def accepted(wanted: Sequence[Drop], planned: Sequence[Plan], agreed_usd: float) -> dict[str, File]:
    """The files to upload, in their order: job files and faces first, so that a pose finds all that it needs.

    Without the files of poses that would be refused or are there already, and without what the bucket has already.
    Raises Refused if nothing is left, or if it costs more by now than was agreed to.
    """
    usd_now = total(planned)
    if usd_now > agreed_usd + 1e-6:
        raise Refused(f"it would cost {usd(usd_now)} by now, not {usd(agreed_usd)}: look at it again")
    found: dict[str, File] = {}
    reasons = [refused["why"] for drop in wanted for refused in drop.refused]
    for drop, plan in zip(wanted, planned, strict=True):
        own = _own_files(drop)
        left_out = {job.pose for job in plan.asked if job.outcome in (Outcome.REFUSED, Outcome.KNOWN)}
        reasons += [job.error or _why(job) or "" for job in plan.asked if job.pose in left_out]
        if drop.poses and left_out >= drop.poses.keys() and not plan.others:
            continue
        without = {key for pose in left_out for key in own.get(pose, ())} | plan.unchanged - set().union(*own.values())
        found |= {key: file for key, file in drop.files.items() if key not in without}
    if not found:
        raise Refused(next(iter(reasons), "everything is there already"))
    poses = {key for drop in wanted for key in drop.poses.values()}
    return {key: found[key] for key in sorted(found, key=lambda key: key in poses)}


def _own_files(drop: Drop) -> dict[str, set[str]]:
    """The keys of each pose's own files."""
    return {name: {key, drop.folder.pose_file(name)} for name, key in drop.poses.items()}


# ---- once more -------------------------------------------------------------------------------------------------------


def ask_retry(stack: Stack, job_id: str) -> tuple[actions.Retry, str]:
    """The new attempt that would begin, and what to ask before. Raises NotFound and Refused."""
    (wanted,) = actions.plan_retries(stack, [job_id])
    record = stack.record(job_id)
    said = explain_record(record, Situation.of(stack)).sentence if record else ""
    return wanted, (
        f"{said} Begin attempt {wanted.attempt}? It costs {usd(wanted.usd)} at most: a result that is still at the "
        "provider is not paid for again."
    )


@dataclass(frozen=True)
class Retries:
    """New attempts that would begin, what they cost at most (USD), and why others would not."""

    retries: list[actions.Retry]
    usd: float
    refused: list[str]


def plan_retries(stack: Stack, job_ids: Sequence[str]) -> Retries:
    """The new attempts of all jobs among some that have failed; of the others nothing is said."""
    retries: list[actions.Retry] = []
    refused: list[str] = []
    for record in Records(stack).get(job_ids).values():
        if record.status is not Status.FAILED:
            continue
        try:
            retries += actions.plan_retries(stack, [record.job_id])
        except Refused as why:
            refused.append(str(why))
    return Retries(retries, round(sum(wanted.usd for wanted in retries), 4), refused)


@dataclass(frozen=True)
class Pair:
    """The pictures of a job, as far as they can be read, and the character that they would be uploaded for."""

    character: str
    face: Named | None
    pose: Named | None
    note: str = ""


def pair(stack: Stack, staging: Staging, record: Record) -> Pair:
    """Keep a job's face and pose for a new upload.

    Where the character has another face by now they are uploaded for a character of their own: under its name the old
    face would make all its poses again. Errors of AWS pass as botocore's.
    """
    found = {kind: _kept(stack, staging, record, kind) for kind in (FileKind.FACE, FileKind.POSE)}
    face, pose = found[FileKind.FACE], found[FileKind.POSE]
    missing = [str(kind) for kind, file in found.items() if file is None]
    note = f"the {' and the '.join(missing)} of {record.pose or 'the job'} cannot be read any more" if missing else ""
    character = record.character
    now = stack.uploads.files(character, "").face
    if face and now:
        data = stack.uploads.read(now, UPLOAD_LIMIT).data
        if staging.get([face.sha256])[face.sha256].read() != data:
            character = f"{record.character}-{face.sha256[:4]}"
            note = f"{record.character} has another face by now: this is made as {character}"
    return Pair(character, face, pose, note)


def _kept(stack: Stack, staging: Staging, record: Record, kind: FileKind) -> Named | None:
    stored = record.inputs.get(kind)
    try:
        if stored:
            key, data = stored["key"], read_stored(stack.client("s3"), stored)
        else:
            files = stack.uploads.files(record.character, record.pose)
            listed = files.face if kind is FileKind.FACE else files.pose
            if listed is None or (kind is FileKind.POSE and not record.pose):
                return None
            key, data = listed.key, stack.uploads.read(listed, UPLOAD_LIMIT).data
    except (UploadChanged, InvalidInput):
        return None
    return Named(PurePath(key).name, staging.put(data).sha256, record.pose if kind is FileKind.POSE else "")


def once_more(stack: Stack, staging: Staging, record: Record, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Describe the same face and pose with other seeds, as the page describes what is chosen.

    Each is a pose of its own, so that the old job stays what it is. Raises Refused; errors of AWS pass as botocore's.
    """
    found = pair(stack, staging, record)
    if not found.face or not found.pose:
        raise Refused(f"{found.note}: choose the pictures again")
    base = record.pose.removesuffix(f"-{record.parameters.get('seed')}")
    poses = [_variant(staging, record, found.pose, f"{base}-{seed}", {"seed": seed}) for seed in seeds]
    return [{"character": found.character, "face": vars(found.face), "poses": poses}]


def check_new(planned: Plan) -> None:
    """Raise Refused unless all jobs that were asked for are new ones."""
    for job in planned.asked:
        if job.outcome is not Outcome.NEW:
            raise Refused(_why(job) or "it makes no new job")


def edit(stack: Stack, staging: Staging, records: Sequence[Record], names: Mapping[str, set[str]]) -> dict[str, Any]:
    """Describe jobs as the page describes what is chosen, so that they can be changed and sent again.

    `names` are the poses that each character has. What was made keeps its name: a changed job gets the next free one.
    Errors of AWS pass as botocore's.
    """
    characters: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for record in records:
        found = pair(stack, staging, record)
        notes += [found.note] if found.note else []
        there = characters.setdefault(found.character, {"character": found.character, "face": None, "poses": []})
        if found.face:
            there["face"] = vars(found.face)
        if found.pose:
            taken = {pose["pose"] for pose in there["poses"]}
            name = record.pose
            if not record.error and not record.missing:
                taken |= names.get(found.character, set())
                name = record.pose.removesuffix(f"-{record.parameters.get('seed')}")
            there["poses"].append(_variant(staging, record, found.pose, _free(name, taken), {}))
    parameters = _all_parameters(records[0]) if len(records) == 1 else {}
    return {"characters": list(characters.values()), "parameters": parameters, "notes": list(dict.fromkeys(notes))}


def _variant(staging: Staging, record: Record, pose: Named, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {**_all_parameters(record), **changes}
    kept = staging.put(job_file(parameters)).sha256 if parameters else ""
    return {**vars(pose), "pose": name, "parameters": kept}


def _all_parameters(record: Record) -> dict[str, Any]:
    context = {} if record.context is None else {"context": record.context}
    return {**record.parameters, **context}


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def seeds_of(body: Mapping[str, Any]) -> list[int] | None:
    """The seeds that a request names, or new ones as many as it asks for; None if it is not clear."""
    seed, number = body.get("seed"), body.get("count", 1)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_SEEDS:
        return None
    if seed is None:
        return [secrets.randbelow(SEEDS) for _ in range(number)]
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**63:
        return None
    return [seed]
