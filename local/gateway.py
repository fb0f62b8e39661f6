"""MiniStack, changed where it differs from AWS: `GATEWAY_PORT=4566 python -m local.gateway`.

Six differences would otherwise force a template that is wrong on AWS:
- The template's policies deny whatever does not come over TLS, and MiniStack evaluates them. Here, as behind a load
  balancer that ends TLS, the connection itself is plain; so its scheme is given as https.
- MiniStack asks for a grant of sqs:SendMessageBatch, which IAM does not know: on AWS the batch calls of SQS need the
  grant of the single call (AWS SQS developer guide, Amazon SQS API permissions).
- MiniStack evaluates the permissions boundary of a role, but its CloudFormation drops it. Here a role keeps it
  (CloudFormation template reference, AWS::IAM::Role).
- MiniStack's CloudFormation does not know the connections and API destinations of EventBridge, which itself has them.
- MiniStack refuses alarms on metric math. Here such an alarm is made, and never goes off.
- MiniStack hides a message whose function is throttled until its visibility ends. Lambda goes on trying meanwhile (AWS
  Lambda developer guide, Amazon SQS: backoff strategy for failed invocations).

Three would make a job or what comes of it end otherwise than on AWS, or later:
- MiniStack invokes the function of an EventBridge rule once, and counts a throttled asynchronous invocation as a failed
  one. EventBridge invokes it asynchronously: Lambda tries twice more, goes on for six hours while it is throttled, and
  then sends the event to the function's destination for failures (AWS Lambda developer guide, asynchronous invocation).
- MiniStack names every error of a function `Runtime.HandlerError`. Lambda's `errorType` is the exception's class name
  (AWS Lambda developer guide, Python: handler errors and exceptions), which Step Functions passes on as `Error`.
- MiniStack kills a function's processes when the function is updated, those that work on a message too, which is
  delivered again once its visibility ends. Lambda lets them finish. Here they end as soon as they are idle.

And three would make people wait:
- MiniStack starts each process of a function anew. Here, on Linux, it is a copy of one that has imported what all
  functions import (local/warm.py).
- MiniStack unpacks the layers for each process that it starts, and Python compiles them there. Here the processes share
  one directory for each archive, and so the compiled modules.
- A demo or a test would wait for a rule of each minute. Here such a rule runs every two seconds, which `dispatch`
  allows: it may run at any moment.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ministack.app  # type: ignore[import-untyped]
from ministack.core import iam_actions, lambda_runtime  # type: ignore[import-untyped]
from ministack.services import eventbridge, iam, lambda_svc, sqs  # type: ignore[import-untyped]
from ministack.services.cloudformation import provisioners  # type: ignore[import-untyped]

from local.warm import Origin, Popen

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]

_plain = ministack.app.app
_iam_action = iam_actions.extract_iam_action
_alarm = provisioners._cw_metric_alarm_record
_run_sqs_batch = lambda_svc._run_sqs_batch
_execute_function = lambda_svc._execute_function
_invoke_async_with_retry = lambda_svc.invoke_async_with_retry
_invalidate_worker = lambda_svc.invalidate_worker
_parse_rate_seconds = eventbridge._parse_rate_seconds

THROTTLED_SECONDS = 0.2
"""After which a throttled invocation is tried again."""
ASYNCHRONOUS_SECONDS = 6 * 3600.0
"""For which Lambda keeps an event of an asynchronous invocation (AWS Lambda developer guide)."""
BUSY_SECONDS = 0.1
"""After which it is checked again whether a process of an updated function has finished."""
UNNAMED = "Runtime.HandlerError"
PROCESS_DIED = "Worker process died"
CLASS_NAME = re.compile(r"(?:[\w<>]+\.)*([^\W\d]\w*)")
"""A class's name in the last line of a traceback, behind its module's."""
_unpacked: dict[str, Path] = {}
"""The directory of each archive, by its SHA-256."""
_unpacking = threading.Lock()
MINUTE, SHORT_MINUTE = 60, 2
"""Seconds between two runs of a rule of each minute, on AWS and here."""
_give_up: ContextVar[float] = ContextVar("give_up", default=0.0)


async def over_tls(scope: Scope, receive: Channel, send: Channel) -> None:
    """MiniStack's ASGI application behind a TLS that is not there."""
    if scope["type"] == "http":
        scope = {**scope, "scheme": "https"}
    await _plain(scope, receive, send)


