"""Read many records of the ledger: by its indexes, by their ids, or all of them. For the operator's commands."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from posedrop.aws.places import LINE_INDEX
from posedrop.aws.record import Record
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
"""The indexes, and what each of them is sorted by."""
KEYS = 200
"""Keys that are read at once."""
BATCH = 100
"""Keys that one BatchGetItem takes (DynamoDB API reference)."""
WRITES = 25
"""Items that DynamoDB deletes at once (API reference, BatchWriteItem)."""

Key = dict[str, Any]
"""The keys of an index and of the table, as a client of DynamoDB gives them."""
Place = tuple[str, str, str]
"""An index, the name of its key, and the key."""


class RecordReader:
    """Reads the table of records. Errors of DynamoDB pass as botocore's ClientError.

    `unreadable` is called with the id of a record of no known form, which is left out; without it that is an error.
    """

    def __init__(
        self, dynamodb: "DynamoDBClient", table: str, unreadable: Callable[[str], object] | None = None
    ) -> None:
        self._dynamodb: Any = dynamodb
        self._table = table
        self._unreadable = unreadable

    def keys(self, place: Place) -> Iterator[Key]:
        """Return the keys at a place of an index, the first first."""
        return self._items("query", **_query(place))

    def newest_keys(
        self, place: Place, *, until: str = "", after: Mapping[str, str] | None = None, forward: bool = False
    ) -> Iterator[Key]:
        """Return the keys at a place, the last first, or `forward`, a few at a time.

        `until` leaves out what was created later (RFC 3339), `after` what comes before that key.
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
        """Return the ids of all records of a character, the newest first."""
        query = _query((CHARACTER_INDEX, "character", character))
        return (item["job_id"]["S"] for item in self._items("query", **query, ScanIndexForward=False))

    def count(self, places: Iterable[Place]) -> int:
        """Return how many records stand at some places. A megabyte of an index, about 7,000 of them, is one call."""
        queries = (self._pages("query", **_query(place), Select="COUNT") for place in places)
        return sum(page["Count"] for pages in queries for page in pages)

    def get(self, job_ids: Iterable[str], attributes: Sequence[str] = (), *, consistent: bool = False) -> list[Record]:
        """Return the records of up to a hundred ids; one that is gone is left out.

        Of each only some attributes are read, if any are named.
        """
        options = {**_projection(attributes), **({"ConsistentRead": True} if consistent else {})}
        found: list[Record] = []
        asked = [{"job_id": {"S": job_id}} for job_id in dict.fromkeys(job_ids)]
        while asked:
            response = self._dynamodb.batch_get_item(RequestItems={self._table: {"Keys": asked, **options}})
            found += self._read(response["Responses"].get(self._table, []))
            # DynamoDB may leave out keys of a batch, and names them (API reference, BatchGetItem).
            asked = response.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return found

    def every(self, attributes: Sequence[str]) -> Iterator[Record]:
        """Return all records one after another, without a bound, with these attributes: the whole table is read."""
        items = self._items("scan", **_projection(attributes))
        yield from self._read(item for item in items if is_record(item))

    def every_plain(self, attributes: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Return these attributes of all records as plain values, those of records of no known form, too."""
        for item in self._items("scan", **_projection(attributes)):
            if is_record(item):
                yield {name: deserialize(value) for name, value in item.items()}

    def delete(self, keys: Sequence[str]) -> None:
        """Delete items of the table by their keys, records and others."""
        for start in range(0, len(keys), WRITES):
            wanted = [{"DeleteRequest": {"Key": {"job_id": {"S": key}}}} for key in keys[start : start + WRITES]]
            while wanted:
                response = self._dynamodb.batch_write_item(RequestItems={self._table: wanted})
                # DynamoDB may leave out some of a batch, and names them (API reference, BatchWriteItem).
                wanted = response.get("UnprocessedItems", {}).get(self._table, [])

    def _read(self, items: Iterable[Key]) -> Iterator[Record]:
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
    """Ask for some attributes alone: by other names, since DynamoDB reserves many words."""
    if not attributes:
        return {}
    return {
        "ProjectionExpression": ", ".join(f"#{name}" for name in attributes),
        "ExpressionAttributeNames": {f"#{name}": name for name in attributes},
    }
