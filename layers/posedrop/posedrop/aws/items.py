"""Read and write single items of the table. The gate and the line use DynamoDB only through this module.

`Items` is the whole interface. Simulations and tests may replace it with an object that has the same three methods.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from posedrop.contract.errors import WriteRefused

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Value = str | int | float
Item = dict[str, Value]
"""The attributes of an item that are texts or numbers. Attributes of other types are not read."""
KEY = "job_id"
WRITER = "writer"
"""The attribute with the id of the last write. It is not returned to callers."""


@dataclass(frozen=True)
class Condition:
    """What an attribute must be for a write to happen. `or_absent` also allows an item without the attribute."""

    attribute: str
    comparison: Literal["=", "<>", "<", "<=", ">", ">="]
    value: Value
    or_absent: bool = False


class Placeholders:
    """The placeholders of an expression: short names for its attribute names and values, as DynamoDB requires."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def name(self, attribute: str) -> str:
        """Return the placeholder of an attribute name."""
        short = next((short for short, known in self.names.items() if known == attribute), f"#n{len(self.names)}")
        self.names[short] = attribute
        return short

    def value(self, value: Value) -> str:
        """Return the placeholder of a value."""
        short = f":v{len(self.values)}"
        self.values[short] = _stored(value)
        return short

    def condition(self, found: Condition) -> str:
        """Return a condition as an expression."""
        name = self.name(found.attribute)
        compared = f"{name} {found.comparison} {self.value(found.value)}"
        return f"(attribute_not_exists({name}) OR {compared})" if found.or_absent else compared


class Items:
    """The items of one table. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def get(self, *keys: str) -> list[Item]:
        """Read up to 100 items at once, each consistently. An item that does not exist is empty."""
        wanted: list[Mapping[str, Any]] = [{KEY: {"S": key}} for key in keys]
        found: dict[str, Item] = {}
        while wanted:
            response = self._dynamodb.batch_get_item(
                RequestItems={self._table: {"Keys": wanted, "ConsistentRead": True}}
            )
            found |= {item[KEY]["S"]: _plain(item) for item in response["Responses"].get(self._table, [])}
            # DynamoDB may skip keys of a batch and then returns them (API reference, BatchGetItem).
            unprocessed = response.get("UnprocessedKeys", {})
            wanted = list(unprocessed[self._table]["Keys"]) if unprocessed else []
        return [found.get(key, {}) for key in keys]

    def update(
        self,
        key: str,
        *,
        values: Mapping[str, Value] | None = None,
        add: Mapping[str, float] | None = None,
        remove: Sequence[str] = (),
        when: Sequence[Condition] = (),
    ) -> Item:
        """Change one item, or create it if there is none. Return the changed attributes with their new values.

        `values` are set. `add` is added to numbers (a missing one counts as 0). `remove` names attributes to remove.
        Raises WriteRefused if one of the conditions `when` is false.

        If a reply is lost, botocore repeats a write that was already applied. So each write stores its own id in the
        item. A repeated write finds its own id and is not applied again, unless another write happened in between.
        """
        writer = uuid.uuid4().hex
        short = Placeholders()
        clauses = {
            "SET": [
                f"{short.name(name)} = {short.value(to)}" for name, to in {**(values or {}), WRITER: writer}.items()
            ],
            "ADD": [f"{short.name(name)} {short.value(by)}" for name, by in (add or {}).items()],
            "REMOVE": [short.name(name) for name in remove],
        }
        conditions = map(short.condition, [*when, Condition(WRITER, "<>", writer, or_absent=True)])
        try:
            response = self._dynamodb.update_item(
                TableName=self._table,
                Key={KEY: {"S": key}},
                UpdateExpression=" ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts),
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames=short.names,
                ExpressionAttributeValues=short.values,
                ReturnValues="UPDATED_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            item = _item(exc)
            if item.get(WRITER, {}).get("S") != writer:
                raise WriteRefused(key, _plain(item)) from exc
            return _plain(item)
        return _plain(response.get("Attributes", {}))

    def query(
        self, index: str, partition: tuple[str, str], below: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Item]:
        """Yield items of an index in the order of its sort key, at most `limit`.

        `partition` is the name and value of the partition key. `below` is the name of the sort key and its upper bound.
        An index may be slightly behind its table.
        """
        expression = "#p = :p AND #s < :s" if below else "#p = :p"
        names, arguments = {"#p": partition[0]}, {":p": {"S": partition[1]}}
        if below:
            names["#s"], arguments[":s"] = below[0], {"S": below[1]}
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=index,
            KeyConditionExpression=expression,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=arguments,
            PaginationConfig={"MaxItems": limit, "PageSize": min(limit, 1000)} if limit else {},
        )
        for page in pages:
            for item in page["Items"]:
                yield _plain(item)


def _item(exc: ClientError) -> dict[str, Any]:
    """Return the existing item after a refused write (API reference, ReturnValuesOnConditionCheckFailure)."""
    response: Mapping[str, Any] = exc.response
    return dict(response.get("Item", {}))


def _stored(value: Value) -> dict[str, str]:
    return {"S": value} if isinstance(value, str) else {"N": repr(value)}


def _plain(item: Mapping[str, Any]) -> Item:
    texts: Item = {name: value["S"] for name, value in item.items() if "S" in value and name != WRITER}
    return texts | {name: float(value["N"]) for name, value in item.items() if "N" in value}
