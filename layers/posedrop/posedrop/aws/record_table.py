"""The table's records: one conditional write for each change."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.record import Record, Status
from posedrop.aws.record_items import deserialize, from_item, serialize, to_item
from posedrop.contract.errors import JobError, PosedropError
from posedrop.contract.job import Input
from posedrop.segmind.responses import cut

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY = 86400
UNFINISHED_INDEX = "unfinished"
PAID, ENDED_UNSENT, INCOMPLETE, RESCUE = "paid", "ended", "waiting", "rescue"
"""The keys of that index: from a job's claim until its end is notified; ended without a claim and not notified; uploads
that are no job yet; failed and notified, but the pictures may still be at the provider. `unfinished_at` says since
when, or for uploads and rescues when the sweep checks them next. A job's steps in between do not change them. What is
queued stands in the index of the line."""
FINISHED = dict.fromkeys(("unfinished", "unfinished_at"))
NOT_QUEUED = dict.fromkeys(("reason", "reason_code", "deferred_until", "stands", "place", "send_at"))
"""What a record forgets when it is claimed or ends."""
MESSAGE_LIMIT = 1024
"""Bytes of an error's message."""


class Conflict(PosedropError):
    """The record is not, or no longer, as the write expects it: another function went ahead."""


def attempts_id(job_id: str) -> str:
    """The key of the item with the highest attempt number of a job."""
    return f"attempts/{hashlib.sha256(job_id.encode()).hexdigest()}"


class RecordTable:
    """Reads and writes records. `retention_days` 0 keeps them for ever.

    Raises Conflict where a condition does not hold. Other errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, retention_days: float = 0) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention_days = retention_days

    def get(self, job_id: str) -> Record | None:
        """The record of a job, read consistently, or None."""
        item = self._get(job_id)
        return from_item(item) if item else None

    def use_attempt(self, record: Record) -> None:
        """Keep the number of the record's attempt from being used again, after the record has expired too."""
        number = {":number": {"N": str(record.attempt)}}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": attempts_id(record.job_id)}},
                UpdateExpression="SET highest = :number",
                ConditionExpression="attribute_not_exists(highest) OR highest < :number",
                ExpressionAttributeValues=number,
            )
        except ClientError as exc:
            if not is_conflict(exc):
                raise  # otherwise it was written before, for this record: none was created with a number in use

    def _end(
        self, job_id: str, expected: Mapping[str, Any], status: Status, values: Mapping[str, Any], now: float
    ) -> Record:
        return self._update(
            job_id,
            expected,
            {
                **NOT_QUEUED,
                "status": status,
                "completed_at": now,
                "updated_at": now,
                **values,
            },
            defaults={"unfinished": ENDED_UNSENT, "unfinished_at": now},
        )

    def _highest_attempt(self, job_id: str) -> int:
        return int(self._get(attempts_id(job_id)).get("highest", {"N": "0"})["N"])

    def _get(self, key: str) -> dict[str, Any]:
        response = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": key}}, ConsistentRead=True)
        return dict(response.get("Item", {}))

    def _update(
        self,
        job_id: str,
        expected: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> Record:
        """One conditional write. A value of None removes the attribute; an expected None is one that is not there."""
        names: dict[str, str] = {}
        arguments: dict[str, Any] = {}

        def name(attribute: str) -> str:
            names[f"#{attribute}"] = attribute
            return f"#{attribute}"

        def argument(kind: str, attribute: str, value: object) -> str:
            arguments[f":{kind}_{attribute}"] = serialize(attribute, value)
            return f":{kind}_{attribute}"

        sets = [f"{name(key)} = {argument('set', key, value)}" for key, value in values.items() if value is not None]
        sets += [
            f"{name(key)} = if_not_exists({name(key)}, {argument('default', key, value)})"
            for key, value in (defaults or {}).items()
        ]
        removes = [name(key) for key, value in values.items() if value is None]
        expression = f"SET {', '.join(sets)}" if sets else ""
        expression += f" REMOVE {', '.join(removes)}" if removes else ""
        conditions = [
            f"attribute_not_exists({name(key)})" if value is None else f"{name(key)} = {argument('is', key, value)}"
            for key, value in (expected or {}).items()
        ]
        request: dict[str, Any] = {"ConditionExpression": " AND ".join(conditions)} if conditions else {}
        try:
            response = self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": job_id}},
                UpdateExpression=expression.strip(),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=arguments,
                ReturnValues="ALL_NEW",
                **request,
            )
        except ClientError as exc:
            if not is_conflict(exc):
                raise
            item = self._get(job_id)
            if not item or not _is_applied(item, values):
                raise Conflict(job_id) from exc
            return from_item(item)
        return from_item(response["Attributes"])


def _is_applied(item: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether an item is as a write wanted it: then it was that write, whose reply was lost."""
    wanted = to_item(values)
    # DynamoDB drops zeros at the end of a number (developer guide, data types), so values are compared, not texts.
    return all(deserialize(item.get(key)) == deserialize(wanted.get(key)) for key in values)


def inputs_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {name: found.to_dict() for name, found in inputs.items()}


def error_of(error: JobError) -> dict[str, str]:
    code = {"code": error.code} if error.code else {}
    return {"type": error.type, "message": cut(str(error), MESSAGE_LIMIT), **code}


def is_conflict(exc: ClientError) -> bool:
    return exc.response["Error"]["Code"] == "ConditionalCheckFailedException"
