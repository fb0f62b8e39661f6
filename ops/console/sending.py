"""What the page sends off: uploads with their plan, new attempts, and the same pair with another seed."""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from uuid import uuid4

from ops import actions, uploading
from ops.console.feed import sentence
from ops.errors import NotFound, Refused
from ops.explain import Situation, explain_record
from ops.plan import Outcome, Plan, PlannedJob, job_file, place, plan, stem
from ops.stack import Stack
from ops.words import usd
from posedrop.contract import Folder, Role
from posedrop.examine import Examiner
from posedrop.images import UPLOAD_LIMIT
from posedrop.job import waiting_id
from posedrop.ledger import Record
from posedrop.uploads import UploadChanged, read_stored

PROGRESS_STEP = 0.04
"""Of a file, between two words on how far it is."""
SEEDS = 2**32

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Named:
    """A file as the page gives it: its name there, and that of the pose if somebody named it.

    `data` is None where the file has more than UPLOAD_LIMIT bytes.
    """

    file: str
    data: bytes | None
    pose: str = ""


@dataclass(frozen=True)
class Drop:
    """What was dropped onto the page, laid out as it would be uploaded: bytes by their keys, in their order.

    `poses` are named by their keys; `refused` says of each file that has no place, why.
    """

    character: str
    files: dict[str, bytes]
    poses: dict[str, str]
    refused: list[dict[str, str]] = field(default_factory=list)


# ---- a drop ----------------------------------------------------------------------------------------------------------


def lay_out(character: str, face: Named | None, poses: Sequence[Named], parameters: Mapping[str, Any]) -> Drop:
    """Lay out what was dropped. The character is named by the face where it has no name. Raises Refused."""
    character = character or (stem(face.file, Role.FACE) if face else "")
    if not character:
        raise Refused("name the character, or drop a face whose file name names it")
    if not face and not poses:
        raise Refused("drop a face or a pose")
    drop = Drop(character, {}, {})
    for role, file in [*([(Role.FACE, face)] if face else []), *((Role.POSE, pose) for pose in poses)]:
        ending = PurePath(file.file).suffix
        name = (file.pose or stem(PurePath(file.file).name, Role.POSE)) if role is Role.POSE else ""
        try:
            if file.data is None:
                raise Refused(f"the file has more than {UPLOAD_LIMIT} bytes")
            key = place(character, role, ending, name)
            if name in drop.poses:
                raise Refused(f"another pose is named {name}, too")
            if role is Role.FACE and not poses:
                _check(file.file, file.data)  # no pose of this drop says what is wrong with it
        except Refused as why:
            drop.refused.append({"file": file.file, "pose": name, "why": str(why)})
            continue
        if role is Role.POSE:
            drop.poses[name] = key
            if parameters:
                drop.files[Folder(character).pose_file(name)] = job_file(parameters)
        drop.files[key] = file.data
    return drop


def _check(name: str, data: bytes) -> None:
    """Raise Refused if a file is no whole picture, as far as its container says."""
    examiner = Examiner(name, len(data))
    if examiner.wants_more:
        examiner.feed(data)
    found = examiner.close(version_id=None, etag="", metadata={})
    if not found.type:
        raise Refused(f"{name} is {found.content.words}: {found.content.advice}")
    if found.problem:
        raise Refused(f"{name}: {found.problem}")


def plan_drop(stack: Stack, drop: Drop) -> Plan:
    """What would become of a drop. Raises Refused; errors of AWS pass as botocore's."""
    if not drop.files:
        return Plan("", [])
    return plan(stack, drop.character, drop.files, list(drop.poses) or None)


def told(planned: Plan) -> list[dict[str, Any]]:
    """The planned jobs as the page shows them; those that nobody asked for only if they are made anew."""
    return [
        {
            "character": job.character,
            "pose": job.pose,
            "asked": job.asked,
            "outcome": str(job.outcome),
            "why": _why(job),
            "usd": job.usd,
            "parameters": {name: value for name, value in (job.request or {}).items() if not name.endswith("_image")},
            "job_id": job.job_id or (waiting_id(job.character, job.pose) if job.missing else None),
        }
        for job in planned.jobs
        if job.asked or job.outcome is Outcome.NEW
    ]


def _why(job: PlannedJob) -> str | None:
    match job.outcome:
        case Outcome.KNOWN:
            text = f"the same job is there already: {(job.status or '').lower()}"
            return f"{text}, {job.error}" if job.error else text
        case Outcome.WAITING:
            return f"it will wait for {' and '.join(f'a {what}' for what in job.missing)}"
    return job.error


