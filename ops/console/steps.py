"""Say the next step for a job as the page does: it names buttons, where the command line names commands."""

from ops.inspect.explanation import Explanation, Reason
from posedrop.aws.record import AnyRecord, Status

BAD_INPUTS = (Reason.BAD_IMAGE, Reason.BAD_JOB_FILE, Reason.WRONG_NAME, Reason.DELETED)
FAILED: dict[Reason, str] = {
    Reason.CANCELLED: "Retry runs it after all.",
    **dict.fromkeys(BAD_INPUTS, "Fix the file and upload it again. Retry reads the folder again."),
    Reason.FAILED_AT_PROVIDER: (
        "Retry sends it again unchanged. Edit and send again lets you change the prompt or the pictures first."
    ),
    Reason.OUTCOME_UNKNOWN: (
        "Check the provider's account first. Retry searches the provider's history, and asks you before it pays again."
    ),
    Reason.NO_RESULT: "Retry fetches the result if the provider still has it. Only if it is gone is it paid for again.",
    Reason.INTERNAL: "Retry begins a new attempt.",
}
"""The next step for a failed job, which has the buttons Retry and Edit and send again."""
INCOMPLETE = (Reason.MISSING_FACE, Reason.MISSING_POSE, Reason.NO_PROMPT)
FIX_FIRST = "Nothing was sent. Fix the cause, then Retry reads the folder again."


def step_of(record: AnyRecord, explanation: Explanation) -> str:
    """Return the next step for a job, without a command where the page has a button."""
    if explanation.reason is Reason.RUNNING:
        return "Nothing: the job continues by itself."
    if explanation.reason in INCOMPLETE:
        return f"{explanation.next_step} Or add it here with Edit and send again."
    if record.status is not Status.FAILED:
        return explanation.next_step
    if explanation.reason is Reason.INTERNAL and record.failed_unsent:
        return FIX_FIRST
    return FAILED.get(explanation.reason, explanation.next_step)
