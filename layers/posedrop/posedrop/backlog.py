"""Since when the oldest job waits that is not with the provider yet.

SQS cannot tell: ApproximateAgeOfOldestMessage leaves out a message that was received three times or more (SQS developer
guide, available CloudWatch metrics), and a job that waits is received again and again.
"""

from typing import TYPE_CHECKING

from posedrop.clock import epoch
from posedrop.ledger import UNFINISHED_INDEX, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

WAITING_TO_BE_SENT = (Status.QUEUED, Status.SUBMITTING)


def oldest_job(dynamodb: "DynamoDBClient", table: str) -> float | None:
    """When (seconds since the epoch) the oldest job was made that is queued or being sent; None if there is none.

    The index holds all that it takes: some thousand jobs are one call. DynamoDB's errors pass as ClientError.
    """
    oldest = None
    for status in WAITING_TO_BE_SENT:
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            IndexName=UNFINISHED_INDEX,
            KeyConditionExpression="unfinished = :status",
            ExpressionAttributeValues={":status": {"S": status}},
        )
        for page in pages:
            for item in page["Items"]:
                # A new attempt began when its record last changed, at the earliest.
                first = item["attempt"]["N"] == "1"
                since = epoch(item["created_at" if first else "updated_at"]["S"])
                oldest = since if oldest is None else min(oldest, since)
    return oldest
