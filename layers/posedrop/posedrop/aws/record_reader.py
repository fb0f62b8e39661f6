"""Read many records of the ledger for the operator's commands: by an index, by their ids, or all of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from posedrop.aws.places import LINE_INDEX
from posedrop.aws.record import AnyRecord
from posedrop.aws.record_items import deserialize, from_item, is_record
from posedrop.aws.record_table import UNFINISHED_INDEX

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CHARACTER_INDEX, DAY_INDEX = "by-character", "by-day"
SORTED_BY = {
    CHARACTER_INDEX: "created_at",
    DAY_INDEX: "created_at",
    LINE_INDEX: "place",
    UNFINISHED_INDEX: "unfinished_at",
}
"""The sort key of each index."""
KEYS = 200
"""Keys that one query reads."""
BATCH = 100
"""The most keys of one BatchGetItem (DynamoDB API reference)."""
WRITES = 25
"""The most items of one BatchWriteItem (DynamoDB API reference)."""

Key = dict[str, Any]
"""The keys of an item in an index and in the table, in the form of boto3's DynamoDB client."""
Place = tuple[str, str, str]
"""An index, the name of its partition key, and a value of that key."""


class RecordReader:
    """Reads the table of records. Errors of DynamoDB pass as botocore's ClientError.

    `unreadable` is called with the id of each record that cannot be parsed, and the record is left out. Without it,
    such a record raises an error.
    """

    def __init__(
        self, dynamodb: "DynamoDBClient", table: str, unreadable: Callable[[str], object] | None = None
    ) -> None:
        self._dynamodb: Any = dynamodb
        self._table = table
        self._unreadable = unreadable

    def keys(self, place: Place) -> Iterator[Key]:
        """Yield the keys at a place of an index, in the index's order."""
        return self._items("query", **_query(place))

    def newest_keys(
        self, place: Place, *, until: str = "", after: Mapping[str, str] | None = None, forward: bool = False
    ) -> Iterator[Key]:
        """Yield the keys at a place, newest first, or oldest first with `forward`. Each call reads KEYS of them.

        `until` (RFC 3339) leaves out records created later. `after` is the key after which to begin.
        """
        query = {**_query(place), "ScanIndexForward": forward}
        if until:
            query["KeyConditionExpression"] += " AND created_at <= :until"
            query["ExpressionAttributeValues"] |= {":until": {"S": until}}
        if after:
            query["ExclusiveStartKey"] = {attribute: {"S": value} for attribute, value in after.items()}
        while True:
            page = self._dynamodb.query(TableName=self._table, Limit=KEYS, **query)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def ids_of(self, character: str) -> Iterator[str]:
        """Yield the ids of all records of a character, newest first."""
        query = _query((CHARACTER_INDEX, "character", character))
        return (item["job_id"]["S"] for item in self._items("query", **query, ScanIndexForward=False))

    def count(self, places: Iterable[Place]) -> int:
        """Return how many records are at these places. One call counts a megabyte of an index, about 7,000 records."""
        queries = (self._pages("query", **_query(place), Select="COUNT") for place in places)
        return sum(page["Count"] for pages in queries for page in pages)

    def get(
        self, job_ids: Iterable[str], attributes: Sequence[str] = (), *, consistent: bool = False
    ) -> list[AnyRecord]:
        """Return the records with these ids, at most a hundred. Records that do not exist are left out.

        If `attributes` are named, only these are read.
        """
        options = {**_projection(attributes), **({"ConsistentRead": True} if consistent else {})}
        found: list[AnyRecord] = []
        asked = [{"job_id": {"S": job_id}} for job_id in dict.fromkeys(job_ids)]
        while asked:
            response = self._dynamodb.batch_get_item(RequestItems={self._table: {"Keys": asked, **options}})
            found += self._read(response["Responses"].get(self._table, []))
            # DynamoDB may skip keys of a batch and then returns them (API reference, BatchGetItem).
            asked = response.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return found

    def every(self, attributes: Sequence[str]) -> Iterator[AnyRecord]:
        """Yield all records with these attributes. It scans the whole table."""
        items = self._items("scan", **_projection(attributes))
        yield from self._read(item for item in items if is_record(item))

    def every_plain(self, attributes: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield these attributes of all records as plain values, also of records that cannot be parsed."""
        for item in self._items("scan", **_projection(attributes)):
            if is_record(item):
                yield {name: deserialize(value) for name, value in item.items()}

    def delete(self, keys: Sequence[str]) -> None:
        """Delete items of the table by their keys, whether they are records or not."""
        for start in range(0, len(keys), WRITES):
            wanted = [{"DeleteRequest": {"Key": {"job_id": {"S": key}}}} for key in keys[start : start + WRITES]]
            while wanted:
                response = self._dynamodb.batch_write_item(RequestItems={self._table: wanted})
                # DynamoDB may skip items of a batch and then returns them (API reference, BatchWriteItem).
                wanted = response.get("UnprocessedItems", {}).get(self._table, [])

    def _read(self, items: Iterable[Key]) -> Iterator[AnyRecord]:
        for item in items:
            try:
                yield from_item(item)
            except (ValueError, TypeError, KeyError):
                if self._unreadable is None:
                    raise
                self._unreadable(item["job_id"]["S"])

    def _items(self, operation: str, **arguments: Any) -> Iterator[Key]:
        for page in self._pages(operation, **arguments):
            yield from page["Items"]

    def _pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield from self._dynamodb.get_paginator(operation).paginate(**{"TableName": self._table, **arguments})


def _query(place: Place) -> dict[str, Any]:
    index, name, key = place
    return {
        "IndexName": index,
        "KeyConditionExpression": "#key = :key",
        "ExpressionAttributeNames": {"#key": name},
        "ExpressionAttributeValues": {":key": {"S": key}},
    }


def _projection(attributes: Sequence[str]) -> dict[str, Any]:
    """Return a projection of these attributes. It uses placeholders, because DynamoDB reserves many words."""
    if not attributes:
        return {}
    return {
        "ProjectionExpression": ", ".join(f"#{name}" for name in attributes),
        "ExpressionAttributeNames": {f"#{name}": name for name in attributes},
    }
