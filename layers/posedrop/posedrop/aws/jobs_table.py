"""The table of jobs (JobsTable), with all that reads and writes it."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.record_reader import RecordReader

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class JobsTable:
    """One table. `retention_days` 0 keeps records forever."""

    def __init__(self, dynamodb: "DynamoDBClient", name: str, retention_days: float = 0) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._retention_days = retention_days

    @cached_property
    def items(self) -> Items:
        """Return access to single items: those of the gate, the line and the images that were read."""
        return Items(self._dynamodb, self._name)

    @cached_property
    def ledger(self) -> Ledger:
        """Return the ledger."""
        return Ledger(self._dynamodb, self._name, self._retention_days)

    def reader(self, unreadable: Callable[[str], object] | None = None) -> RecordReader:
        """Return a reader of many records; see RecordReader."""
        return RecordReader(self._dynamodb, self._name, unreadable)
