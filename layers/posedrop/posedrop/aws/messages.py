"""The messages on the upload queue and the submit queue."""

import json
from dataclasses import dataclass
from typing import Any

from posedrop.contract.job import JOB_ID, is_waiting_id
from posedrop.contract.times import epoch, rfc3339


class UnreadableMessage(ValueError):
    """The message cannot be handled, now or later. The text says why."""


@dataclass(frozen=True)
class SourceUpload:
    """The upload that caused a message. It counts as settled when its own event is handled."""

    key: str
    etag: str


@dataclass(frozen=True)
class UploadMessage:
    """An upload event of EventBridge. `done_at` is when the upload ended, in whole seconds since the epoch."""

    bucket: str
    upload: SourceUpload
    done_at: float | None = None


@dataclass(frozen=True)
class PoseMessage:
    """Check one pose of a character, or all of its poses if `pose` is empty, after a face or a job file was uploaded.

    upload: the uploaded file, or None. The other two are used if `pose` is empty. done_at: when that upload ended
    (seconds since the epoch), or None if it is unknown. after: the listing of the poses continues after this key.
    """

    bucket: str
    character: str
    pose: str
    upload: SourceUpload | None
    done_at: float | None = None
    after: str = ""

    def to_json(self) -> str:
        """Return the message's body."""
        upload = {"key": self.upload.key, "etag": self.upload.etag} if self.upload else None
        body: dict[str, Any] = {"bucket": self.bucket, "character": self.character, "pose": self.pose, "upload": upload}
        if self.after:
            body |= {"done_at": rfc3339(self.done_at) if self.done_at else None, "after": self.after}
        return json.dumps({"job": body})


@dataclass(frozen=True)
class SubmitMessage:
    """Send a dispatched job. With number 0: resume a job that was claimed.

    number: the job's dispatch number. The message is void if the record has another number. probe: the breaker is open,
    and this job tests whether the provider accepts requests again.
    """

    job_id: str
    number: int = 0
    probe: bool = False

    def to_json(self) -> str:
        """Return the message's body."""
        body = {"submit": self.job_id, "number": self.number, "probe": self.probe}
        return json.dumps({key: value for key, value in body.items() if value})


@dataclass(frozen=True)
class RetryMessage:
    """Begin a new attempt of a failed job.

    buy_again: pay again even if an earlier request may have been accepted and the provider's history cannot show it.
    """

    job_id: str
    buy_again: bool = False

    def to_json(self) -> str:
        """Return the message's body."""
        return json.dumps({"retry": self.job_id, **({"buy_again": True} if self.buy_again else {})})


@dataclass(frozen=True)
class CancelMessage:
    """Cancel a job that was not sent. Uploads that are not a job yet have an id that begins with `waiting/`.

    attempt: the attempt to cancel. A later attempt is not cancelled.
    """

    job_id: str
    attempt: int = 1

    def to_json(self) -> str:
        """Return the message's body."""
        return json.dumps({"cancel": self.job_id, "attempt": self.attempt})


Message = UploadMessage | PoseMessage | SubmitMessage | RetryMessage | CancelMessage


def parse_message(body: str) -> Message:
    """Parse the body of a message. Raises UnreadableMessage."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise UnreadableMessage(f"not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise UnreadableMessage("not a JSON object")
    try:
        if "detail" in content:
            return _upload(content)
        if "job" in content:
            return _pose(content["job"])
        if "submit" in content:
            number = _number(content.get("number", 0))
            return SubmitMessage(_job_id(content["submit"]), number, content.get("probe") is True)
        if "retry" in content:
            return RetryMessage(_job_id(content["retry"]), _flag(content.get("buy_again", False)))
        if "cancel" in content:
            waiting = is_waiting_id(str(content["cancel"]))
            job_id = _text(content["cancel"]) if waiting else _job_id(content["cancel"])
            return CancelMessage(job_id, _number(content["attempt"]))
    except (KeyError, TypeError, AttributeError) as exc:
        raise UnreadableMessage(f"a field is missing or of the wrong type: {exc}") from exc
    raise UnreadableMessage("none of: an upload event, job, submit, retry, cancel")


def _upload(event: dict[str, Any]) -> UploadMessage:
    if event["detail-type"] != "Object Created":
        raise UnreadableMessage(f"an event of another kind: {event['detail-type']!a}")
    # Do not decode the key: EventBridge does not encode it, unlike S3's own notifications.
    found = event["detail"]["object"]
    bucket = _text(event["detail"]["bucket"]["name"])
    return UploadMessage(bucket, SourceUpload(_text(found["key"]), found.get("etag", "")), _time(event.get("time")))


def _time(value: object) -> float | None:
    try:
        return epoch(str(value))
    except ValueError:
        return None


def _pose(job: dict[str, Any]) -> PoseMessage:
    upload, after = job.get("upload"), job.get("after", "")
    return PoseMessage(
        _text(job["bucket"]),
        _text(job["character"]),
        _text(job["pose"]) if job["pose"] != "" else "",
        SourceUpload(_text(upload["key"]), str(upload["etag"])) if upload else None,
        _time(job.get("done_at")),
        _text(after) if after != "" else "",
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {value!a}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {type(value).__name__}")
    return value


def _job_id(value: object) -> str:
    if not JOB_ID.fullmatch(_text(value)):
        raise UnreadableMessage("not the id of a job")
    return str(value)
