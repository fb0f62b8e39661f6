"""DynamoDB inside the test's process: MiniStack's tables without its server, many times as fast as moto's."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from botocore.model import OperationModel
from botocore.parsers import create_parser
from ministack.services import dynamodb  # type: ignore[import-untyped]

_parser = create_parser("json")


def respond(params: dict[str, Any], model: OperationModel, **_: Any) -> tuple[Any, Any]:
    """Answer a call in DynamoDB's place, as botocore's before-call event wants it. No call may wait."""
    headers = {name.lower(): str(value) for name, value in params["headers"].items()}
    coroutine = dynamodb.handle_request("POST", "/", headers, params["body"], {})
    try:
        coroutine.send(None)
    except StopIteration as returned:
        status, answered, body = returned.value
        response = {"status_code": status, "headers": answered, "body": body}
        return SimpleNamespace(status_code=status), _parser.parse(response, model.output_shape)
    raise NotImplementedError(f"{model.name} waits")


@contextmanager
def in_process(*clients: Any) -> Iterator[None]:
    """Serve these DynamoDB clients from this process, with no tables at first."""
    dynamodb.reset()
    for client in clients:
        client.meta.events.register_first("before-call.dynamodb", respond)
    try:
        yield
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.dynamodb", respond)
        dynamodb.reset()
