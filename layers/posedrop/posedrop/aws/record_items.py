"""Convert records to items of DynamoDB, and items to records."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from posedrop.aws.record import TIMES, AnyRecord, BaseRecord, Record, Status, WaitingRecord
from posedrop.contract.times import epoch, rfc3339
from posedrop.segmind.requests import Request, RequestStatus

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def serialize(attribute: str, value: object) -> Any:
    """Return an attribute's value in the form of boto3's DynamoDB client."""
    # A context may be nested deeper than DynamoDB's limit of 32 levels.
    return _serializer.serialize(json.dumps(value) if attribute == "context" else _stored(attribute, value))


def deserialize(value: Any) -> Any:
    """Return a value of boto3's DynamoDB client as a Python value. Numbers become Decimals, None stays None."""
    return None if value is None else _deserializer.deserialize(value)


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of the table, without the attributes that are None."""
    return {key: serialize(key, value) for key, value in values.items() if value is not None}


def is_record(item: Mapping[str, Any]) -> bool:
    """Return whether an item is a record. Other items, such as `attempts/…` and `request/…`, have no status."""
    return "status" in item


def from_item(item: Mapping[str, Any]) -> AnyRecord:
    """Return the record in an item of the table, in the form of boto3's DynamoDB client."""
    return waiting_of(item) if deserialize(item["status"]) == Status.WAITING else job_of(item)


def job_of(item: Mapping[str, Any]) -> Record:
    """Return the record of a job in an item of the table. Raises ValueError if it is the other kind."""
    values = _values(item, Record)
    status = Status(values["status"])
    if status is Status.WAITING:
        raise ValueError(f"{values['job_id']} is not the record of a job")
    if "context" in values:
        values["context"] = json.loads(values["context"])
    requests = [
        Request(**{**_with_times(found), "status": RequestStatus(found["status"])})
        for found in values.get("requests", [])
    ]
    return Record(**{**values, "status": status, "requests": requests})


def waiting_of(item: Mapping[str, Any]) -> WaitingRecord:
    """Return the record of waiting uploads in an item of the table. Raises ValueError if it is the other kind."""
    values = _values(item, WaitingRecord)
    status = Status(values["status"])
    if status is not Status.WAITING:
        raise ValueError(f"{values['job_id']} is not the record of waiting uploads")
    return WaitingRecord(**{**values, "status": status})


def _values(item: Mapping[str, Any], kind: type[BaseRecord]) -> dict[str, Any]:
    """Return the attributes of an item that a kind of record has, with times as seconds since the epoch."""
    known = {key: value for key, value in item.items() if key in kind.__dataclass_fields__}
    return _with_times({key: _without_decimals(deserialize(value)) for key, value in known.items()})


def _with_times(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: epoch(value) if key in TIMES else value for key, value in values.items()}


def _stored(attribute: str, value: object) -> object:
    """Return a value in its stored form. Times become RFC 3339, unless they already are."""
    return rfc3339(value) if attribute in TIMES and isinstance(value, int | float) else _without_floats(value)


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Request):
        return {key: _stored(key, inner) for key, inner in asdict(value).items() if inner is not None}
    if isinstance(value, dict):
        return {key: _without_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_floats(inner) for inner in value]
    return value


def _without_decimals(value: object) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _without_decimals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_decimals(inner) for inner in value]
    return value
