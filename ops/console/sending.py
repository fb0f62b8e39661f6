"""Reads what the page asks for: new jobs and their plans, retries, and existing jobs with other parameters."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from ops.act import actions
from ops.console.staging import Staging
from ops.errors import Refused
from ops.inspect.drops import Described, Drop, Named, lay_out, why_not_new
from ops.inspect.explain_record import explain_record
from ops.inspect.plan import Outcome, Plan, PlannedJob, job_file
from ops.inspect.records import Records
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.record import AnyRecord, Status
from posedrop.aws.stored_uploads import read_stored
from posedrop.contract.errors import InvalidInput, UploadChanged
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.job import waiting_id
from posedrop.contract.reasons import Problem
from posedrop.contract.upload_layout import FileKind, UploadLayout

MOST_FILES = 5000
SEEDS = 2**32
MOST_SEEDS = 8
UNKNOWN = "SubmitOutcomeUnknown"


# ---- the request -----------------------------------------------------------------------------------------------------


def described(body: Mapping[str, Any]) -> list[Described]:
    """Return the characters that a request describes: one, or a list of them. Raises Refused."""
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
    """Return the requested characters with their files and object keys. Raises Lost and Refused."""
    wanted = described(body)
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused("the parameters are not a JSON object")
    files = staging.get(name for each in wanted for name in each.hashes)
    return [lay_out(each, files, parameters, stack) for each in wanted]


# ---- the plan --------------------------------------------------------------------------------------------------------


def summary(planned: Sequence[Plan], layout: UploadLayout) -> list[dict[str, Any]]:
    """Return the requested jobs for the page, and other jobs of the characters if the upload makes them again."""
    return [
        {
            "character": job.character,
            "pose": job.pose,
            "asked": job.asked,
            "outcome": str(job.outcome),
            "status": job.status,
            "why": _problems(job, layout) or why_not_new(job),
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
    """Return what is wrong with a pose's files. The row names the pose, so only other files are named here."""

    def shown(problem: Problem) -> str:
        own = problem.file and layout.parse(problem.file).kind in (FileKind.POSE, FileKind.POSE_FILE)
        return problem.text if own else str(replace(problem, file=layout.below(problem.file)))

    return "; ".join(map(shown, job.problems))


# ---- retries and variants --------------------------------------------------------------------------------------------


def ask_retry(stack: Stack, job_id: str) -> tuple[actions.Retry, str]:
    """Return the new attempt that would begin, and the question to ask first. Raises NotFound and Refused."""
    (wanted,) = actions.plan_retries(stack, [job_id])
    record = stack.record(job_id)
    said = explain_record(record, replace(Situation.of(stack), subject="It")).sentence if record else ""
    asks = f"Begin attempt {wanted.attempt}? A result that is still at the provider is not paid for again."
    return wanted, f"{said} {asks}"  # the button says the price


@dataclass(frozen=True)
class Retries:
    """New attempts that would begin, what they cost at most (USD), and why others would not."""

    retries: list[actions.Retry]
    usd: float
    refused: list[str]


def plan_retries(stack: Stack, job_ids: Sequence[str]) -> Retries:
    """Plan new attempts of the failed jobs among the given ones. Other jobs are ignored."""
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
    """The readable pictures of a job, and the character under which they would be uploaded."""

    character: str
    face: Named | None
    pose: Named | None
    note: str = ""


def pair(stack: Stack, staging: Staging, record: AnyRecord) -> Pair:
    """Stage a job's face and pose for a new upload.

    If the character has another face now, the pair is uploaded under a new character. Under the old name, the old face
    would make all of the character's poses again. Raises botocore's errors.
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
            note = f"{record.character} has another face now: this is made as {character}"
    return Pair(character, face, pose, note)


def _kept(stack: Stack, staging: Staging, record: AnyRecord, kind: FileKind) -> Named | None:
    stored = None if record.status is Status.WAITING else record.inputs.get(kind)
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


def once_more(stack: Stack, staging: Staging, record: AnyRecord, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Describe a job's face and pose with other seeds, in the form of a request's `characters`.

    Each seed gets a pose name of its own, so that the old job does not change. Raises Refused, and botocore's errors.
    """
    found = pair(stack, staging, record)
    if not found.face or not found.pose:
        raise Refused(f"{found.note}: choose the pictures again")
    base = _without_seed(record)
    poses = [_variant(staging, record, found.pose, f"{base}-{seed}", {"seed": seed}) for seed in seeds]
    return [{"character": found.character, "face": vars(found.face), "poses": poses}]


def check_new(planned: Plan) -> None:
    """Raise Refused unless all requested jobs are new."""
    for job in planned.asked:
        if job.outcome is not Outcome.NEW:
            raise Refused(why_not_new(job) or "this makes no new job")


def edit(stack: Stack, staging: Staging, records: Sequence[AnyRecord], names: Mapping[str, set[str]]) -> dict[str, Any]:
    """Describe jobs in the form of a request's `characters`, so that the page can change them and send them again.

    `names` are the pose names of each character. A job that has a result keeps its name, and its changed copy gets the
    next free one. Raises botocore's errors.
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
            if not (record.missing if record.status is Status.WAITING else record.error):
                taken |= names.get(found.character, set())
                name = _without_seed(record)
            there["poses"].append(_variant(staging, record, found.pose, _free(name, taken), {}))
    parameters = _all_parameters(records[0]) if len(records) == 1 else {}
    return {"characters": list(characters.values()), "parameters": parameters, "notes": list(dict.fromkeys(notes))}


def _variant(staging: Staging, record: AnyRecord, pose: Named, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {**_all_parameters(record), **changes}
    kept = staging.put(job_file(parameters)).sha256 if parameters else ""
    return {**vars(pose), "pose": name, "parameters": kept}


def _all_parameters(record: AnyRecord) -> dict[str, Any]:
    if record.status is Status.WAITING:
        return {}
    context = {} if record.context is None else {"context": record.context}
    return {**record.parameters, **context}


def _without_seed(record: AnyRecord) -> str:
    """Return a pose's name, without the seed at the end of a variant's name."""
    return record.pose.removesuffix(f"-{_all_parameters(record).get('seed')}")


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def seeds_of(body: Mapping[str, Any]) -> list[int] | None:
    """Return the seed that a request names, or `count` random ones. Return None if either value is invalid."""
    seed, number = body.get("seed"), body.get("count", 1)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_SEEDS:
        return None
    if seed is None:
        return [secrets.randbelow(SEEDS) for _ in range(number)]
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**63:
        return None
    return [seed]
