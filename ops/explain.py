"""Why did my upload do nothing? The contract and the ledger tell, in one sentence with the next step."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from ops.bucket_health import elsewhere, no_events
from ops.errors import NotFound
from ops.health import LARGER_BUDGET, breaker_step, depth
from ops.records import Records
from ops.stack import Stack
from ops.suggestions import no_job
from ops.words import DAY, command, many, span
from posedrop.clock import epoch
from posedrop.contract import (
    JOB_FILE,
    PREFIX,
    SINGLE_POSE,
    Folder,
    OutsideContract,
    Role,
    SideFile,
    Upload,
    hint,
    parse,
)
from posedrop.gate.credits import Credits
from posedrop.gate.gate import GateState, Opening
from posedrop.gate.rate_limit import RateLimit
from posedrop.gate.reasons import BUDGETS, ReasonCode
from posedrop.intake import Draft, draft, unsettled
from posedrop.job import waiting_id
from posedrop.ledger import Record, Status
from posedrop.line.places import IN_LINE
from posedrop.messages import Origin
from posedrop.polling import Latency
from posedrop.record import Fate
from posedrop.uploads import GONE, JobFiles, Listed, UploadBucket, UploadChanged

PROBABLY_LOST = 60.0
"""Seconds after settling in which an upload's event should have been handled if nothing is ahead of it."""
LATE = 120.0
"""Seconds after JobTimeoutSeconds at which a job should have been told."""
NEIGHBOURS = 200
MOST_COUNTED = 1000
"""Jobs in line that are counted, to say how many are before one."""


class Reason(StrEnum):
    """Why nothing came of an upload, or what did."""

    WRONG_PREFIX = "wrong-prefix"
    WRONG_NAME = "wrong-name"
    SIDE_FILE = "side-file"
    WRONG_BUCKET = "wrong-bucket"
    NOT_UPLOADED = "not-uploaded"
    DELETED = "deleted"
    SUPERSEDED = "superseded"
    SETTLING = "settling"
    MISSING_FACE = "missing-face"
    MISSING_POSE = "missing-pose"
    NO_PROMPT = "no-prompt"
    BAD_JOB_FILE = "bad-job-file"
    BAD_IMAGE = "bad-image"
    DUPLICATE = "duplicate"
    OTHER_PARAMETERS = "other-parameters"
    QUEUED = "queued"
    WAITING_LIMIT = "waiting-limit"
    WAITING_BUDGET = "waiting-budget"
    PAUSED = "paused"
    REFUSED = "refused"
    HELD = "held"
    RUNNING = "running"
    STUCK = "stuck"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED_AT_PROVIDER = "failed-at-provider"
    NO_RESULT = "no-result"
    OUTCOME_UNKNOWN = "outcome-unknown"
    INTERNAL = "internal"
    NO_EVENTS = "no-events"
    NOT_SEEN = "not-seen"
    EXPIRED = "expired"
    SEVERAL = "several"


@dataclass(frozen=True)
class Explanation:
    """The reason in one sentence, and what to do next. `parts`: one of each pose, where a file serves several."""

    reason: Reason
    sentence: str
    next_step: str
    key: str | None = None
    job_id: str | None = None
    parts: tuple["Explanation", ...] = ()


