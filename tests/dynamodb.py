"""DynamoDB inside the test's process: MiniStack's tables without its server, many times as fast as moto's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from types import SimpleNamespace
from typing import Any

from botocore.model import OperationModel
from botocore.parsers import create_parser
from ministack.services import dynamodb  # type: ignore[import-untyped]

_parser = create_parser("json")
_lock = Lock()
"""A server would handle one call after the other, whichever threads they come from."""


def respond(params: dict[str, Any], model: OperationModel, **_: Any) -> tuple[Any, Any]:
    """Answer a call in DynamoDB's place, as botocore's before-call event wants it. No call may wait."""
    headers = {name.lower(): str(value) for name, value in params["headers"].items()}
    coroutine = dynamodb.handle_request("POST", "/", headers, params["body"], {})
    try:
        with _lock:
            coroutine.send(None)
    except StopIteration as returned:
        status, answered, body = returned.value
        response = {"status_code": status, "headers": answered, "body": body}
        parsed = _parser.parse(response, model.output_shape)
        shape = model.service_model.shape_for_error_code(parsed["Error"]["Code"]) if status >= 300 else None
        if shape:  # an error has fields of its own, as the item of a failed condition
            parsed.update(_parser.parse(response, shape))
        return SimpleNamespace(status_code=status), parsed
    raise NotImplementedError(f"{model.name} waits")


@contextmanager
def in_process(*clients: Any) -> Iterator[None]:
    """Serve these DynamoDB clients from this process: the tables that there are, empty."""
    dynamodb.reset()
    names = clients[0].list_tables()["TableNames"]
    tables = [clients[0].describe_table(TableName=name)["Table"] for name in names]
    for client in clients:
        client.meta.events.register_first("before-call.dynamodb", respond)
    try:
        for table in tables:
            clients[0].create_table(**_definition(table))
        yield
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.dynamodb", respond)
        dynamodb.reset()


def _definition(table: Mapping[str, Any]) -> dict[str, Any]:
    """What creates a table like this one."""
    copied = ("TableName", "KeySchema", "AttributeDefinitions")
    indexes = [
        {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
        for index in table.get("GlobalSecondaryIndexes", [])
    ]
    definition = {name: table[name] for name in copied} | {"BillingMode": "PAY_PER_REQUEST"}
    return definition | ({"GlobalSecondaryIndexes": indexes} if indexes else {})
