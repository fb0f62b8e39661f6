"""MiniStack with changes where it differs from AWS: `GATEWAY_PORT=4566 python -m local.gateway`.

Without six of the changes the template would have to be wrong for AWS:
- The template's policies deny requests without TLS, and MiniStack evaluates them. Here the connection is plain, as
  behind a load balancer that ends TLS, so the gateway sets its scheme to https.
- MiniStack asks for a grant of sqs:SendMessageBatch, which IAM does not know: on AWS the batch calls of SQS need the
  grant of the single call (AWS SQS developer guide, Amazon SQS API permissions).
- MiniStack evaluates the permissions boundary of a role, but its CloudFormation drops it. Here a role keeps it
  (CloudFormation template reference, AWS::IAM::Role).
- MiniStack's EventBridge has connections and API destinations, but its CloudFormation does not know them.
- MiniStack refuses alarms on metric math. Here such an alarm is created, but never goes off.
- MiniStack hides the message of a throttled function until its visibility ends. Lambda retries meanwhile (AWS Lambda
  developer guide, Amazon SQS: backoff strategy for failed invocations).

Without three of them a job would end otherwise than on AWS, or later:
- MiniStack invokes the function of an EventBridge rule once, and a throttled asynchronous invocation counts as failed.
  EventBridge invokes it asynchronously: Lambda tries twice more, retries for six hours while it is throttled, and then
  sends the event to the function's failure destination (AWS Lambda developer guide, asynchronous invocation).
- MiniStack names every error of a function `Runtime.HandlerError`. Lambda's `errorType` is the exception's class name
  (AWS Lambda developer guide, Python: handler errors and exceptions), which Step Functions passes on as `Error`.
- When a function is updated, MiniStack kills its processes, even if they work on a message, which is then redelivered
  after its visibility. Lambda lets them finish. Here they end when they are idle.

And three make it faster:
- MiniStack starts each process of a function from scratch. Here, on Linux, it is a copy of a process that has imported
  what all functions import (local/warm.py).
- MiniStack unpacks the layers for each process that it starts, and Python compiles them there. Here the processes share
  one directory per archive, and so the compiled modules.
- A demo or a test would wait for a rule that runs each minute. Here such a rule runs every two seconds. `dispatch` may
  run at any moment.
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

import ministack.app
from ministack.core import iam_actions, lambda_runtime
from ministack.services import eventbridge, iam, lambda_svc, sqs
from ministack.services.cloudformation import provisioners

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
"""Seconds before a throttled invocation is tried again."""
ASYNCHRONOUS_SECONDS = 6 * 3600.0
"""Seconds for which Lambda keeps an asynchronous event (AWS Lambda developer guide)."""
BUSY_SECONDS = 0.1
"""Seconds between two checks whether a process of an updated function has finished."""
UNNAMED = "Runtime.HandlerError"
PROCESS_DIED = "Worker process died"
CLASS_NAME = re.compile(r"(?:[\w<>]+\.)*([^\W\d]\w*)")
"""Finds a class's name after its module's in the last line of a traceback."""
_unpacked: dict[str, Path] = {}
"""The directory of each archive, by its SHA-256."""
_unpacking = threading.Lock()
MINUTE, SHORT_MINUTE = 60, 2
"""Seconds between two runs of a rule that runs each minute: on AWS, and here."""
_give_up: ContextVar[float] = ContextVar("give_up", default=0.0)


async def over_tls(scope: Scope, receive: Channel, send: Channel) -> None:
    """Run MiniStack's ASGI application as if the connection used TLS."""
    if scope["type"] == "http":
        scope = {**scope, "scheme": "https"}
    await _plain(scope, receive, send)


def iam_action(service: str, *request: Any) -> str | None:
    """Return the IAM action that a request needs, such as `sqs:SendMessage`."""
    action: str | None = _iam_action(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def alarm(name: str, properties: dict[str, Any]) -> Any:
    """Return an alarm for MiniStack; an alarm on metric math becomes one on a metric that nobody writes."""
    if "Metrics" in properties:
        others = {key: value for key, value in properties.items() if key != "Metrics"}
        properties = {**others, "Namespace": "metric-math", "MetricName": name, "Period": 60, "Statistic": "Sum"}
    return _alarm(name, properties)


def role_with_boundary(change: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that creates or updates a role, so that the role gets the template's boundary, or none."""

    def changed(*given: Any, **options: Any) -> Any:
        result = change(*given, **options)
        properties = [each for each in given if isinstance(each, dict)][-1]
        iam._roles[result[0]]["PermissionsBoundary"] = properties.get("PermissionsBoundary")
        return result

    return changed


def run_sqs_batch(esm: dict[str, Any], function: Any, event: Any, batch: Any, queue_url: str, queue_name: str) -> None:
    """Invoke a queue's function with a batch; if it is throttled, retry while its messages are hidden."""
    visibility = float(sqs._queues[queue_url]["attributes"].get("VisibilityTimeout", 30))
    token = _give_up.set(time.monotonic() + visibility)
    try:
        _run_sqs_batch(esm, function, event, batch, queue_url, queue_name)
    finally:
        _give_up.reset(token)


def execute_function(function: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """Invoke a function. If it is throttled, retry for a queue, or for a caller that does not wait.

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

    `message` is the error's text. `log` is the function's output, which ends with a traceback with the exception's
    class before that text. A process that has died leaves no traceback: Lambda reports `Runtime.ExitError`.
    """
    if message == PROCESS_DIED:
        return "Runtime.ExitError"
    text = log.removesuffix("\n")
    heading = text.removesuffix(message).removesuffix(": ").rpartition("\n")[2] if text.endswith(message) else ""
    name = CLASS_NAME.fullmatch(heading)
    return name[1] if name else UNNAMED


def invoke_asynchronously(function: dict[str, Any], event: dict[str, Any]) -> None:
    """Invoke a function asynchronously; if it is throttled, retry for as long as Lambda keeps the event."""
    token = _give_up.set(time.monotonic() + ASYNCHRONOUS_SECONDS)
    try:  # the new thread runs in a copy of this context
        _invoke_async_with_retry(function, event)
    finally:
        _give_up.reset(token)


def dispatch_to_lambda(arn: str, payload: str) -> None:
    """Invoke the function of a rule asynchronously. If it does not exist, do nothing, as MiniStack does."""
    function, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if not function or not config:
        return
    invoke_asynchronously(lambda_svc._execution_record_for_config(function, config), json.loads(payload))


def provisioner(kind: str, create: Callable[..., Any], delete: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return handlers that let CloudFormation create and delete a resource with EventBridge's own operations."""

    def made(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        name = properties.get("Name") or f"{stack}-{logical_id}"
        status, _, body = create({**properties, "Name": name})
        if status >= 400:
            raise ValueError(f"{logical_id}: {body!r}")
        return name, {"Arn": json.loads(body)[f"{kind}Arn"]}

    return {"create": made, "delete": lambda name, properties: delete({"Name": name})}


def invalidate_worker(function: str, **scope: Any) -> None:
    """Stop the processes of an updated or deleted function: idle ones now, the others when they have finished.

    No new invocation uses them.
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
    """An archive that is unpacked once; each later target is a link to the first directory."""

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        """Make `path`, an empty directory, a link to the unpacked archive."""
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
    """Return the seconds between two runs of a rule; a rule that runs each minute runs more often here."""
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
