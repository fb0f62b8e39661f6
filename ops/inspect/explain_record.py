"""Explain from its record why a job waits or failed, in one sentence with the next step."""

from dataclasses import replace

from ops.formatting import many, span
from ops.inspect.explanation import Explanation, Reason
from ops.inspect.health import LARGER_BUDGET, breaker_step
from ops.inspect.situation import MOST_COUNTED, Situation
from posedrop.aws.places import IN_LINE
from posedrop.aws.record import AnyRecord, Record, Status, WaitingRecord
from posedrop.contract.reasons import BUDGETS, InputFault, ReasonCode
from posedrop.contract.upload_layout import Folder, UploadLayout
from posedrop.segmind.requests import RequestStatus

LATE = 120.0
"""Seconds after JobTimeoutSeconds within which a job is normally notified."""


def explain_record(record: AnyRecord, situation: Situation) -> Explanation:
    """Explain the state of a job or of waiting uploads. The only thing it reads is a job's place in line."""
    match record.status:
        case Status.WAITING:
            found = _waiting(record, situation.layout)
        case Status.QUEUED:
            found = _queued(record, situation)
        case Status.SUBMITTING:
            found = _submitting(record, situation)
        case Status.SUBMITTED:
            found = _submitted(record, situation)
        case Status.SUCCEEDED:
            images = ", ".join(output["uri"] for output in record.outputs) or "in the output bucket"
            ended = ago(record.completed_at, situation.now)
            found = Explanation(Reason.DONE, f"{_job(record, situation)} succeeded{ended}.", f"Its images: {images}")
        case Status.FAILED:
            found = _failed(record, situation)
    return replace(found, job_id=record.job_id)


def _waiting(waiting: WaitingRecord, layout: UploadLayout) -> Explanation:
    if waiting.errors:
        text = f"Handling the upload failed {many(waiting.errors, 'time')}: {clause(waiting.reason)}."
        return Explanation(Reason.INTERNAL, text, "Nothing: the stack tries again. The log of intake has the error.")
    return missing(layout.folder(waiting.character), waiting.pose, waiting.missing, waiting.reason)


def missing(folder: Folder, pose: str, what: list[str], hints: str | None = None) -> Explanation:
    """Explain what uploads wait for ("face", "pose" or "prompt"), and which files were perhaps meant."""
    found = _missing(folder, pose, what)
    return replace(found, sentence=f"{found.sentence.removesuffix('.')}; {clause(hints)}.") if hints else found


def _missing(folder: Folder, pose: str, what: list[str]) -> Explanation:
    character = folder.character
    if "prompt" in what:
        sentence = f"The pose {pose} of {character} waits for a prompt: no job file, metadata or DefaultPrompt has one."
        put = f'{{"prompt": "..."}} as {folder.job_file}, or, for this pose only, as {folder.pose_file(pose)}'
        return Explanation(Reason.NO_PROMPT, sentence, f"Upload {put}.")
    any_picture = "with its own extension (.jpg, .heic, .png, ...)"
    if "pose" in what:
        subject = f"{pose} of {character}" if pose else character
        also = " and for a face" if "face" in what else ""
        sentence = f"The files of {subject} wait for a pose{also}: there is no picture for them."
        name = folder.pose(pose or "<pose>")
        return Explanation(Reason.MISSING_POSE, sentence, f"Upload the pose as {name} {any_picture}.")
    sentence = f"The pose {pose} of {character} waits for a face: {folder.prefix} has none."
    return Explanation(Reason.MISSING_FACE, sentence, f"Upload the face as {folder.face} {any_picture}.")


OWN_DEFERRALS: dict[str | None, tuple[str, str]] = {
    ReasonCode.SERVER_FAULT: (
        "the provider may have the request, so its history is searched in {when} before the job is sent again",
        "Nothing: the job continues by itself. It fails after several such responses, or after a day of them.",
    ),
    ReasonCode.EARLIER_REQUEST: (
        "the provider's history is searched again in {when}, and nothing is paid before the outcome is known",
        "Nothing: the job continues by itself.",
    ),
    ReasonCode.UNAVAILABLE: ("the next try is in {when}", "Nothing: the job continues by itself."),
    ReasonCode.AWS: ("the next try is in {when}", "Nothing: the job continues by itself."),
}
"""The codes of single deferred jobs: what happens next, and what to do."""


