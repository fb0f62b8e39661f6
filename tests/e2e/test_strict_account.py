"""A stack in an account that bounds every role: deployed, a job run, a denial by the boundary, deleted."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.deploy import STACK_NAME
from local.pipeline import Inbox, drop, wait_for
from local.stack import LocalStack
from tests.support import HANGS, ROOT, SAMPLES

POLICY = "bound"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
PREFIX = "clients/strict/"
NO_TABLE = {"Effect": "Deny", "Action": "dynamodb:*", "Resource": "*"}


def document(*statements: dict[str, str]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


class StrictStack(LocalStack):
    """A stack under a permissions boundary, with a bus: both were there before it."""

    def _deploy(self, template: Path, env: Mapping[str, str]) -> None:
        arn = self.client("iam").create_policy(PolicyName=POLICY, PolicyDocument=document(ALL))["Policy"]["Arn"]
        self.client("events").create_event_bus(Name="images")
        self.parameters |= {"PermissionsBoundary": arn, "EventBusName": "images"}
        super()._deploy(template, env)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Such a stack, with web pages let in and a prefix of its own."""
    parameters: dict[str, str | int] = {
        "SettleSeconds": 1,
        "CorsOrigins": "https://app.example.com",
        "UploadPrefix": PREFIX,
    }
    with StrictStack(tmp_path_factory.mktemp("strict"), parameters=parameters, emulator=["--latency", "1"]) as stack:
        yield stack


def dispatch(stack: LocalStack) -> dict[str, Any]:
    """Invoke dispatch, which reads the table; return its answer and its error."""
    answer = stack.client("lambda").invoke(FunctionName=stack.resource("DispatchFunction"), Payload=b"{}")
    return {"error": answer.get("FunctionError"), "text": answer["Payload"].read().decode()}


def test_a_bounded_stack_runs_a_job_and_the_boundary_denies(strict: LocalStack) -> None:
    roles = [role for role in strict.client("iam").list_roles()["Roles"] if role["RoleName"].startswith(STACK_NAME)]
    arns = [
        strict.client("iam").get_role(RoleName=role["RoleName"])["Role"]["PermissionsBoundary"][
            "PermissionsBoundaryArn"
        ]
        for role in roles
    ]
    assert len(arns) >= 7
    assert {arn.rpartition("/")[2] for arn in arns} == {POLICY}
    assert strict.outputs["Version"]

    recipe = (ROOT / "docs" / "recipes" / "queue.yaml").read_text(encoding="utf-8")
    strict.client("cloudformation").create_stack(
        StackName="recipe",
        TemplateBody=recipe,
        Parameters=[{"ParameterKey": "EventBusName", "ParameterValue": "images"}],
    )
    strict.client("cloudformation").get_waiter("stack_create_complete").wait(
        StackName="recipe", WaiterConfig={"Delay": 1}
    )
    (found,) = strict.client("cloudformation").describe_stacks(StackName="recipe")["Stacks"]
    queue = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}["QueueUrl"]
    inbox = Inbox(strict)
    drop(strict, f"{PREFIX}hero/face.png", SAMPLES / "face-astronaut.png")
    drop(strict, f"{PREFIX}hero/poses/walk.png", SAMPLES / "pose-cameraman.png", prompt="walking")
    (notified,) = wait_for(lambda: inbox.receive() or None, "the notification", HANGS)
    assert notified["status"] == "SUCCEEDED"
    assert notified["inputs"]["face"]["key"] == f"{PREFIX}hero/face.png"
    assert strict.layout.prefix == PREFIX
    events = wait_for(
        lambda: strict.client("sqs").receive_message(QueueUrl=queue).get("Messages"), "the recipe's message", HANGS
    )
    assert [json.loads(event["Body"]) for event in events] == [notified]

    assert dispatch(strict)["error"] is None
    strict.client("iam").create_policy_version(
        PolicyArn=strict.parameters["PermissionsBoundary"], PolicyDocument=document(ALL, NO_TABLE), SetAsDefault=True
    )
    denied = dispatch(strict)
    assert denied["error"]
    assert "AccessDenied" in denied["text"]

    cloudformation = strict.client("cloudformation")
    cloudformation.delete_stack(StackName=STACK_NAME)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK_NAME, WaiterConfig={"Delay": 1})
