"""The notification, typed, for programs that receive it. Copy this file: it needs Python 3.11 and nothing else.

`parse` takes what an SQS message, an SNS record or an EventBridge event brings, and returns the notification. The
contract is events/schemas/notification.schema.json; a test holds the types here against it.
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
    """What was sent in the place of an upload, in the output bucket. It expires 30 days after it was made."""

    key: str
    sha256: str
    what: list[Literal["turned", "converted", "reduced", "cleaned"]]


class Input(TypedDict):
    """One image as it was read. `sha256` is in hexadecimal; None of a file that was too large to read.

    `prepared` is None where the upload itself was sent.
    """

    bucket: str
    key: str
    version_id: str | None
    sha256: str | None
    prepared: Prepared | None


class Inputs(TypedDict):
    """The two images; None where one is not there."""

    face: Input | None
    pose: Input | None


class Output(TypedDict):
    """One image that was made. `bytes`, `width` and `height` are what the stored file has.

    `url` shows it for a limited time to whoever has it; None where the stack has no ResultLinkSeconds.
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
    """Why there is no image; `message` is for people."""

    type: ErrorType
    message: str


class Metrics(TypedDict):
    """Seconds, the number of status requests, and the price in USD: 0 if nothing was sent, None where it is unknown.

    `rescued`: the images were fetched by way of the provider's history, because the result itself was gone.
    """

    inference_seconds: float | None
    total_seconds: float | None
    polls: int | None
    cost_usd: float | None
    rescued: bool | None


class Notification(TypedDict):
    """The end of one attempt of a job, or uploads that wait for too long. (job_id, attempt) identifies it.

    Times are RFC 3339, UTC. The job id of an INCOMPLETE is `waiting/<character>/<pose>`: no job yet.
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
    """Return the notification in the body of a queue's message, a function's SNS record or an EventBridge event.

    `received` is JSON, or what it says. Raises ValueError if there is no notification of version 1 in it.
    """
    found: Any = json.loads(received) if isinstance(received, str) else received
    for envelope in ("Sns", "Message", "detail"):
        if isinstance(found, Mapping) and envelope in found:
            inner = found[envelope]
            found = json.loads(inner) if isinstance(inner, str) else inner
    if not isinstance(found, Mapping) or found.get("version") != "1" or "job_id" not in found:
        raise ValueError("no notification of version 1")
    return found  # type: ignore[return-value]  # what the stack publishes is as its schema says
