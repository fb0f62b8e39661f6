"""Which stack a command acts on: the one that was named, or the local one, never another; and how errors look."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, NoCredentialsError
from click.testing import CliRunner, Result

from ops import stack
from ops.cli import commands as cli
from ops.errors import UnclearTarget
from ops.stack import Target

REGION = "eu-central-1"
STACK = {
    "StackId": f"arn:aws:cloudformation:{REGION}:123456789012:stack/mine/1",
    "Parameters": [{"ParameterKey": "SegmindRequestsPerMinute", "ParameterValue": "50"}],
    "Outputs": [{"OutputKey": "UploadQueueUrl", "OutputValue": "https://sqs/uploads"}],
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stack is named by this machine, and none is up."""
    monkeypatch.delenv("POSEDROP_STACK", raising=False)
    monkeypatch.setattr(stack, "LOCAL_STATE", tmp_path / "stack.json")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account with a stack `mine`, of which nothing but CloudFormation answers."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)

    def answer(client: object, operation: str, arguments: dict[str, str]) -> dict[str, Any]:
        assert operation == "DescribeStacks"
        if arguments["StackName"] == "mine":
            return {"Stacks": [STACK]}
        raise ClientError({"Error": {"Code": "ValidationError", "Message": "does not exist"}}, operation)

    monkeypatch.setattr(BaseClient, "_make_api_call", answer)


def run(*words: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli.main, words)


@pytest.mark.parametrize(
    ("target", "environment", "up", "named"),
    [
        (Target(stack="a"), "b", True, "a"),
        (Target(local=True), "b", True, "LOCAL"),
        (Target(local=True), None, False, "LOCAL"),
        (Target(), "b", True, "b"),
        (Target(), None, True, "LOCAL"),
        (Target(stack="a", profile="p", region="r"), None, True, "a"),
        (Target(stack="x/stack.json"), None, False, "x/stack.json"),
    ],
)
def test_the_stack_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: Target, environment: str | None, up: bool, named: str
) -> None:
    state = tmp_path / "stack.json"
    if up:
        state.touch()
    if environment:
        monkeypatch.setenv("POSEDROP_STACK", environment)
    assert target.named() == named.replace("LOCAL", str(state))


@pytest.mark.parametrize(
    ("target", "up"),
    [
        (Target(), False),
        (Target(profile="p"), True),
        (Target(region="r"), True),
        (Target(stack="a", local=True), True),
        (Target(local=True, profile="p"), True),
    ],
)
def test_what_is_not_clear_is_not_guessed(tmp_path: Path, target: Target, up: bool) -> None:
    state = tmp_path / "stack.json"
    if up:
        state.touch()
    with pytest.raises(UnclearTarget):
        target.named()


@pytest.mark.parametrize(
    ("target", "ours", "of_aws"),
    [
        (Target(), "", ""),
        (Target(local=True), "--local ", ""),
        (Target(stack="mine"), "--stack mine ", ""),
        (
            Target(stack="mine", profile="p q", region="r"),
            "--stack mine --profile 'p q' --region r ",
            " --profile 'p q' --region r",
        ),
    ],
)
def test_a_next_step_names_the_stack_as_it_was_named(target: Target, ours: str, of_aws: str) -> None:
    found = stack.Stack("mine", REGION, {}, {}, client=lambda service: None, target=target)
    assert found.command("explain", "a b") == f".venv/bin/python -m ops {ours}explain 'a b'"
    assert found.aws("s3", "ls") == f"aws s3 ls{of_aws}"


@pytest.mark.usefixtures("aws")
def test_a_stack_that_is_found_remembers_how_it_was_named() -> None:
    target = Target(stack="mine", region=REGION)
    assert stack.find(target).target == target


@pytest.mark.usefixtures("aws")
def test_a_stack_is_found_by_its_name() -> None:
    found = stack.find(Target(stack="mine", region=REGION))
    assert found.output("UploadQueueUrl") == "https://sqs/uploads"
    assert found.parameter("SegmindRequestsPerMinute") == "50"
    assert str(found) == "mine in eu-central-1, account 123456789012"


@pytest.mark.usefixtures("aws")
def test_the_region_of_the_environment_is_the_aws_clis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_REGION", REGION)
    assert stack.find(Target(stack="mine")).client("sqs").meta.region_name == REGION
    assert stack.find(Target(stack="mine", region="us-east-1")).client("sqs").meta.region_name == "us-east-1"


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["status"], 2, "Error: no stack is named: use --stack NAME, or start a local one: make up"),
        (["--stack", "other", "status", "--region", REGION], 3, f"Error: there is no stack other in {REGION}"),
        (
            ["status", "--stack", "mine", "--region", REGION],
            1,
            "Error: the stack mine has no output JobsTableName",
        ),
        (
            ["status", "--stack", "mine"],
            1,
            "Error: the region of mine is not known: use --region NAME, or a --profile with a region",
        ),
        (["status", "--stack", "mine", "--profile", "none"], 1, "Error: The config profile (none) could not be found"),
        (["status", "--local"], 3, "start the local stack with make up"),
        (["status", "--local", "--stack", "mine"], 2, "Error: --local and --stack name two stacks"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(words: list[str], code: int, line: str) -> None:
    result = run(*words)
    assert result.exit_code == code
    assert line in result.stderr.splitlines()[-1]
    assert result.stdout == ""


@pytest.mark.usefixtures("aws")
def test_missing_credentials_name_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_credentials(client: object, operation: str, arguments: object) -> None:
        raise NoCredentialsError

    monkeypatch.setattr(BaseClient, "_make_api_call", without_credentials)
    result = run("status", "--stack", "mine", "--region", REGION)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: there are no AWS credentials: use --profile NAME")


def test_a_local_stack_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)  # between the attempts
    state = tmp_path / "stack.json"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region": "us-east-1"}
    state.write_text(json.dumps({"outputs": {}, "endpoint_url": "http://127.0.0.1:9", **keys}))
    result = run("status", "--stack", str(state))
    assert result.exit_code == 1
    assert "does not respond: start it with make up" in result.stderr


@pytest.mark.parametrize("text", ["{}", "[]", "7", '{"region": "r"}', "not json"])
def test_a_file_that_is_no_state(tmp_path: Path, text: str) -> None:
    state = tmp_path / "stack.json"
    state.write_text(text)
    result = run("status", "--stack", str(state))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "stack.json" in line


def test_a_picture_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.png")
    for words in (("upload", missing, missing), ("dry-run", missing, missing)):
        assert run(*words).exit_code == 2


def test_the_help_names_the_exit_codes() -> None:
    result = run("--help")
    for code in (*range(7), 130):
        assert f"\n    {code}  " in result.stdout
