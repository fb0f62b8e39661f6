"""Runs the functions, each invocation in a process of its own: `python -m tests.crash.worker`.

The process that is started loads everything once and forks a child for each line of its input; the child ends itself
with exit code 137, as a function that is killed, where the line says so. A line is a JSON object:

    function     intake, dispatch, submit, poll, deliver or sweep
    event        the function's event
    seconds      what is left of its time
    offset       seconds that its clock is ahead
    environment  the function's variables
    crash        null, or [when, target, nth]: `before` or `after` the nth call of a method or function, named as
                 module:name; or `at`, an event of the POST's connection as httpcore names them, and 1

The answer is a line with `exit`, the child's exit code, and `answer`, the handler's, or `error`.
"""

import functools
import importlib.util
import json
import os
import pkgutil
import ssl
import sys
import time
import traceback
from types import ModuleType
from typing import Any, NoReturn

import boto3
import httpx
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS
from botocore.config import Config

from posedrop.aws.parallel import WORKERS
from posedrop.aws.s3 import s3_config
from tests.support import ROOT, Context

KILLED = 137
FUNCTIONS = ("intake", "dispatch", "submit", "poll", "deliver", "sweep")
SERVICES = ("sqs", "sns", "dynamodb", "stepfunctions", "secretsmanager", "lambda")
FIRST_CALLS = {
    "s3": "list_buckets",
    "sqs": "list_queues",
    "sns": "list_topics",
    "dynamodb": "list_tables",
    "stepfunctions": "list_state_machines",
    "secretsmanager": "list_secrets",
}
"""A call of each service that changes nothing."""


def main() -> None:
    """Answer each line of the input."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the functions log must not get between the answers
    _prepare()
    modules = {name: _load(name) for name in FUNCTIONS}
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(order, modules[order["function"]], writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"exit": code, **(json.loads(text) if text else {})}), file=channel, flush=True)


def _prepare() -> None:
    """Make what the children would spend most of their time on: clients, and certificates that none of them uses."""
    boto3.setup_default_session()
    events: Any = boto3._get_default_session().events
    events.register("provide-client-params.sqs.SendMessage", _delay_as_attribute)
    events.register("provide-client-params.sqs.SendMessageBatch", _delays_as_attributes)
    many = Config(max_pool_connections=WORKERS)
    prepared = {service: boto3.client(service, config=many) for service in SERVICES}  # type: ignore[call-overload]
    # Only S3's clients are made with options that matter here.
    s3 = {style: boto3.client("s3", config=s3_config(style)) for style in ("virtual", "path")}
    _call_once({**prepared, "s3": s3["path"]})
    boto3.client = lambda service, config=None: (  # type: ignore[assignment]
        s3[config.s3["addressing_style"]] if service == "s3" else prepared[service]
    )
    DEFAULT_PROVIDERS["secrets"] = SecretsProvider()
    ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
    httpx.Client(trust_env=False)


def _call_once(clients: dict[str, Any]) -> None:
    """Let the clients load what they load at their first call. No connection is left that children would share."""
    for service, operation in FIRST_CALLS.items():
        client = clients[service]
        getattr(client, operation)()
        client.get_paginator(operation)
        client.close()


def _child(order: dict[str, Any], module: ModuleType, writer: int) -> NoReturn:
    os.environ.update(order["environment"])
    clock = ModuleType("time")
    clock.time = lambda: time.time() + order["offset"]  # type: ignore[attr-defined]
    clock.sleep = lambda seconds: None  # type: ignore[attr-defined]
    module.time = clock  # type: ignore[attr-defined]
    if order["crash"]:
        _arm(*order["crash"])
    try:
        report = {"answer": module.handler(order["event"], Context(order["seconds"]))}
    except Exception as exc:  # noqa: BLE001 - as Lambda does
        traceback.print_exc()
        report = {"error": {"errorType": type(exc).__name__, "errorMessage": str(exc)}}
    with os.fdopen(writer, "w") as pipe:
        json.dump(report, pipe)
    os._exit(0)


def _arm(when: str, target: str, nth: int) -> None:
    """Let this process end at the nth time that it comes to the point."""
    if when == "at":
        httpx.Client.stream = functools.partialmethod(_traced, httpx.Client.stream, target)  # type: ignore[assignment]
        return
    owner, _, name = target.rpartition("." if "." in target.rpartition(":")[2] else ":")
    holder = pkgutil.resolve_name(owner)
    original = getattr(holder, name)
    calls = 0

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls == nth:
            os._exit(KILLED)
        result = original(*args, **kwargs)
        if when == "after" and calls == nth:
            os._exit(KILLED)
        return result

    setattr(holder, name, wrapper)


def _traced(self: httpx.Client, original: Any, target: str, method: str, url: str, **arguments: Any) -> Any:
    def trace(event: str, info: dict[str, Any]) -> None:
        if event == target:
            os._exit(KILLED)

    extensions = {"trace": trace} if method == "POST" else {}
    return original(self, method, url, extensions=extensions, **arguments)


def _delay_as_attribute(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A delay is the services' time, which the tests' clock does not move: it becomes an attribute, for the tests."""
    delay = {"DataType": "Number", "StringValue": str(params.get("DelaySeconds", 0))}
    attributes = {**params.get("MessageAttributes", {}), "delay": delay}
    return {**params, "DelaySeconds": 0, "MessageAttributes": attributes}


def _delays_as_attributes(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {**params, "Entries": [_delay_as_attribute(entry) for entry in params["Entries"]]}


def _load(function: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"{function}_app", ROOT / "functions" / function / "app.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