def accepted(drop: Drop, planned: Plan, agreed_usd: float) -> dict[str, bytes]:
    """The files to upload: without those of poses that would be refused.

    Raises Refused if no pose is left, or if it costs more by now than was agreed to.
    """
    if planned.usd > agreed_usd + 1e-6:
        raise Refused(f"it would cost {usd(planned.usd)} by now, not {usd(agreed_usd)}: look at it again")
    refused = {job.pose: job.error for job in planned.asked if job.outcome is Outcome.REFUSED}
    if drop.poses and refused.keys() >= drop.poses.keys():
        raise Refused(next(iter(refused.values())) or "the contract refuses all of it")
    if not drop.files:
        raise Refused(drop.refused[0]["why"])
    own = {key for name in refused if name in drop.poses for key in (drop.poses[name], _json(drop, name))}
    return {key: data for key, data in drop.files.items() if key not in own}


def _json(drop: Drop, pose: str) -> str:
    return Folder(drop.character).pose_file(pose)


def send(stack: Stack, upload: str, files: Mapping[str, bytes], tell: Tell) -> None:
    """Upload files one after another, and tell of each how far it is. After one that fails nothing more is sent."""
    failed: str | None = None
    for key, data in files.items():
        progress = _Progress(upload, key, len(data), tell)
        if failed is None:
            try:
                uploading.store(stack, {key: data}, progress.add)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the page waits for a word on each file
                failed = sentence(exc)
                progress.end(failed)
            else:
                progress.end(None)
        else:
            progress.end("not sent, since another file failed")


def upload_id() -> str:
    """A name for one drop's uploads."""
    return uuid4().hex[:12]


class _Progress:
    """How much of one file went. boto3 tells it from several threads."""

    def __init__(self, upload: str, key: str, size: int, tell: Tell) -> None:
        self._told = {"upload": upload, "key": key, "bytes": size}
        self._size, self._tell = size, tell
        self._sent = self._last = 0
        self._lock = threading.Lock()

    def add(self, _key: str, count: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._sent += count
            if self._sent - self._last < self._size * PROGRESS_STEP:
                return
            self._last = self._sent
        self._tell({**self._told, "sent": min(self._sent, self._size), "done": False, "error": None})

    def end(self, error: str | None) -> None:
        """It went, or it did not."""
        sent = self._size if error is None else self._sent
        self._tell({**self._told, "sent": sent, "done": error is None, "error": error})


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
class Again:
    """The same face and pose with another seed: a pose of its own, so that the old job stays what it is."""

    character: str
    pose: str
    seed: int
    files: dict[str, bytes]
    usd: float

    @property
    def asks(self) -> str:
        """What to ask before."""
        return f"Make {self.pose} of {self.character} with the seed {self.seed}? It costs about {usd(self.usd)}."


def plan_again(stack: Stack, record: Record | None, seed: int | None) -> Again:
    """What another seed would upload: the pose once more under a name of its own, and all parameters beside it.

    Raises NotFound and Refused; errors of AWS pass as botocore's.
    """
    if record is None:
        raise NotFound("there is no such job")
    if not {"face", "pose"} <= record.inputs.keys():
        raise Refused(f"{record.job_id} has no face and pose to take")
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    s3 = stack.client("s3")
    try:
        face, pose = (read_stored(s3, record.inputs[name]) for name in ("face", "pose"))
    except UploadChanged as gone:
        raise Refused(f"{gone} was deleted since: upload it again") from gone
    now = stack.uploads.files(record.character, record.pose).face
    if now is None or stack.uploads.read(now, UPLOAD_LIMIT).data != face:
        raise Refused(f"the face of {record.character} is another one now: upload the pose again to make it anew")
    last = record.parameters.get("seed")
    name = f"{record.pose.removesuffix(f'-{last}')}-{seed}"
    key = place(record.character, Role.POSE, PurePath(record.inputs["pose"]["key"]).suffix, name)
    parameters = {**record.parameters, "seed": seed}
    if record.context is not None:
        parameters["context"] = record.context
    files = {Folder(record.character).pose_file(name): job_file(parameters), key: pose}
    (job,) = plan(stack, record.character, files, [name]).jobs
    if job.outcome is not Outcome.NEW:
        raise Refused(_why(job) or "it makes no new job")
    return Again(record.character, name, seed, files, job.usd)