@dataclass(frozen=True)
class Situation:
    """What a job's state depends on besides its record. `now` is in seconds since the epoch.

    `gate` is the gate's state, `opening` when it lets jobs through next. `command` makes the next step, a command on
    the same stack. `before` counts the jobs in line before a place, up to MOST_COUNTED. `credits`: what is left on the
    provider's account, None where that is not known.
    """

    gate: GateState
    opening: Opening
    limit: RateLimit
    latency: Latency
    job_timeout_seconds: float
    submit_timeout_seconds: float
    now: float
    command: Callable[..., str] = command
    before: Callable[[str], int] = lambda place: 0
    credits: Credits | None = None

    @classmethod
    def of(cls, stack: Stack) -> "Situation":
        """The situation of a stack now."""
        now = stack.clock()
        gate = stack.gate.read(now)
        return cls(
            gate,
            stack.gate.opening(gate, now),
            stack.limit,
            stack.latency(),
            stack.seconds("JobTimeoutSeconds"),
            stack.seconds("SubmitTimeoutSeconds"),
            now,
            stack.command,
            lambda place: stack.line.before(place, MOST_COUNTED),
            stack.credits.read(),
        )

    def turn_after(self, jobs: int) -> float | None:
        """When the job is sent that has so many before it in line; None where the budget does not pay for so many."""
        if jobs >= self.opening.most:
            return None
        return max(self.gate.until, self.opening.at) + jobs * self.opening.interval

    @property
    def typical_seconds(self) -> float:
        """How long a job took lately: the median."""
        return sorted(self.latency.tenths)[len(self.latency.tenths) // 2] / 10


# ---- a record --------------------------------------------------------------------------------------------------------


def explain_record(record: Record, situation: Situation) -> Explanation:
    """Say how a job stands. Nothing is read but, through the situation, a job's place in line."""
    match record.status:
        case Status.WAITING:
            found = _waiting(record)
        case Status.QUEUED:
            found = _queued(record, situation)
        case Status.SUBMITTING:
            found = _submitting(record, situation)
        case Status.SUBMITTED:
            found = _submitted(record, situation)
        case Status.SUCCEEDED:
            images = ", ".join(output["uri"] for output in record.outputs) or "in the output bucket"
            ended = _ago(record.completed_at, situation.now)
            found = Explanation(Reason.DONE, f"Job {record.job_id} succeeded{ended}.", f"Its images: {images}")
        case Status.FAILED:
            found = _failed(record, situation)
    return replace(found, job_id=record.job_id)


def _waiting(record: Record) -> Explanation:
    if record.errors:
        text = f"Handling the upload failed {many(record.errors, 'time')}: {_clause(record.reason)}."
        return Explanation(Reason.INTERNAL, text, "It is tried again by itself; the log of intake says more.")
    return missing(record.character, record.pose, record.missing, record.reason)


def missing(character: str, pose: str, what: list[str], hints: str | None = None) -> Explanation:
    """Say what uploads wait for: "face", "pose" or "prompt", and which files may have been meant."""
    found = _missing(character, pose, what)
    return replace(found, sentence=f"{found.sentence.removesuffix('.')}; {_clause(hints)}.") if hints else found


def _missing(character: str, pose: str, what: list[str]) -> Explanation:
    folder = Folder(character)
    if "prompt" in what:
        sentence = f"The pose {pose} of {character} waits for a prompt: no job file, metadata or DefaultPrompt has one."
        put = f'{{"prompt": "..."}} as {folder.job_file}, or, for this pose alone, as {folder.pose_file(pose)}'
        return Explanation(Reason.NO_PROMPT, sentence, f"Upload {put}.")
    any_picture = "with the ending that it has (.jpg, .heic, .png, ...)"
    if "pose" in what:
        subject = f"{pose} of {character}" if pose else character
        also = " and for a face" if "face" in what else ""
        sentence = f"The files of {subject} wait for a pose{also}: there is no image to go with them."
        name = f"{folder.poses_prefix}{pose or '<pose>'}"
        return Explanation(Reason.MISSING_POSE, sentence, f"Upload the pose as {name} {any_picture}.")
    sentence = f"The pose {pose} of {character} waits for a face: {folder.prefix} has none."
    return Explanation(Reason.MISSING_FACE, sentence, f"Upload the face as {folder.prefix}face {any_picture}.")


OWN_DEFERRALS: dict[str | None, tuple[str, str]] = {
    ReasonCode.SERVER_FAULT: (
        "its request may exist, so the provider's history is asked in {when} before it is sent again",
        "Nothing: it goes on by itself, and fails after several such responses or a day of them.",
    ),
    ReasonCode.EARLIER_REQUEST: (
        "nothing is paid before that is known, and it is looked up again in {when}",
        "Nothing: it goes on by itself.",
    ),
    ReasonCode.UNAVAILABLE: ("it is tried again in {when}", "Nothing: it goes on by itself."),
    ReasonCode.AWS: ("it is tried again in {when}", "Nothing: it goes on by itself."),
}
"""Why one job alone is deferred: what happens next, and what there is to do."""


def _queued(record: Record, situation: Situation) -> Explanation:
    job, now = f"Job {record.job_id}", situation.now
    left = epoch(record.deferred_until) - now if record.deferred_until else 0.0
    # A look-up is no new request: the breaker does not stop it.
    if situation.gate.breaker.is_open and not (left > 0 and record.reason_code == ReasonCode.EARLIER_REQUEST):
        return _paused(record, situation)
    if left > 0 and record.reason_code == ReasonCode.REFUSED:
        return _refused(record, left)
    if left > 0 and record.reason_code in OWN_DEFERRALS:
        happens, step = OWN_DEFERRALS[record.reason_code]
        sentence = f"{job} is deferred: {_clause(record.reason)}; {happens.format(when=span(left))}."
        return Explanation(Reason.HELD, sentence, step)
    if closed := situation.opening.closed:
        money = closed.code in BUDGETS
        sentence = (
            f"{job} waits: {_clause(closed.reason)}; it goes on in about {span(closed.until - now)} at the earliest."
        )
        step = LARGER_BUDGET if money else "Nothing: it goes on by itself."
        return Explanation(Reason.WAITING_BUDGET if money else Reason.WAITING_LIMIT, sentence, step)
    if record.stands == IN_LINE and record.place:
        return _in_line(record, situation, situation.before(record.place))
    if record.send_at is not None and record.send_at > now:
        sentence = f"{job} has its time within the plan's request limit and is sent in {span(record.send_at - now)}."
        return Explanation(Reason.WAITING_LIMIT, sentence, "Nothing: it goes on by itself.")
    if record.reason and left > 0:
        sentence = f"{job} is deferred: {_clause(record.reason)}; it is tried again in {span(left)}."
        return Explanation(Reason.HELD, sentence, "Nothing: it goes on by itself.")
    sentence = f"{job} is whole and queued{_ago(record.updated_at, now)}; it is sent next."
    step = "Wait: a job whose message is lost is sent again by itself after ten minutes."
    return Explanation(Reason.QUEUED, sentence, step)


def _in_line(record: Record, situation: Situation, before: int) -> Explanation:
    """The job stands in line, with so many before it."""
    more = " or more" if before >= MOST_COUNTED else ""
    place = f"Job {record.job_id} stands in line with {many(before, 'job')}{more} before it"
    turn = situation.turn_after(before)
    if turn is None:
        sentence = f"{place}, and the budget does not pay for so many now."
        return Explanation(Reason.WAITING_BUDGET, sentence, LARGER_BUDGET)
    least = "at least" if more else "about"
    plan = f"the plan's request limit ({situation.limit.requests_per_minute:g} a minute)"
    sentence = f"{place}, within {plan}; its turn comes in {least} {span(turn - situation.now)}."
    step = "Nothing: it goes on by itself. A larger plan makes it sooner."
    return Explanation(Reason.WAITING_LIMIT, sentence, step)


def _paused(record: Record, situation: Situation) -> Explanation:
    """All jobs wait, whatever this one waited for before."""
    breaker = situation.gate.breaker
    sentence = (
        f"Job {record.job_id} waits because submitting is paused for the whole account: {_clause(breaker.reason)}"
    )
    if record.refused_at:
        sentence += "; this job was refused itself, and fails if it is refused again after others were accepted"
    return Explanation(Reason.PAUSED, f"{sentence}.", breaker_step(breaker, situation.now))


def _refused(record: Record, left: float) -> Explanation:
    """This job alone waits: the account is not in doubt."""
    sentence = f"Job {record.job_id} is deferred, and it alone, while others go on: {_clause(record.reason)}."
    step = (
        f"Nothing: it is tried again in {span(left)}, behind the others, and ends as FAILED (Rejected) if it is "
        "refused again after others were accepted, or for a day. If its prompt or an image may be the cause, change "
        "that: it makes a new job."
    )
    return Explanation(Reason.REFUSED, sentence, step)


def _submitting(record: Record, situation: Situation) -> Explanation:
    claim = record.requests[-1] if record.requests else None
    if claim and claim.fate is Fate.UNKNOWN:
        sentence = (
            f"Job {record.job_id} was sent and got no usable response ({_clause(record.reason)}), "
            "and the provider's history is asked whether it arrived."
        )
        return Explanation(Reason.OUTCOME_UNKNOWN, sentence, "Wait a minute or two and ask again.")
    age = situation.now - (claim.sent_at if claim else epoch(record.updated_at))
    if age > situation.submit_timeout_seconds:
        sentence = (
            f"Job {record.job_id} has been on its way to the provider for {span(age)}, longer than a function may run: "
            "the one that sent it died, and whether it arrived is not known yet."
        )
        look = situation.command("sweep", "--older-than", f"{situation.submit_timeout_seconds:g}")
        return Explanation(Reason.STUCK, sentence, f"It is looked up when its message comes back, or now: {look}")
    sentence = f"Job {record.job_id} is still running: it is being sent to the provider, for {span(age)} now."
    return Explanation(Reason.RUNNING, sentence, f"Wait: {situation.command('show', record.job_id)}")


def _submitted(record: Record, situation: Situation) -> Explanation:
    age = situation.now - epoch(record.submitted_at or record.updated_at)
    if age > situation.job_timeout_seconds + LATE:
        sentence = (
            f"Job {record.job_id} was submitted {span(age)} ago and has not been told, longer than a job may take."
        )
        return Explanation(Reason.STUCK, sentence, f"Set it going: {situation.command('sweep')}")
    sentence = (
        f"Job {record.job_id} is still running: it has been with the provider for {span(age)}, "
        f"and a job lately took {span(situation.typical_seconds)}."
    )
    return Explanation(Reason.RUNNING, sentence, f"Wait: {situation.command('show', record.job_id)}")


def _failed(record: Record, situation: Situation) -> Explanation:
    error = record.error or {"type": "InternalError", "message": "no reason was kept"}
    text, retry = _clause(error["message"]), situation.command("retry", record.job_id)
    job = f"Job {record.job_id}"
    if record.cancelled:
        sentence = f"{job} was cancelled{_ago(record.completed_at, situation.now)}, before anything was sent or paid."
        return Explanation(Reason.CANCELLED, sentence, f"Nothing; if it is wanted after all: {retry}")
    match error["type"]:
        case "InvalidInput":
            reason = _bad_input([found["key"] for found in record.inputs.values()], error["message"])
            step = f"Fix the file, then upload it again, or have the folder read again as it is then: {retry}"
            return Explanation(reason, f"{job} was refused before anything was sent: {text}.", step)
        case "Rejected" | "InferenceFailed":
            sentence = f"{job} failed at the provider: {text}."
            return Explanation(
                Reason.FAILED_AT_PROVIDER, sentence, f"Change the prompt or the images, or try as it is: {retry}"
            )
        case "SubmitOutcomeUnknown":
            sentence = f"{job} may have been accepted and billed, but no usable response came: {text}."
            again = situation.command("retry", "--buy-again", record.job_id)
            step = (
                f"Look at the provider's account, then: {retry}. It asks the provider's history first; where that "
                f"cannot say, this pays again all the same: {again}"
            )
            return Explanation(Reason.OUTCOME_UNKNOWN, sentence, step)
        case "TimedOut" | "ResultExpired" | "OutputInvalid":
            sentence = f"{job} brought no usable result: {text}."
            if record.rescuable:
                sentence += " Should its images turn up within seven days, they are delivered by themselves."
            return Explanation(Reason.NO_RESULT, sentence, f"Try again, paid for only if the result is gone: {retry}")
    step = (
        "Nothing was sent: see to the cause, then have the folder read again" if record.failed_unsent else "Try again"
    )
    return Explanation(Reason.INTERNAL, f"{job} ended by a fault of ours: {text}.", f"{step}: {retry}")


def _bad_input(images: Iterable[str], message: str) -> Reason:
    """Which file is bad, by the error's message, which names files by their keys; `images` are the images' keys."""
    if message.startswith("the names of character and pose"):
        return Reason.WRONG_NAME
    if message.endswith("replaced or deleted before the job was sent"):
        return Reason.DELETED
    # What a pose's metadata says is a parameter.
    named = [image for image in images if re.search(rf"{re.escape(image)}: (?!metadata)", message)]
    return Reason.BAD_IMAGE if named else Reason.BAD_JOB_FILE


# ---- a key -----------------------------------------------------------------------------------------------------------


class Explainer:
    """Explains keys and jobs of one stack. Errors of AWS pass as botocore's ClientError."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bucket: UploadBucket = stack.uploads
        self._records = Records(stack)
        self._situation = Situation.of(stack)

    def explain(self, name: str) -> Explanation:
        """Explain a key of the upload bucket (with or without s3://bucket/) or a job id. Raises NotFound."""
        if name.startswith("s3://"):
            bucket, _, key = name.removeprefix("s3://").partition("/")
            if bucket != self._bucket.name:
                sentence = f"{name} is in another bucket: this stack takes uploads from {self._bucket.name}."
                step = self._stack.aws(
                    "s3", "cp", name, f"s3://{self._bucket.name}/{PREFIX}CHARACTER/{PurePosixPath(key).name}"
                )
                return Explanation(Reason.WRONG_BUCKET, sentence, step, key)
            return self.explain_key(key)
        if not name.startswith(PREFIX):
            record = self._stack.record(name)
            if record:
                return explain_record(record, self._situation)
            if name.startswith(waiting_id("", "")[:-1]):
                raise NotFound(f"nothing waits as {name}: it may be a job by now")
            if "." not in name and "/" not in name:
                raise no_job(self._stack, name)
        return self.explain_key(name)

    def explain_key(self, key: str) -> Explanation:
        """Explain a key of the upload bucket."""
        try:
            upload = parse(key)
        except SideFile as why:
            sentence = f"{key} is ignored: it is {why}."
            return Explanation(Reason.SIDE_FILE, sentence, "Nothing: it does not count, whatever it holds.", key)
        except OutsideContract as why:
            return replace(_outside(key, str(why)), key=key)
        if upload.role in (Role.FACE, Role.JOB_FILE):
            found = self._of_all_poses(key, upload)
        else:
            found = self._of_pose(key, upload, upload.pose)
        return replace(found, key=key)

    def _of_all_poses(self, key: str, upload: Upload) -> Explanation:
        """A face or a job file serves all poses of its character."""
        poses = list(self._bucket.poses(upload.character))
        if len(poses) == 1:
            return self._of_pose(key, upload, poses[0])
        files = self._bucket.files(upload.character, "", key)
        own = _entry(files, key)
        if own is None:
            return self._not_chosen(key, upload, "", files)
        if not poses:
            return missing(upload.character, "", [*files.missing], hint(files.missing, files.strangers))
        parts = tuple(self._of_pose(key, upload, pose) for pose in poses)
        reasons = Counter(part.reason for part in parts)
        told = ", ".join(f"{count} {reason.replace('-', ' ')}" for reason, count in reasons.most_common())
        sentence = f"{key} serves {many(len(parts), 'pose')} of {upload.character}: {told}."
        worst = next((part for part in parts if part.reason not in (Reason.DONE, Reason.DUPLICATE)), parts[0])
        reason = parts[0].reason if len(reasons) == 1 else Reason.SEVERAL
        return Explanation(reason, sentence, worst.next_step, parts=parts)

    def _of_pose(self, key: str, upload: Upload, pose: str) -> Explanation:
        files = self._bucket.files(upload.character, pose, key)
        own = _entry(files, key)
        if own is None:
            return self._not_chosen(key, upload, pose, files)
        if files.missing:
            # An image may have been deleted after its job was made.
            made = self._made_of(upload, pose, key, self._version(key))
            if made:
                return explain_record(made, self._situation)
            return missing(upload.character, pose, files.missing, hint(files.missing, files.strangers))
        prompt, prepares = self._stack.parameter("DefaultPrompt"), self._stack.prepares
        try:
            found = draft(self._bucket, upload.character, pose, files, prompt, prepares=prepares)
        except UploadChanged as exc:
            return Explanation(Reason.SETTLING, f"{exc} is being replaced right now.", "Wait a moment and ask again.")
        if upload.role in (Role.FACE, Role.POSE) and found.job.inputs[upload.role].key != key:
            return self._not_chosen(key, upload, pose, files, found.job.inputs[upload.role].key)
        record = self._stack.ledger.get(found.job.job_id)
        if record:
            return self._of_record(record, found, own, upload.role)
        earlier = self._earlier(upload.character, pose, files, found)
        if earlier:
            return self._of_earlier(earlier, key)
        if found.lacks_prompt:
            return missing(upload.character, pose, ["prompt"])
        return self._without_record(key, own, upload, pose, files, found)

    def _of_record(self, record: Record, found: Draft, own: Listed, role: Role) -> Explanation:
        """The content is a known job's; it may have been uploaded again since."""
        told = explain_record(record, self._situation)
        if role in (Role.FACE, Role.POSE):
            again = found.job.inputs[role].version_id != record.inputs[role]["version_id"]
        else:
            again = own.modified.timestamp() > epoch(record.created_at) + 1
        if not again:
            return told
        if told.reason is Reason.DONE:
            ended = _ago(record.completed_at, self._situation.now)
            sentence = (
                f"{own.key} has the same content as job {record.job_id}, which succeeded{ended}: "
                "it is not paid for again."
            )
            step = f"{told.next_step}; for another picture change the prompt or the seed."
            return replace(told, reason=Reason.DUPLICATE, sentence=sentence, next_step=step)
        tried_again_by_itself = not record.requests  # nothing was accepted: the upload makes a new attempt
        failed = (Reason.FAILED_AT_PROVIDER, Reason.NO_RESULT, Reason.OUTCOME_UNKNOWN, Reason.INTERNAL)
        if told.reason in failed and not tried_again_by_itself:
            sentence = (
                f"{told.sentence.removesuffix('.')}; the same content uploaded again is not tried again by itself."
            )
            return replace(told, sentence=sentence)
        return told

    def _earlier(self, character: str, pose: str, files: JobFiles, found: Draft) -> Record | None:
        """The newest job of the very same images, if nothing was uploaded since, so that no event is to be expected."""
        read = {role: image.sha256 for role, image in found.job.inputs.items()}
        newest = max(listed.modified.timestamp() for listed in files.present())
        for record in self._records.of_pose(character, pose):
            same = read == {role: image.get("sha256") for role, image in record.inputs.items()}
            if same and newest <= epoch(record.created_at):
                return record
        return None

    def _of_earlier(self, record: Record, key: str) -> Explanation:
        """The images are a known job's, which had other parameters: DefaultPrompt or a job file is not what it was."""
        told = explain_record(record, self._situation)
        sentence = (
            f"{key} was made a job before the parameters changed (DefaultPrompt, or a job file that was deleted), "
            f"and a change of those makes no job: {told.sentence}"
        )
        step = f"{told.next_step.removesuffix('.')}; uploaded once more it makes a new job, which is paid for."
        return replace(told, reason=Reason.OTHER_PARAMETERS, sentence=sentence, next_step=step)

    def _without_record(
        self, key: str, own: Listed, upload: Upload, pose: str, files: JobFiles, found: Draft
    ) -> Explanation:
        """The files are whole, and no job is known of them: not yet, or never."""
        settle, now = self._stack.seconds("SettleSeconds"), self._situation.now
        younger = unsettled(files, Origin(key, own.etag.strip('"')), settle, now) or own
        left = younger.modified.timestamp() + settle - now
        if left > 0:
            sentence = (
                f"{younger.key} came {span(settle - left)} ago and is left to settle for {span(settle)}, "
                "so that the rest of its folder can arrive."
            )
            return Explanation(Reason.SETTLING, sentence, f"Wait {span(left)} and ask again.")
        if found.error:
            reason = _bad_input([read.key for read in found.job.inputs.values()], str(found.error))
            sentence = f"The upload is refused as soon as it is handled: {_clause(str(found.error))}."
            return Explanation(reason, sentence, "Upload the corrected file: that makes a new job.")
        waiting = self._stack.ledger.get(waiting_id(upload.character, pose))
        if waiting and waiting.errors:
            return explain_record(waiting, self._situation)
        problem = elsewhere(self._stack) or no_events(self._stack)
        if problem:
            return Explanation(Reason.NO_EVENTS, f"No event of {key} came: {problem.what}.", problem.next_step)
        ahead = depth(self._stack, self._stack.output("UploadQueueUrl"))
        if ahead or left > -PROBABLY_LOST:
            sentence = f"{key} is whole and in the upload queue, with {many(ahead, 'message')} there now."
            return Explanation(Reason.QUEUED, sentence, "Wait a moment and ask again.")
        dead = depth(self._stack, self._stack.output("DeadLetterQueueUrl"))
        if dead:
            sentence = f"No job was made of {key}, and {many(dead, 'message')} in the dead-letter queue may be its."
            return Explanation(Reason.NOT_SEEN, sentence, self._stack.command("redrive"))
        days = self._stack.seconds("RecordRetentionDays")
        if days and -left > days * DAY:
            results = f"s3://{self._stack.output('OutputBucketName')}/outputs/{upload.character}/{pose}/"
            sentence = (
                f"{key} is whole, and no job of it is known: its record may have expired (RecordRetentionDays is "
                f"{days:g}), or no event of it has come."
            )
            look = self._stack.aws("s3", "ls", "--recursive", results)
            step = f"Look for its result first, since uploaded once more it is paid for: {look}"
            return Explanation(Reason.EXPIRED, sentence, step)
        sentence = f"{key} is whole, but no event of it has come: it may be older than the stack."
        return Explanation(Reason.NOT_SEEN, sentence, "Upload it once more.")

    # ---- what is not there, or does not count ------------------------------------------------------------------------

    def _not_chosen(self, key: str, upload: Upload, pose: str, files: JobFiles, picture: str = "") -> Explanation:
        """The key is not among the files of its job: another `picture` counts, or it is gone, or never was."""
        version = self._version(key)
        made = self._made_of(upload, pose, key, version)
        if made:
            return explain_record(made, self._situation)
        if version is not None and picture:
            sentence = f"{key} does not count: {picture} is the newest picture of that name."
            step = f"Nothing, if it goes with the picture. If it is the one that is meant, delete {picture}."
            return Explanation(Reason.SUPERSEDED, sentence, step)
        if version is not None and upload.role in (Role.JOB_FILE, Role.POSE_FILE):
            chosen = files.job_file if upload.role is Role.JOB_FILE else files.pose_file
            if chosen:
                sentence = f"{key} does not count: {chosen.key} is the same file in another spelling, and newer."
                return Explanation(Reason.SUPERSEDED, sentence, "Delete the one that is not meant.")
        deleted = self._deleted_at(key)
        if deleted is not None:
            when = span(self._situation.now - deleted)
            sentence = f"{key} was deleted {when} ago, before any job was made of it."
            return Explanation(Reason.DELETED, sentence, "Upload it again if that was not meant.")
        near = difflib.get_close_matches(key, self._neighbours(upload), n=1)
        sentence = f"{key} was never uploaded to {self._bucket.name}, and no job was made of it."
        copy = self._stack.aws("s3", "cp", "FILE", f"s3://{self._bucket.name}/{key}")
        step = f"Did you mean {near[0]}?" if near else copy
        return Explanation(Reason.NOT_UPLOADED, sentence, step)

    def _version(self, key: str) -> str | None:
        """The version of a key that is there, "null" without versioning; None if there is none."""
        try:
            answer = self._stack.client("s3").head_object(Bucket=self._bucket.name, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in GONE:
                return None
            raise
        return str(answer.get("VersionId") or "null")

    def _made_of(self, upload: Upload, pose: str, key: str, version: str | None) -> Record | None:
        """The newest job that an image was read for; of a file that is there, of this version."""
        if upload.role not in (Role.FACE, Role.POSE):
            return None
        for record in self._records.of_pose(upload.character, pose):
            read = record.inputs.get(upload.role, {})
            if read.get("key") == key and version in (None, read.get("version_id") or "null"):
                return record
        return None

    def _deleted_at(self, key: str) -> float | None:
        answer = self._stack.client("s3").list_object_versions(Bucket=self._bucket.name, Prefix=key, MaxKeys=100)
        marks: list[Mapping[str, Any]] = [mark for mark in answer.get("DeleteMarkers", []) if mark["Key"] == key]
        return max((mark["LastModified"].timestamp() for mark in marks), default=None)

    def _neighbours(self, upload: Upload) -> list[str]:
        prefix = f"{PREFIX}{upload.character[:1]}"
        answer = self._stack.client("s3").list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, MaxKeys=NEIGHBOURS)
        return [str(entry["Key"]) for entry in answer.get("Contents", [])]


def _outside(key: str, why: str) -> Explanation:
    if not key.startswith(PREFIX):
        sentence = f"{key} is ignored: it is {why}, which is where the stack looks."
        step = f"Upload it below {PREFIX}, as {PREFIX}<character>/face.png or {PREFIX}<character>/poses/<pose>.png."
        return Explanation(Reason.WRONG_PREFIX, sentence, step)
    names = f"face.png, {SINGLE_POSE}.png, poses/<pose>.png, {JOB_FILE} or poses/<pose>.json"
    return Explanation(Reason.WRONG_NAME, f"{key} is ignored: {why}.", f"Name it {names}, below {PREFIX}<character>/.")


def _entry(files: JobFiles, key: str) -> Listed | None:
    return next((found for found in files.present() if found.key == key), None)


def _ago(time: str | None, now: float) -> str:
    return f" {span(now - epoch(time))} ago" if time else ""


def _clause(text: str | None) -> str:
    """A text of others as part of a sentence."""
    return " ".join((text or "no reason was kept").split()).rstrip(".")
