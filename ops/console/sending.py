"""What the page sends: characters with their plans, new attempts, and jobs once more with other parameters."""

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
from posedrop.aws.stored_uploads import UploadChanged, read_stored
from posedrop.contract.errors import InvalidInput
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.job import waiting_id
from posedrop.contract.reasons import Problem
from posedrop.contract.upload_layout import FileKind, UploadLayout

MOST_FILES = 5000
SEEDS = 2**32
MOST_SEEDS = 8
UNKNOWN = "SubmitOutcomeUnknown"


# ---- what is asked for -----------------------------------------------------------------------------------------------


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
        raise Refused("the parameters are not a JSON object")
    files = staging.get(name for each in wanted for name in each.hashes)
    return [lay_out(each, files, parameters, stack) for each in wanted]


# ---- what would become of it -----------------------------------------------------------------------------------------


def summary(planned: Sequence[Plan], layout: UploadLayout) -> list[dict[str, Any]]:
    """The planned jobs as the page shows them; those that nobody asked for only if they are made again."""
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
    """What is wrong with a pose's files. The row is the pose's: only of other files it is said which they are."""

    def shown(problem: Problem) -> str:
        own = problem.file and layout.parse(problem.file).kind in (FileKind.POSE, FileKind.POSE_FILE)
        return problem.text if own else str(replace(problem, file=layout.below(problem.file)))

    return "; ".join(map(shown, job.problems))


# ---- once more -------------------------------------------------------------------------------------------------------


def ask_retry(stack: Stack, job_id: str) -> tuple[actions.Retry, str]:
    """The new attempt that would begin, and what to ask before. Raises NotFound and Refused."""
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


def pair(stack: Stack, staging: Staging, record: AnyRecord) -> Pair:
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
    """Describe the same face and pose with other seeds, as the page describes what is chosen.

    Each is a pose of its own, so that the old job stays what it is. Raises Refused; errors of AWS pass as botocore's.
    """
    found = pair(stack, staging, record)
    if not found.face or not found.pose:
        raise Refused(f"{found.note}: choose the pictures again")
    base = _without_seed(record)
    poses = [_variant(staging, record, found.pose, f"{base}-{seed}", {"seed": seed}) for seed in seeds]
    return [{"character": found.character, "face": vars(found.face), "poses": poses}]


def check_new(planned: Plan) -> None:
    """Raise Refused unless all jobs that were asked for are new ones."""
    for job in planned.asked:
        if job.outcome is not Outcome.NEW:
            raise Refused(why_not_new(job) or "it makes no new job")


def edit(stack: Stack, staging: Staging, records: Sequence[AnyRecord], names: Mapping[str, set[str]]) -> dict[str, Any]:
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
    """The name of a pose, without the seed that a variant of it has at its end."""
    return record.pose.removesuffix(f"-{_all_parameters(record).get('seed')}")


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
