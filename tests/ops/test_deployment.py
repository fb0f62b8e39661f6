"""What status says of a deployment that somebody did not finish."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ops.inspect.deployment import deployment_problems
from ops.stack import Stack
from posedrop.contract.version import VERSION
from tests.integration.conftest import Pipeline

Ask = Callable[..., Any]


@pytest.mark.parametrize(
    ("deployed", "old"), [(VERSION, False), ("99.0.0", False), ("0.0.9", True), ("0.0.10", True), (None, True)]
)
def test_a_stack_that_is_older_than_the_clone_is_named(stack: Stack, deployed: str | None, old: bool) -> None:
    outputs = {name: value for name, value in stack.outputs.items() if name != "Version"}
    found = deployment_problems(replace(stack, outputs=outputs | ({"Version": deployed} if deployed else {})))
    assert len(found) == old
    assert all(problem.next_step == "sam build && sam deploy" for problem in found)


def test_the_version_is_shown(ask: Ask, run: Ask) -> None:
    assert ask("status")["version"] == VERSION
    assert VERSION in run("status").stdout


def pending(pipeline: Pipeline, topic: str, *subscriptions: tuple[str, str]) -> None:
    """Let SNS list these subscriptions, of an endpoint and an ARN each: moto confirms each mail by itself."""

    def listed(params: dict[str, Any], **_: Any) -> Any:
        found = [{"Endpoint": endpoint, "SubscriptionArn": arn} for endpoint, arn in subscriptions]
        asked = params["body"]["TopicArn"] == topic
        return SimpleNamespace(status_code=200), {"Subscriptions": found if asked else []}

    pipeline.hook("sns", "ListSubscriptionsByTopic", listed)


ARN = "arn:aws:sns:eu-central-1:123456789012:notifications:1"
MAIL = "you@example.com"


@pytest.mark.parametrize(
    ("parameter", "subscriptions", "count"),
    [
        ("", [], 0),
        (MAIL, [(MAIL, ARN)], 0),
        (MAIL, [(MAIL, "PendingConfirmation")], 1),
        (MAIL, [], 1),  # nobody confirmed it in time, and SNS has forgotten it
        (MAIL, [(MAIL, "Deleted")], 1),
        ("", [("https://example.com/hook", "PendingConfirmation")], 1),
        (MAIL, [(MAIL, ARN), ("b@example.com", "PendingConfirmation")], 1),
    ],
)
def test_a_subscription_that_was_never_confirmed_is_named(
    pipeline: Pipeline, stack: Stack, parameter: str, subscriptions: list[tuple[str, str]], count: int
) -> None:
    pending(pipeline, stack.output("NotificationTopicArn"), *subscriptions)
    stack = replace(stack, parameters={**stack.parameters, "NotificationEmail": parameter})
    found = deployment_problems(stack)
    assert len(found) == count
    assert all("never confirmed" in problem.what and "aws sns subscribe" in problem.next_step for problem in found)


def test_subscriptions_that_may_not_be_read_are_said_to_be_so(pipeline: Pipeline, stack: Stack) -> None:
    pipeline.break_call("sns", "ListSubscriptionsByTopic", "AuthorizationError")
    assert {"AuthorizationError" in problem.what for problem in deployment_problems(stack)} == {True}
