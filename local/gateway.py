"""MiniStack, made to judge requests as AWS does: `GATEWAY_PORT=4566 python -m local.gateway`.

Three things would otherwise force a template that is wrong on AWS:
- The template's policies deny whatever does not come over TLS, and MiniStack evaluates them. Here, as behind a load
  balancer that ends TLS, the connection itself is plain; so its scheme is told to be https.
- MiniStack asks for a grant of sqs:SendMessageBatch, which IAM does not know: on AWS the batch calls of SQS need the
  grant of the single call (AWS SQS developer guide, Amazon SQS API permissions).
- MiniStack refuses alarms on metric math. Here such an alarm is made, and never goes off.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app  # type: ignore[import-untyped]
from ministack.core import iam_actions  # type: ignore[import-untyped]
from ministack.services.cloudformation import provisioners  # type: ignore[import-untyped]

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]

_plain = ministack.app.app
_iam_action = iam_actions.extract_iam_action
_alarm = provisioners._cw_metric_alarm_record


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


if __name__ == "__main__":
    ministack.app.app = over_tls
    iam_actions.extract_iam_action = iam_action
    provisioners._cw_metric_alarm_record = alarm
    ministack.app.main()
