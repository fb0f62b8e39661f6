"""Remove from the queues what is about a character. What is about others is given back at once."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.act.actions import EVENT_QUEUE
from ops.stack import Stack
from posedrop.aws.messages import (
    WAITING,
    CancelMessage,
    PoseMessage,
    RetryMessage,
    SubmitMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)
from posedrop.contract.job import JOB_ID
from posedrop.contract.upload_layout import UploadLayout, is_poses_folder, normal

QUEUES = ("UploadQueueUrl", "SubmitQueueUrl", "DeadLetterQueueUrl")
WAIT_SECONDS = 1
"""A receive that waits asks all servers of a queue; one that does not may find nothing though there is something."""
LEAST_HIDDEN, MOST_HIDDEN = 30, 900
"""Seconds for which messages are hidden while a queue is gone through."""
A_SECOND = 200
"""Messages that are gone through in a second, at least."""
MOST_GIVEN_BACK = 100_000
"""Messages of others that are given back before SQS redelivers them."""
_IDS = re.compile(JOB_ID.pattern)


@dataclass(frozen=True)
class About:
    """Says whether a message is about a character; `is_job` says it of the id of a job."""

    character: str
    layout: UploadLayout
    is_job: Callable[[str], bool]

    def __call__(self, body: str) -> bool:
        """Whether a message is about this character."""
        try:
            message = parse_message(body)
        except UnreadableMessage:
            return self._mentions(body)
        match message:
            case UploadMessage():
                return folder_of(message.upload.key, self.layout) == self.character
            case PoseMessage():
                return message.character == self.character
            case SubmitMessage() | RetryMessage() | CancelMessage():
                return self._is_id(message.job_id)
        return False

    def _is_id(self, job_id: str) -> bool:
        if job_id.startswith(WAITING):
            return job_id.removeprefix(WAITING).rpartition("/")[0] == self.character
        return self.is_job(job_id)

    def _mentions(self, body: str) -> bool:
        """Whether a message that is none of the pipeline's, as an event that was not delivered, names a job."""
        return any(self.is_job(found) for found in _IDS.findall(body)) or _character_in(body) == self.character


@dataclass
class Purged:
    """Messages that were removed, and those that nobody can see now: they are delayed or being handled."""

    removed: int = 0
    unseen: int = 0


def purge(stack: Stack, about: Callable[[str], bool]) -> Purged:
    """Remove all messages about something from all queues of a stack. Errors of SQS pass as botocore's ClientError.

    A message that is delayed or being handled cannot be received: those are counted, whatever they are about.
    """
    urls = [stack.output(name) for name in QUEUES]
    events = stack.resource(EVENT_QUEUE)
    found = Purged()
    for url in [*urls, *([events] if events else [])]:
        found.removed += _purge(stack.client("sqs"), url, about)
        found.unseen += sum(_counts(stack.client("sqs"), url)[1:])
    return found


def _purge(sqs: Any, url: str, about: Callable[[str], bool]) -> int:
    count = sum(_counts(sqs, url))
    hidden = min(LEAST_HIDDEN + count // A_SECOND, MOST_HIDDEN)
    seen: set[str] = set()
    removed, others = 0, list[str]()
    while True:
        answer = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=hidden, WaitTimeSeconds=WAIT_SECONDS
        )
        messages = answer.get("Messages", [])
        new = [message for message in messages if message["MessageId"] not in seen]
        if not new or len(seen) > 2 * count + MOST_GIVEN_BACK:
            break
        seen |= {message["MessageId"] for message in new}
        for message in messages:
            if about(message["Body"]):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                removed += 1
            elif len(others) < MOST_GIVEN_BACK:
                others.append(message["ReceiptHandle"])
    for start in range(0, len(others), 10):
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for number, handle in enumerate(others[start : start + 10])
        ]
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    return removed


def _counts(sqs: Any, url: str) -> list[int]:
    """How many messages a queue holds, about: to be received, being handled, delayed."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(attributes.get(name, 0)) for name in names]


def _character_in(body: str) -> str | None:
    """The character that an event of the pipeline's own names, as the input of an execution does."""
    try:
        event = json.loads(body)
        given = json.loads(event["detail"]["input"])
        return str(given["character"])
    except (ValueError, KeyError, TypeError):
        return None


def folder_of(key: str, layout: UploadLayout) -> str:
    """The character in whose folder a key lies, of the contract or not; empty where it is nobody's. Pure."""
    if not layout.covers(key):
        return ""
    *folders, _ = normal(layout.below(key)).split("/")
    poses = next((number for number, folder in enumerate(folders) if is_poses_folder(folder)), len(folders))
    return "/".join(folder for folder in folders[:poses] if folder not in ("", "."))
