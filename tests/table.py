"""A table with the part of DynamoDB's language that the ledger and the gate use: thousands of writes a second."""

import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
SORT_KEYS = {"line": "place", "unfinished": "unfinished_at"}
"""The queried indexes, with their sort keys. An item with an index's partition key also has its sort key."""


class Table:
    """Items by their keys, each attribute as in a DynamoDB client; attributes are never modified in place.

    lost: the numbers (from 1) of the writes whose reply is lost. Such a write is applied, and then botocore repeats it.
    between: called between the two.
    """

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.writes = 0
        self.lost: set[int] = set()
        self.between: Callable[[], object] = lambda: None

    def get_item(self, **request: Any) -> dict[str, Any]:
        item = self.items.get(request["Key"]["job_id"]["S"])
        return {"Item": dict(item)} if item else {}

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        ((table, wanted),) = request["RequestItems"].items()
        found = (self.items.get(key["job_id"]["S"]) for key in wanted["Keys"])
        return {"Responses": {table: [dict(item) for item in found if item]}}

    def query(self, **request: Any) -> dict[str, Any]:
        names, values = request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"]
        sort = SORT_KEYS[request["IndexName"]]
        atoms = request["KeyConditionExpression"].split(" AND ")
        found = [item for item in self.items.values() if all(_holds(item, atom, names, values) for atom in atoms)]
        found.sort(key=lambda item: str(item[sort]["S"]))
        return {"Items": [dict(item) for item in found[: request.get("Limit")]]}

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._write(lambda: self._put(request))

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._write(lambda: self._update(request))

    def delete_item(self, **request: Any) -> dict[str, Any]:
        self.writes += 1
        self.items.pop(request["Key"]["job_id"]["S"], None)
        return {}

    def _write(self, apply: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self.writes += 1
        number = self.writes
        response = apply()
        if number in self.lost:
            self.between()
            return apply()
        return response

    def _put(self, request: dict[str, Any]) -> dict[str, Any]:
        key = request["Item"]["job_id"]["S"]
        self._check(request, self.items.get(key, {}))
        self.items[key] = {name: _stored(value) for name, value in request["Item"].items()}
        return {}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        key = request["Key"]["job_id"]["S"]
        item = dict(self.items.get(key, {}))
        self._check(request, item)
        item["job_id"] = {"S": key}
        names, values = request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"]
        parts = re.split(r" ?\b(SET|REMOVE|ADD) ", request["UpdateExpression"])
        for kind, text in zip(parts[1::2], parts[2::2], strict=True):
            for clause in re.split(r", (?![^(]*\))", text):
                _change(item, kind, clause, names, values)
        self.items[key] = item
        return {"Attributes": dict(item)}

    def _check(self, request: dict[str, Any], item: dict[str, Any]) -> None:
        names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
        condition = request.get("ConditionExpression", "")
        for part in condition.split(" AND ") if condition else []:
            alternatives = re.fullmatch(r"\((.* OR .*)\)|(.*)", part)
            assert alternatives
            atoms = (alternatives[1] or alternatives[2]).split(" OR ")
            if not any(_holds(item, atom, names, values) for atom in atoms):
                error: Any = {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": dict(item)}
                raise ClientError(error, "UpdateItem")


def _holds(item: dict[str, Any], atom: str, names: dict[str, str], values: dict[str, Any]) -> bool:
    if found := re.fullmatch(r"attribute_not_exists\((\S+)\)", atom):
        return names.get(found[1], found[1]) not in item
    found = re.fullmatch(r"(\S+) (=|<>|<=?|>=?) (:\w+)", atom)
    assert found, atom
    there, value = item.get(names.get(found[1], found[1])), _stored(values[found[3]])
    if found[2] == "=":
        return bool(there == value)
    if there is None or there.keys() != value.keys():
        return False  # only values of one type are compared
    return COMPARISONS[found[2]](*(Decimal(side["N"]) if "N" in side else side["S"] for side in (there, value)))


def _change(item: dict[str, Any], kind: str, clause: str, names: dict[str, str], values: dict[str, Any]) -> None:
    if kind == "REMOVE":
        item.pop(names.get(clause, clause), None)
        return
    if kind == "ADD":
        name, value = clause.split(" ")
        there = item.get(names.get(name, name), {"N": "0"})
        item[names.get(name, name)] = _stored({"N": str(Decimal(there["N"]) + Decimal(values[value]["N"]))})
        return
    found = re.fullmatch(r"(\S+) = (?:if_not_exists\(\S+, (:\w+)\)|(:\w+))", clause)
    assert found, clause
    name = names.get(found[1], found[1])
    if found[3]:
        item[name] = _stored(values[found[3]])
    else:
        item.setdefault(name, _stored(values[found[2]]))


def _stored(value: Any) -> Any:
    """Return a value as DynamoDB stores it. Trailing zeros of a number are dropped (developer guide, data types)."""
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content)
        return {"N": f"{number.to_integral_value():f}" if number == number.to_integral_value() else f"{number:f}"}
    if kind == "L":
        return {"L": [_stored(inner) for inner in content]}
    if kind == "M":
        return {"M": {key: _stored(inner) for key, inner in content.items()}}
    return {kind: str(content) if kind == "S" else content}