def _queued(record: Record, situation: Situation) -> Explanation:
    job, now = _job(record, situation), situation.now
    left = record.deferred_until - now if record.deferred_until else 0.0
    # Searching the history is no new request, so the breaker does not stop it.
    if situation.gate.breaker.is_open and not (left > 0 and record.reason_code == ReasonCode.EARLIER_REQUEST):
        return _paused(record, situation)
    if left > 0 and record.reason_code == ReasonCode.REFUSED:
        return _refused(record, left, situation)
    if left > 0 and record.reason_code in OWN_DEFERRALS:
        happens, step = OWN_DEFERRALS[record.reason_code]
        sentence = f"{job} is deferred: {clause(record.reason)}; {happens.format(when=span(left))}."
        return Explanation(Reason.DEFERRED, sentence, step)
    if closed := situation.opening.closed:
        money = closed.code in BUDGETS
        sentence = (
            f"{job} waits: {clause(closed.reason)}; it continues in about {span(closed.until - now)} at the earliest."
        )
        step = LARGER_BUDGET if money else "Nothing: the job continues by itself."
        return Explanation(Reason.WAITING_BUDGET if money else Reason.WAITING_LIMIT, sentence, step)
    if record.stands == IN_LINE and record.place:
        return _in_line(record, situation, situation.before(record.place))
    if record.send_at and record.send_at > now:
        wait = span(record.send_at - now)
        sentence = f"{job} has a reserved time within the plan's request limit and is sent in {wait}."
        return Explanation(Reason.WAITING_LIMIT, sentence, "Nothing: the job continues by itself.")
    if record.reason and left > 0:
        sentence = f"{job} is deferred: {clause(record.reason)}; the next try is in {span(left)}."
        return Explanation(Reason.DEFERRED, sentence, "Nothing: the job continues by itself.")
    sentence = f"{job} is complete and queued{ago(record.updated_at, now)}; it is sent next."
    step = "Wait: if its message is lost, the job is sent again after ten minutes."
    return Explanation(Reason.QUEUED, sentence, step)


def _in_line(record: Record, situation: Situation, before: int) -> Explanation:
    """Explain a job in line, with `before` jobs before it."""
    more = " or more" if before >= MOST_COUNTED else ""
    place = f"{_job(record, situation)} is in line with {many(before, 'job')}{more} before it"
    send_at = situation.send_time_after(before)
    if send_at is None:
        sentence = f"{place}, and the budget does not pay for so many now."
        return Explanation(Reason.WAITING_BUDGET, sentence, LARGER_BUDGET)
    least = "at least" if more else "about"
    plan = f"the plan's request limit ({situation.limit.requests_per_minute:g} a minute)"
    sentence = f"{place}, within {plan}; it will be sent in {least} {span(send_at - situation.now)}."
    step = "Nothing: the job continues by itself. A larger plan is faster."
    return Explanation(Reason.WAITING_LIMIT, sentence, step)


def _paused(record: Record, situation: Situation) -> Explanation:
    """Explain a pause of all jobs, whatever this job waited for before."""
    breaker = situation.gate.breaker
    sentence = (
        f"{_job(record, situation)} waits because submitting is paused for the whole account: {clause(breaker.reason)}"
    )
    if record.refused_at:
        sentence += "; this job itself was refused, and fails if it is refused again after others were accepted"
    return Explanation(Reason.PAUSED, f"{sentence}.", breaker_step(breaker, situation.now))


def _refused(record: Record, left: float, situation: Situation) -> Explanation:
    """Explain a refusal of this job only: the account is not in doubt."""
    sentence = f"{_job(record, situation)} is deferred, the other jobs continue: {clause(record.reason)}."
    step = (
        f"Nothing: the next try is in {span(left)}, behind the others. The job fails (Rejected) if it is refused again "
        "after others were accepted, or for a day. If its prompt or an image may be the cause, change it: that makes a "
        "new job."
    )
    return Explanation(Reason.REFUSED, sentence, step)


