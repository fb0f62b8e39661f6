"""Check what a deployment may lack: an update, or the confirmation of a subscription."""

from botocore.exceptions import ClientError

from ops.inspect.problem import Problem
from ops.stack import Stack
from posedrop.contract.version import VERSION

TOPICS = {"NotificationTopicArn": "NotificationEmail", "AlarmTopicArn": "AlarmEmail"}
"""The outputs that name a topic, and the parameters that name its e-mail address."""
PENDING = "PendingConfirmation"
"""The ARN that SNS lists for an unconfirmed subscription (API reference, ListSubscriptionsByTopic)."""


def deployment_problems(stack: Stack) -> list[Problem]:
    """Return the problems of the deployment. Errors of SNS other than a refusal pass as botocore's."""
    return [*_old(stack), *_unconfirmed(stack)]


def _old(stack: Stack) -> list[Problem]:
    deployed = stack.outputs.get("Version")
    if deployed is not None and numbers(deployed) >= numbers(VERSION):
        return []
    running = f"version {deployed}" if deployed else "a version without a number"
    return [Problem(f"the stack is {running}, this clone is {VERSION}", "sam build && sam deploy")]


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version like 1.10.2, so that versions can be compared."""
    return tuple(int(number) for number in version.split("."))


def _unconfirmed(stack: Stack) -> list[Problem]:
    found = []
    for output, parameter in TOPICS.items():
        topic = stack.outputs.get(output)
        if topic is None:
            continue
        try:
            pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
            subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            text = f"the subscriptions of {topic.rpartition(':')[2]} cannot be read: {code}"
            found.append(Problem(text, "allow sns:ListSubscriptionsByTopic: docs/security.md, Operators"))
            continue
        confirmed = {each["Endpoint"] for each in subscriptions if each["SubscriptionArn"].startswith("arn:")}
        # SNS deletes an unconfirmed subscription after some days: then only the parameter shows it.
        wanted = [stack.parameters.get(parameter, "")]
        wanted += [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] == PENDING]
        for endpoint in dict.fromkeys(filter(None, wanted)):
            if endpoint not in confirmed:
                again = stack.aws("sns", "subscribe", "--topic-arn", topic, *_endpoint(endpoint))
                text = f"the subscription of {endpoint} was never confirmed, so nothing is sent there"
                found.append(Problem(text, f"follow the link in the e-mail from AWS, or request a new one: {again}"))
    return found


def _endpoint(endpoint: str) -> list[str]:
    protocol = endpoint.partition("://")[0] if "://" in endpoint else "email"
    return ["--protocol", protocol, "--notification-endpoint", endpoint]
