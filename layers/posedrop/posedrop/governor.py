"""Keeping the pacing in one item of the table, changed by compare-and-swap, so that all functions share it."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from posedrop.errors import PosedropError
from posedrop.pacing import Held, Limits, Pacing, Slot, Turn

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

R = TypeVar("R")

ITEM = "pacing"
TRIES = 40


class PacingBusy(PosedropError):
    """The shared state could not be changed: too many functions at once."""


class Governor:
    """The shared state in the table.

    Errors of DynamoDB pass as botocore's ClientError; PacingBusy is raised where too many functions change it at once.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, limits: Limits) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._limits = limits

    def read(self) -> Pacing:
        """The state now."""
        return self._read()[0]

    def take(self, now: float, kept: Slot | None) -> Turn | Held:
        """Take a slot for a submit, or use the one that was `kept`, or learn why there is none, and until when."""
        return self._changed(lambda pacing: pacing.take(now, self._limits, kept))

    def take_poll(self, now: float, due: float) -> float:
        """Take a slot for a poll that is due at `due`, and return its time (both in seconds since the epoch)."""
        return self._changed(lambda pacing: pacing.take_poll(now, due, self._limits))

    def accepted(self, now: float, due: float) -> float:
        """After a submit that was taken: close the breaker, and take a slot for the first poll, as `take_poll` does."""
        return self._changed(lambda pacing: pacing.answered().take_poll(now, due, self._limits))

    def rate_limited(self, now: float, retry_after: float | None) -> Pacing:
        """Pause all calls after a 429; `retry_after` is in seconds or None."""
        return self.change(lambda pacing: pacing.rate_limited(now, retry_after, self._limits))

    def change(self, change: Callable[[Pacing], Pacing]) -> Pacing:
        """Replace the state by `change` of it, and return it. Writes nothing if it stays as it is."""
        return self._changed(lambda pacing: (changed := change(pacing), changed))

    def _changed(self, change: Callable[[Pacing], tuple[Pacing, R]]) -> R:
        for attempt in range(TRIES):
            pacing, version = self._read()
            changed, answer = change(pacing)
            if changed == pacing or self._swap(changed, version):
                return answer
            # Full jitter: with many functions at once each try lets about one through.
            time.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # nosec B311 # jitter is no secret
        raise PacingBusy("the shared schedule is changed by too many functions at once")

    def _read(self) -> tuple[Pacing, int]:
        answer = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": ITEM}}, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        if not item:
            return Pacing(), 0
        known: dict[str, Any] = json.loads(item["state"]["S"])
        fields = {key: value for key, value in known.items() if key in Pacing.__dataclass_fields__}
        return Pacing(**fields), int(item["version"]["N"])

    def _swap(self, pacing: Pacing, version: int) -> bool:
        condition = "version = :version" if version else "attribute_not_exists(job_id)"
        values: dict[str, Any] = {
            ":state": {"S": json.dumps(asdict(pacing))},
            ":next": {"N": str(version + 1)},
        }
        if version:
            values[":version"] = {"N": str(version)}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": ITEM}},
                UpdateExpression="SET #state = :state, version = :next",
                ConditionExpression=condition,
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=values,
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True
