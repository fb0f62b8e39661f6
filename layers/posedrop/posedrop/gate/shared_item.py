"""One item of the table that all functions share, changed by compare-and-swap."""

import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import ClientError

from posedrop.errors import TransientFault

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
R = TypeVar("R")

TRIES = 40


class SharedItem(Generic[T]):
    """A frozen dataclass `kind`, kept as JSON in the item `key`. Before the first write it has its defaults.

    A reply that is lost makes botocore repeat a write that was applied. So each write leaves its own id: one that finds
    it there was the first, and nothing is counted twice. Errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, key: str, kind: type[T]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._key = key
        self._kind = kind

    def read(self) -> T:
        """The state now, read consistently."""
        return self._read()[0]

    def change(self, change: Callable[[T], tuple[T, R]]) -> R:
        """Replace the state by the first part of `change` of it, and return the second.

        Nothing is written if the state stays as it is. Raises TransientFault if too many functions change it at once.
        """
        for attempt in range(TRIES):
            state, version = self._read()
            changed, result = change(state)
            if changed == state or self._swap(changed, version):
                return result
            # Full jitter: with many functions at once each try lets about one through.
            time.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # nosec B311 # jitter is no secret
        raise TransientFault(f"too many functions change the item {self._key} at once")

    def _read(self) -> tuple[T, int]:
        item = self._item()
        if not item:
            return self._kind(), 0
        known: dict[str, Any] = json.loads(item["state"]["S"])
        fields: dict[str, object] = vars(self._kind)["__dataclass_fields__"]
        return self._kind(**{key: value for key, value in known.items() if key in fields}), int(item["version"]["N"])

    def _item(self) -> dict[str, Any]:
        response = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": self._key}}, ConsistentRead=True)
        return dict(response.get("Item", {}))

    def _swap(self, state: T, version: int) -> bool:
        condition = "version = :version" if version else "attribute_not_exists(job_id)"
        values: dict[str, Any] = {
            ":state": {"S": json.dumps(asdict(state))},  # type: ignore[call-overload]
            ":next": {"N": str(version + 1)},
            ":writer": {"S": uuid.uuid4().hex},
        }
        if version:
            values[":version"] = {"N": str(version)}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": self._key}},
                UpdateExpression="SET #state = :state, version = :next, writer = :writer",
                ConditionExpression=condition,
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=values,
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return bool(self._item().get("writer") == values[":writer"])
        return True
