"""The result of explaining: a reason for programs, a sentence and the next step for people."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The state of an upload or job, or why it made no result."""

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
    DEFERRED = "deferred"
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
    """The reason in one sentence, and the next step. `parts`: one for each pose, if a file serves several."""

    reason: Reason
    sentence: str
    next_step: str
    key: str | None = None
    job_id: str | None = None
    parts: tuple["Explanation", ...] = ()