def iam_action(service: str, *request: Any) -> str | None:
    """The IAM action that a request needs a grant for, as `sqs:SendMessage`."""
    action: str | None = _iam_action(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def alarm(name: str, properties: dict[str, Any]) -> Any:
    """An alarm as MiniStack keeps it, that on metric math as one on a metric that nobody writes."""
    if "Metrics" in properties:
        others = {key: value for key, value in properties.items() if key != "Metrics"}
        properties = {**others, "Namespace": "metric-math", "MetricName": name, "Period": 60, "Statistic": "Sum"}
    return _alarm(name, properties)


def role_with_boundary(change: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what creates or updates a role of a template: it then has the template's boundary, or none."""

    def changed(*given: Any, **options: Any) -> Any:
        result = change(*given, **options)
        properties = [each for each in given if isinstance(each, dict)][-1]
        iam._roles[result[0]]["PermissionsBoundary"] = properties.get("PermissionsBoundary")
        return result

    return changed


def run_sqs_batch(esm: dict[str, Any], function: Any, event: Any, batch: Any, queue_url: str, queue_name: str) -> None:
    """Invoke a queue's function with a batch, for as long as its messages are hidden."""
    visibility = float(sqs._queues[queue_url]["attributes"].get("VisibilityTimeout", 30))
    token = _give_up.set(time.monotonic() + visibility)
    try:
        _run_sqs_batch(esm, function, event, batch, queue_url, queue_name)
    finally:
        _give_up.reset(token)


def execute_function(function: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """Invoke a function, again and again while it is throttled where a queue does, or a caller that does not wait.

    Errors have Lambda's names.
    """
    result: dict[str, Any] = _execute_function(function, event)
    while result.get("throttle") and time.monotonic() < _give_up.get():
        time.sleep(THROTTLED_SECONDS)
        result = _execute_function(function, event)
    body = result.get("body")
    if result.get("error") and isinstance(body, dict) and body.get("errorType") == UNNAMED:
        body["errorType"] = error_type(body["errorMessage"], result.get("log", ""))
    return result


def error_type(message: str, log: str) -> str:
    """Return the `errorType` that Lambda reports for a function's error.

    `message` is the error's text. `log` is what the function printed, with a traceback at its end that names the
    exception's class before that text. A process that has died leaves none: Lambda calls that `Runtime.ExitError`.
    """
    if message == PROCESS_DIED:
        return "Runtime.ExitError"
    text = log.removesuffix("\n")
    heading = text.removesuffix(message).removesuffix(": ").rpartition("\n")[2] if text.endswith(message) else ""
    name = CLASS_NAME.fullmatch(heading)
    return name[1] if name else UNNAMED


def invoke_asynchronously(function: dict[str, Any], event: dict[str, Any]) -> None:
    """Invoke a function asynchronously: again and again while it is throttled, for as long as Lambda keeps an event."""
    token = _give_up.set(time.monotonic() + ASYNCHRONOUS_SECONDS)
    try:  # what it starts runs in a copy of this context
        _invoke_async_with_retry(function, event)
    finally:
        _give_up.reset(token)


def dispatch_to_lambda(arn: str, payload: str) -> None:
    """Invoke the function of a rule asynchronously. One that is not there gets nothing, as in MiniStack."""
    function, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if not function or not config:
        return
    invoke_asynchronously(lambda_svc._execution_record_for_config(function, config), json.loads(payload))


def provisioner(kind: str, create: Callable[..., Any], delete: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return what lets CloudFormation make and delete a resource by EventBridge's own operations."""

    def made(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        name = properties.get("Name") or f"{stack}-{logical_id}"
        status, _, body = create({**properties, "Name": name})
        if status >= 400:
            raise ValueError(f"{logical_id}: {body!r}")
        return name, {"Arn": json.loads(body)[f"{kind}Arn"]}

    return {"create": made, "delete": lambda name, properties: delete({"Name": name})}


def invalidate_worker(function: str, **scope: Any) -> None:
    """Stop the processes of a function that is updated or deleted: idle ones now, the others when they have finished.

    No new invocation gets any of them.
    """
    with lambda_runtime._lock:
        pools = list(lambda_runtime._workers.values())
        busy = [worker for pool in pools for worker in pool if worker.in_use and worker.func_name == function]
        for pool in pools:
            pool[:] = [worker for worker in pool if worker not in busy]
    _invalidate_worker(function, **scope)
    for worker in busy:
        threading.Thread(target=_stop_when_idle, args=(worker,), daemon=True).start()


def _stop_when_idle(worker: Any) -> None:
    while worker.in_use:
        time.sleep(BUSY_SECONDS)
    worker.kill()


class SharedArchive(zipfile.ZipFile):
    """An archive that is unpacked once; each later target is a link to the first one's directory."""

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        """Make `path`, which is an empty directory, a link to the unpacked archive."""
        target = Path(path)
        digest = hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        with _unpacking:
            if digest not in _unpacked:
                _unpacked[digest] = Path(tempfile.mkdtemp(prefix="unpacked-"))
                super().extractall(_unpacked[digest])
        target.rmdir()
        target.symlink_to(_unpacked[digest], target_is_directory=True)


def starter() -> Callable[..., Any]:
    """Return what starts a process instead of subprocess.Popen: where that can be, a function's is a copy."""
    if not hasattr(os, "pidfd_open"):
        return subprocess.Popen
    origin = Origin()

    def start(argv: list[str], **options: Any) -> Any:
        if argv[0] != sys.executable:
            return subprocess.Popen(argv, **options)  # nosec B603 # what MiniStack starts
        return Popen(origin, argv, options["cwd"], options["env"])

    return start


def parse_rate_seconds(expression: str) -> int | None:
    """Return the seconds between two runs of a rule: one of each minute runs more often here."""
    seconds: int | None = _parse_rate_seconds(expression)
    return SHORT_MINUTE if seconds == MINUTE else seconds


if __name__ == "__main__":
    ministack.app.app = over_tls
    iam_actions.extract_iam_action = iam_action
    provisioners._cw_metric_alarm_record = alarm
    role = provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]
    role.update(create=role_with_boundary(role["create"]), update=role_with_boundary(role["update"]))
    for kind, create, delete in (
        ("Connection", eventbridge._create_connection, eventbridge._delete_connection),
        ("ApiDestination", eventbridge._create_api_destination, eventbridge._delete_api_destination),
    ):
        provisioners._RESOURCE_HANDLERS[f"AWS::Events::{kind}"] = provisioner(kind, create, delete)
    eventbridge._dispatch_to_lambda = dispatch_to_lambda
    lambda_svc._run_sqs_batch = run_sqs_batch
    lambda_svc._execute_function = execute_function
    lambda_svc.invoke_async_with_retry = invoke_asynchronously
    lambda_svc.invalidate_worker = invalidate_worker
    lambda_runtime.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": starter()})
    lambda_runtime.zipfile = SimpleNamespace(**vars(zipfile) | {"ZipFile": SharedArchive})
    eventbridge._parse_rate_seconds = parse_rate_seconds
    eventbridge._SCHEDULER_TICK_INTERVAL = 1
    ministack.app.main()