def _submitting(record: Record, situation: Situation) -> Explanation:
    claim = record.requests[-1] if record.requests else None
    if claim and claim.status is RequestStatus.UNKNOWN:
        sentence = (
            f"{_job(record, situation)} was sent and got no usable response ({clause(record.reason)}), "
            "and the provider's history is being searched for it."
        )
        return Explanation(Reason.OUTCOME_UNKNOWN, sentence, "Wait a minute or two and ask again.")
    age = situation.now - (claim.sent_at if claim else record.updated_at)
    if age > situation.submit_timeout_seconds:
        sentence = (
            f"{_job(record, situation)} was claimed {span(age)} ago, longer than a function may run. The function that "
            "sent it has died, and it is not known yet whether the request arrived."
        )
        command = situation.command("sweep", "--older-than", f"{situation.submit_timeout_seconds:g}")
        step = f"The history is searched when the message is redelivered; or now: {command}"
        return Explanation(Reason.STUCK, sentence, step)
    sentence = f"{_job(record, situation)} is being sent to the provider; it was claimed {span(age)} ago."
    return Explanation(Reason.RUNNING, sentence, f"Wait: {situation.command('show', record.job_id)}")


def _submitted(record: Record, situation: Situation) -> Explanation:
    age = situation.now - (record.submitted_at or record.updated_at)
    if age > situation.job_timeout_seconds + LATE:
        sentence = (
            f"{_job(record, situation)} was submitted {span(age)} ago and has not been notified, "
            "longer than a job may take."
        )
        return Explanation(Reason.STUCK, sentence, f"Resume it: {situation.command('sweep')}")
    sentence = (
        f"{_job(record, situation)} is still running: it has been with the provider for {span(age)}; "
        f"recent jobs took {span(situation.typical_seconds)}."
    )
    return Explanation(Reason.RUNNING, sentence, f"Wait: {situation.command('show', record.job_id)}")


def _failed(record: Record, situation: Situation) -> Explanation:
    error = record.error or {"type": "InternalError", "message": "no reason was recorded"}
    text, retry = clause(error["message"]), situation.command("retry", record.job_id)
    job = _job(record, situation)
    if record.cancelled:
        sentence = f"{job} was cancelled{ago(record.completed_at, situation.now)}, before anything was sent or paid."
        return Explanation(Reason.CANCELLED, sentence, f"Nothing; to run it after all: {retry}")
    match error["type"]:
        case "InvalidInput":
            reason = bad_input(error.get("code"))
            step = f"Fix the file and upload it again, or let the stack read the fixed folder again: {retry}"
            return Explanation(reason, f"{job} was refused before anything was sent: {text}.", step)
        case "Rejected" | "InferenceFailed":
            sentence = f"{job} failed at the provider: {text}."
            return Explanation(
                Reason.FAILED_AT_PROVIDER, sentence, f"Change the prompt or the images, or retry unchanged: {retry}"
            )
        case "SubmitOutcomeUnknown":
            sentence = f"{job} may have been accepted and billed, but no usable response came: {text}."
            again = situation.command("retry", "--buy-again", record.job_id)
            step = (
                f"Check the provider's account, then: {retry}. It searches the provider's history first. If the "
                f"history cannot say, this pays again in any case: {again}"
            )
            return Explanation(Reason.OUTCOME_UNKNOWN, sentence, step)
        case "TimedOut" | "ResultExpired" | "OutputInvalid":
            sentence = f"{job} returned no usable result: {text}."
            if record.rescuable:
                sentence += " If its images are found within seven days, they are delivered by themselves."
            return Explanation(Reason.NO_RESULT, sentence, f"Retry; it is paid for only if the result is gone: {retry}")
    step = "Nothing was sent: fix the cause, then let the folder be read again" if record.failed_unsent else "Retry"
    return Explanation(Reason.INTERNAL, f"{job} ended because of an error of the stack: {text}.", f"{step}: {retry}")


BAD_INPUTS: dict[str | None, Reason] = {
    InputFault.NAME: Reason.WRONG_NAME,
    InputFault.GONE: Reason.DELETED,
    InputFault.IMAGE: Reason.BAD_IMAGE,
}


def bad_input(code: str | None) -> Reason:
    """Return the reason for bad input, from the code of the error."""
    return BAD_INPUTS.get(code, Reason.BAD_JOB_FILE)


def _job(record: Record, situation: Situation) -> str:
    """Return the beginning of a sentence about a job."""
    return situation.subject or f"Job {record.job_id}"


def ago(time: float | None, now: float) -> str:
    """Return ` 3 min ago`, or an empty text if the time is unknown."""
    return f" {span(now - time)} ago" if time else ""


def clause(text: str | None) -> str:
    """Return a text from elsewhere as part of a sentence: on one line, without its full stop."""
    return " ".join((text or "no reason was recorded").split()).rstrip(".")
