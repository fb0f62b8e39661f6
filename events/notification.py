"""Types of the notification, for programs that receive it. You may copy this file. It needs only Python 3.11.

`parse` returns the notification in an SQS message, an SNS record or an EventBridge event. The contract is
events/schemas/notification.schema.json. A test compares the types here with it.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Status = Literal["SUCCEEDED", "FAILED", "INCOMPLETE"]
ErrorType = Literal[
    "InvalidInput",
    "Rejected",
    "InferenceFailed",
    "TimedOut",
    "ResultExpired",
    "OutputInvalid",
    "SubmitOutcomeUnknown",
    "InternalError",
    "Incomplete",
]
CONTENT_TYPES = Literal["image/png", "image/jpeg", "image/webp"]


class Prepared(TypedDict):
    """The prepared picture in the output bucket that was sent instead of an upload. It is deleted after 30 days."""

    key: str
    sha256: str
    what: list[Literal["turned", "converted", "reduced", "cleaned"]]


class Input(TypedDict):
    """One image file, in the version that was read. `sha256` is in hex, or None if the file was too large to read.

    `prepared` is None if the upload itself was sent.
    """

    bucket: str
    key: str
    version_id: str | None
    sha256: str | None
    prepared: Prepared | None


class Inputs(TypedDict):
    """The two images. A missing one is None."""

    face: Input | None
    pose: Input | None


class Output(TypedDict):
    """One image that was made. `bytes`, `width` and `height` are those of the stored file.

    `url` is a presigned URL, with which anybody can open the image for a limited time. It is None if the stack has no
    ResultLinkSeconds.
    """

    bucket: str
    key: str
    uri: str
    url: str | None
    content_type: CONTENT_TYPES
    bytes: int
    sha256: str
    width: int
    height: int


class Error(TypedDict):
    """Why there is no image. `message` is for people."""

    type: ErrorType
    message: str


class Metrics(TypedDict):
    """Durations in seconds, the number of polls, and the cost in USD: 0 if nothing was sent, None if it is unknown.

    `rescued`: the images were fetched through the provider's history, because the result was gone.
    """

    inference_seconds: float | None
    total_seconds: float | None
    polls: int | None
    cost_usd: float | None
    rescued: bool | None


class Notification(TypedDict):
    """The end of one attempt of a job, or uploads that have waited too long. (job_id, attempt) identifies it.

    Times are RFC 3339 in UTC. For INCOMPLETE, the job id is `waiting/<character>/<pose>`, because there is no job yet.
    """

    version: Literal["1"]
    job_id: str
    attempt: int
    status: Status
    character: str
    pose: str | None
    request_id: str | None
    inputs: Inputs
    parameters: dict[str, Any] | None
    outputs: list[Output]
    error: Error | None
    metrics: Metrics
    context: dict[str, Any] | None
    submitted_at: str | None
    completed_at: str | None


def parse(received: str | Mapping[str, Any]) -> Notification:
    """Return the notification in the body of an SQS message, in an SNS record or in an EventBridge event.

    `received` is JSON or the parsed value. Raises ValueError if it has no notification of version 1.
    """
    found: Any = json.loads(received) if isinstance(received, str) else received
    for envelope in ("Sns", "Message", "detail"):
        if isinstance(found, Mapping) and envelope in found:
            inner = found[envelope]
            found = json.loads(inner) if isinstance(inner, str) else inner
    if not isinstance(found, Mapping) or found.get("version") != "1" or "job_id" not in found:
        raise ValueError("no notification of version 1")
    return found  # type: ignore[return-value]  # what the stack publishes follows the schema
