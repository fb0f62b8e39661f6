"""Make the notification of a job's end, and publish it to SNS."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.aws.record import Record, WaitingRecord
from posedrop.contract.notification import Notification
from posedrop.contract.times import rfc3339
from posedrop.contract.upload_layout import slug
from posedrop.segmind.responses import cut

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

logger = Logger(child=True)

SUBJECT_LIMIT = 99
"""SNS accepts subjects in ASCII with fewer than 100 characters (API reference, Publish)."""
SIZE_LIMIT = 256 * 1024
"""The most bytes of a message with its attributes (SNS developer guide, message attributes; API reference, Publish)."""
SHORT_TEXT = 1024
"""The bytes to which each text of a too large message is cut, and the prompt in an e-mail."""
INPUTS = ("face", "pose")
OUTPUT = ("bucket", "key", "uri", "url", "content_type", "bytes", "sha256", "width", "height")
METRICS = ("inference_seconds", "total_seconds", "polls", "cost_usd", "rescued")


def notification(record: Record) -> Notification:
    """Return the notification of a job that has ended. Unknown values are None."""
    failed = record.error is not None
    return Notification(
        job_id=record.job_id,
        attempt=record.attempt,
        status=str(record.status),
        character=record.character,
        pose=record.pose or None,
        request_id=record.request_id,
        inputs={
            name: {key: record.inputs[name].get(key) for key in ("bucket", "key", "version_id", "sha256", "prepared")}
            if name in record.inputs
            else None
            for name in INPUTS
        },
        parameters=record.parameters or None,
        # URLs are added just before publishing, because they expire. result.json has none.
        outputs=[] if failed else [{key: output.get(key) for key in OUTPUT} for output in record.outputs],
        error=record.error and {name: record.error[name] for name in ("type", "message")},
        metrics={key: record.metrics.get(key) for key in METRICS},
        context=record.context,
        submitted_at=rfc3339(record.submitted_at) if record.submitted_at else None,
        completed_at=rfc3339(record.completed_at) if record.completed_at else None,
    )


def incomplete(waiting: WaitingRecord) -> Notification:
    """Return the notification of uploads that have waited too long. Its job id is the id of their waiting record."""
    missing = " and ".join(waiting.missing) or "nothing"
    details = f" ({waiting.reason})" if waiting.reason else ""
    text = f"the uploads wait: {missing} missing since {rfc3339(waiting.created_at)}{details}"
    return Notification(
        job_id=waiting.job_id,
        attempt=waiting.attempt,
        status="INCOMPLETE",
        character=waiting.character,
        pose=waiting.pose or None,
        request_id=None,
        inputs=dict.fromkeys(INPUTS),
        parameters=None,
        outputs=[],
        error={"type": "Incomplete", "message": cut(text, SHORT_TEXT)},
        metrics=dict.fromkeys(METRICS),
        context=None,
        submitted_at=None,
        completed_at=None,
    )


def publish(sns: "SNSClient", topic_arn: str, message: Notification) -> None:
    """Publish a notification. Errors of SNS pass as botocore's ClientError.

    The texts of a notification that is too large for SNS are cut.
    """
    request = _request(message)
    if size(request) > SIZE_LIMIT:
        logger.warning("the notification is too large: its texts are cut", bytes=size(request))
        request = _request(shortened(message))
    sns.publish(TopicArn=topic_arn, **request)


def shortened(message: Notification) -> Notification:
    """Return a notification without URLs, with the texts of its parameters and error cut to SHORT_TEXT bytes each."""
    outputs = [{**output, "url": None} for output in message.outputs]
    return replace(message, parameters=_short(message.parameters), error=_short(message.error), outputs=outputs)


def size(request: dict[str, Any]) -> int:
    """Return the size of a publish request as SNS counts it: message, and name, type and value of each attribute."""
    texts = [request["Subject"], request["Message"]]
    for name, attribute in request["MessageAttributes"].items():
        texts += [name, *attribute.values()]
    return sum(len(text.encode()) for text in texts)


def _request(message: Notification) -> dict[str, Any]:
    attributes = {"status": message.status, "character": message.character}
    if message.error:
        attributes["error_type"] = message.error["type"]
    # In ASCII, because SNS rejects some characters that a prompt may have.
    text = json.dumps(message.to_dict())
    return {
        "Subject": subject(message),
        "MessageStructure": "json",
        "Message": json.dumps({"default": text, "email": email(message)}),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
        },
    }


def _short(texts: dict[str, Any] | None) -> dict[str, Any] | None:
    return texts and {key: cut(text, SHORT_TEXT) if isinstance(text, str) else text for key, text in texts.items()}


def subject(message: Notification) -> str:
    """Return the subject of the e-mail."""
    name = slug("-".join(filter(None, (message.character, message.pose))), 60)
    return f"posedrop: {name} {message.status.lower()}"[:SUBJECT_LIMIT]


def email(message: Notification) -> str:
    """Return the text of the e-mail."""
    lines = [f"Character: {message.character}", f"Pose: {message.pose or '-'}", f"Status: {message.status}"]
    if message.error:
        lines += [f"Reason: {message.error['type']}: {message.error['message']}"]
    for output in message.outputs:
        lines += [f"Image: {output['uri']}"]
        lines += [f"Link, for a limited time: {output['url']}"] if output["url"] else []
    lines += [f"Prompt: {cut((message.parameters or {}).get('prompt', ''), SHORT_TEXT)}"]
    lines += [f"Job: {message.job_id}, attempt {message.attempt}"]
    if message.request_id:
        lines += [f"Request id: {message.request_id}"]
    return "\n".join(lines)
