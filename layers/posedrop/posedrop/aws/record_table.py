"""Read and write single records. Each change is one conditional write."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.record import Record, Status
from posedrop.aws.record_items import deserialize, job_of, serialize, to_item
from posedrop.contract.errors import JobError, PosedropError
from posedrop.contract.job import Input
from posedrop.segmind.responses import cut

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY = 86400
UNFINISHED_INDEX = "unfinished"
PAID, ENDED_UNSENT, INCOMPLETE, RESCUE = "paid", "ended", "waiting", "rescue"
"""The partition keys of the index `unfinished`. PAID: from a job's claim until its end is notified. ENDED_UNSENT: ended
without a claim, and not notified yet. INCOMPLETE: uploads that are not a job yet. RESCUE: ended and notified, but the
pictures or result.json may still be fetched. `unfinished_at` is since when; for INCOMPLETE and RESCUE it is when the
sweep checks the record next. A queued job is not in this index, but in the index `line`."""
FINISHED = dict.fromkeys(("unfinished", "unfinished_at"))
NOT_QUEUED = dict.fromkeys(("reason", "reason_code", "deferred_until", "stands", "place", "send_at"))
"""The attributes that are removed when a record is claimed or ends."""
MESSAGE_LIMIT = 1024
"""The most bytes of an error's message."""


class Conflict(PosedropError):
    """The record is not in the state that the write expects. Usually another function has changed it."""


def attempts_id(job_id: str) -> str:
    """Return the key of the item with the highest attempt number of a job."""
    return f"attempts/{hashlib.sha256(job_id.encode()).hexdigest()}"


class RecordTable:
    """Reads and writes records. `retention_days` 0 keeps records forever.

    Raises Conflict if a condition is false. Other errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, retention_days: float = 0) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention_days = retention_days

    def get(self, job_id: str) -> Record | None:
        """Return the record of a job, or None. The read is consistent. Waiting uploads have `get_waiting`."""
        item = self._get(job_id)
        return job_of(item) if item else None

    def use_attempt(self, record: Record) -> None:
        """Record the attempt number as used, so that it is never reused, even after the record has expired."""
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
                raise  # a false condition means that this number, or a higher one, is already recorded

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
        expected: Mapping[str, Any],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> Record:
        """Do one conditional write to a job's record, and return the record. The arguments are those of `_write`."""
        return job_of(self._write(job_id, expected, values, defaults))

    def _write(
        self,
        record_id: str,
        expected: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do one conditional write, and return the item.

        A value of None removes the attribute, an expected None means that there is none. `defaults` are set only where
        the item has no such attribute.
        """
        try:
            response = self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": record_id}},
                ReturnValues="ALL_NEW",
                **_update_request(expected or {}, values, defaults or {}),
            )
        except ClientError as exc:
            if not is_conflict(exc):
                raise
            item = self._get(record_id)
            if not item or not _is_applied(item, values):
                raise Conflict(record_id) from exc
            return item
        return dict(response["Attributes"])


def _update_request(
    expected: Mapping[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the expressions of UpdateItem, with their names and values."""
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
        for key, value in defaults.items()
    ]
    removes = [name(key) for key, value in values.items() if value is None]
    expression = f"SET {', '.join(sets)}" if sets else ""
    expression += f" REMOVE {', '.join(removes)}" if removes else ""
    conditions = [
        f"attribute_not_exists({name(key)})" if value is None else f"{name(key)} = {argument('is', key, value)}"
        for key, value in expected.items()
    ]
    return {
        "UpdateExpression": expression.strip(),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": arguments,
        **({"ConditionExpression": " AND ".join(conditions)} if conditions else {}),
    }


def _is_applied(item: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether an item has the values of a write. Then the write has succeeded, and only its reply was lost."""
    wanted = to_item(values)
    # Compare values, not texts: DynamoDB removes trailing zeros of numbers (developer guide, data types).
    return all(deserialize(item.get(key)) == deserialize(wanted.get(key)) for key in values)


def inputs_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {name: found.to_dict() for name, found in inputs.items()}


def error_of(error: JobError) -> dict[str, str]:
    code = {"code": error.code} if error.code else {}
    return {"type": error.type, "message": cut(str(error), MESSAGE_LIMIT), **code}


def is_conflict(exc: ClientError) -> bool:
    return exc.response["Error"]["Code"] == "ConditionalCheckFailedException"
