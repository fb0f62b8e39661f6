"""MiniStack, made to judge requests as AWS does: `GATEWAY_PORT=4566 python -m local.gateway`.

Four things would otherwise force a template that is wrong on AWS:
- The template's policies deny whatever does not come over TLS, and MiniStack evaluates them. Here, as behind a load
  balancer that ends TLS, the connection itself is plain; so its scheme is told to be https.
- MiniStack asks for a grant of sqs:SendMessageBatch, which IAM does not know: on AWS the batch calls of SQS need the
  grant of the single call (AWS SQS developer guide, Amazon SQS API permissions).
- MiniStack refuses alarms on metric math. Here such an alarm is made, and never goes off.
- MiniStack hides a message whose function is throttled until its visibility ends. Lambda goes on trying meanwhile (AWS
  Lambda developer guide, Amazon SQS: backoff strategy for failed invocations).
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import ministack.app  # type: ignore[import-untyped]
from ministack.core import iam_actions  # type: ignore[import-untyped]
from ministack.services import lambda_svc, sqs  # type: ignore[import-untyped]
from ministack.services.cloudformation import provisioners  # type: ignore[import-untyped]

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]

_plain = ministack.app.app
_iam_action = iam_actions.extract_iam_action
_alarm = provisioners._cw_metric_alarm_record
_run_sqs_batch = lambda_svc._run_sqs_batch
_execute_function = lambda_svc._execute_function

THROTTLED_SECONDS = 0.2
"""After which a throttled invocation is tried again."""
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


def run_sqs_batch(esm: dict[str, Any], function: Any, event: Any, batch: Any, queue_url: str, queue_name: str) -> None:
    """Invoke a queue's function with a batch, for as long as its messages are hidden."""
    visibility = float(sqs._queues[queue_url]["attributes"].get("VisibilityTimeout", 30))
    token = _give_up.set(time.monotonic() + visibility)
    try:
        _run_sqs_batch(esm, function, event, batch, queue_url, queue_name)
    finally:
        _give_up.reset(token)


def execute_function(function: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """Invoke a function; where a queue invokes it and it is throttled, again and again."""
    result: dict[str, Any] = _execute_function(function, event)
    while result.get("throttle") and time.monotonic() < _give_up.get():
        time.sleep(THROTTLED_SECONDS)
        result = _execute_function(function, event)
    return result


if __name__ == "__main__":
    ministack.app.app = over_tls
    iam_actions.extract_iam_action = iam_action
    provisioners._cw_metric_alarm_record = alarm
    lambda_svc._run_sqs_batch = run_sqs_batch
    lambda_svc._execute_function = execute_function
    ministack.app.main()
