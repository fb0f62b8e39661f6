"""The local stack's gateway with counters: `GATEWAY_PORT=4566 python -m bench.gateway`.

GET /_bench/usage returns what AWS would count: requests by caller, service and action, and DynamoDB's request units.
Write units are MiniStack's, which follow AWS's rules for the table and each index. Read units follow from the items'
sizes.
"""

import json
import re
import runpy
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import ministack.app
from ministack.services import dynamodb

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]

USAGE_PATH = "/_bench/usage"
CREDENTIAL = re.compile(r"Credential=(?P<key>[^/]+)/[^/]+/[^/]+/(?P<service>[^/]+)/aws4_request")
READ_UNIT = 4096  # bytes (Amazon DynamoDB developer guide, read and write operations)

_plain = ministack.app.app
_consumed = dynamodb._add_consumed_capacity
_caller: ContextVar[str] = ContextVar("caller", default="")

requests: Counter[str] = Counter()
units: defaultdict[str, float] = defaultdict(float)


async def metered(scope: Scope, receive: Channel, send: Channel) -> None:
    """Run MiniStack's ASGI application; count each request after its response."""
    if scope["type"] != "http":
        await _plain(scope, receive, send)
        return
    if scope["path"] == USAGE_PATH:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps({"requests": requests, "units": units}).encode()})
        return
    caller, service = identity(scope)
    action = service_action(scope, service)
    _caller.set(caller)

    async def noting(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 100:
            requests[f"{caller} {service} {action}"] += 1
            if service == "dynamodb" and message["status"] == 400 and action in ("PutItem", "UpdateItem"):
                # A write whose condition fails is charged for the existing item, which has at most 2 KB here.
                units[f"{caller} write refused"] += 2
        await send(message)

    await _plain(scope, receive, noting)


def identity(scope: Scope) -> tuple[str, str]:
    """Return `function` (a role's session), `url` (a signed URL) or `user`, and the service's name."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    found = CREDENTIAL.search(headers.get(b"authorization", b"").decode("latin-1"))
    if found:
        return ("function" if found["key"].startswith("ASIA") else "user"), str(found["service"])
    query = unquote(scope["query_string"].decode("latin-1"))
    signed = CREDENTIAL.search(query.replace("X-Amz-Credential=", "Credential="))
    return ("url", str(signed["service"])) if signed else ("", "")


def service_action(scope: Scope, service: str) -> str:
    """Return the requested action; for S3 the method, or List."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    target = headers.get(b"x-amz-target", b"").decode("latin-1")
    if target:
        return str(target.rpartition(".")[2])
    if service == "s3" and b"list-type=" in scope["query_string"]:
        return "List"
    return str(scope["method"])


def consumed(result: dict[str, Any], data: dict[str, Any], table_name: str, write: bool = False, **items: Any) -> None:
    """Count the units that a call consumed, then do what MiniStack does."""
    caller = _caller.get()
    if write:
        response: dict[str, Any] = {}
        _consumed(response, {**data, "ReturnConsumedCapacity": "INDEXES"}, table_name, write=True, **items)
        capacity = response["ConsumedCapacity"]
        units[f"{caller} write table"] += capacity["Table"]["CapacityUnits"]
        for name, index in capacity.get("GlobalSecondaryIndexes", {}).items():
            units[f"{caller} write {name}"] += index["CapacityUnits"]
    else:
        size = len(json.dumps(result.get("Item") or result.get("Items") or ""))
        units[f"{caller} read"] += -(-size // READ_UNIT) * (1.0 if data.get("ConsistentRead") else 0.5)
    _consumed(result, data, table_name, write=write, **items)


if __name__ == "__main__":
    ministack.app.app = metered
    dynamodb._add_consumed_capacity = consumed
    runpy.run_module("local.gateway", run_name="__main__")
