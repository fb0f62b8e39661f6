"""Use the deployed pipeline from outside: upload files, read records, receive notifications."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer

from local.processes import LocalError
from local.stack import LocalStack

T = TypeVar("T")

_deserialize = TypeDeserializer().deserialize


class Inbox:
    """A queue that is subscribed to the notification topic. `messages` are the notifications so far."""

    def __init__(self, stack: LocalStack) -> None:
        """Create the queue and subscribe it."""
        self.messages: list[dict[str, Any]] = []
        topic = stack.outputs["NotificationTopicArn"]
        self._sqs = stack.client("sqs")
        self._url = self._sqs.create_queue(QueueName=f"notifications-{uuid4().hex}")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        stack.client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )

    def receive(self) -> list[dict[str, Any]]:
        """Receive new messages and return all notifications so far."""
        while batch := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for message in batch:
                self.messages.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return self.messages


def drop(stack: LocalStack, key: str, body: bytes | Path, **metadata: str) -> None:
    """Upload one file to the upload bucket, with the object's metadata."""
    stack.client("s3").put_object(
        Bucket=stack.outputs["UploadBucketName"],
        Key=key,
        Body=body.read_bytes() if isinstance(body, Path) else body,
        Metadata=metadata,
    )


BATCH = 100
"""Keys in one BatchGetItem (DynamoDB API reference)."""


def records(stack: LocalStack, character: str) -> list[dict[str, Any]]:
    """Return the ledger's records of a character, including waiting uploads, the oldest first."""
    dynamodb, table = stack.client("dynamodb"), stack.outputs["JobsTableName"]
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        IndexName="by-character",
        KeyConditionExpression="#character = :character",
        ExpressionAttributeNames={"#character": "character"},
        ExpressionAttributeValues={":character": {"S": character}},
    )
    keys = [{"job_id": item["job_id"]} for page in pages for item in page["Items"]]
    items: list[dict[str, Any]] = []
    for start in range(0, len(keys), BATCH):
        asked = {table: {"Keys": keys[start : start + BATCH], "ConsistentRead": True}}
        items += dynamodb.batch_get_item(RequestItems=asked)["Responses"][table]
    found = [{name: _deserialize(value) for name, value in item.items()} for item in items]
    return sorted(found, key=lambda record: record["created_at"])


def wait_for(check: Callable[[], T | None], what: str, timeout: float) -> T:
    """Call `check` every quarter of a second until it returns a value. Raises LocalError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (found := check()) is None:
        if time.monotonic() > deadline:
            raise LocalError(f"{what} did not come within {timeout:.0f} s")
        time.sleep(0.25)
    return found
