"""The operator's command on the pipeline of the integration tests."""

import json
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from ops.cli import commands as cli
from ops.inspect.triggers import MAPPINGS, RULES
from ops.stack import Stack
from posedrop.contract.version import VERSION
from tests.integration.conftest import BUCKET, OUTPUTS, REGION, TABLE, Pipeline, environment, pipeline, provider
from tests.support import image

__all__ = ["environment", "pipeline", "provider"]

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.png", image("png", (9, 9), "gray"))

PARAMETERS = {
    "SegmindBaseUrl": "SEGMIND_BASE_URL",
    "SegmindRequestsPerMinute": "SEGMIND_REQUESTS_PER_MINUTE",
    "LimitCounts": "LIMIT_COUNTS",
    "DailyBudget": "DAILY_BUDGET",
    "MonthlyBudget": "MONTHLY_BUDGET",
    "SettleSeconds": "SETTLE_SECONDS",
    "TypicalInferenceSeconds": "TYPICAL_INFERENCE_SECONDS",
    "JobTimeoutSeconds": "JOB_TIMEOUT_SECONDS",
    "SubmitTimeoutSeconds": "SUBMIT_TIMEOUT_SECONDS",
    "RecordRetentionDays": "RECORD_RETENTION_DAYS",
    "PrepareImages": "PREPARE_IMAGES",
    "UploadPrefix": "UPLOAD_PREFIX",
}

ALARM_TOPIC = f"arn:aws:sns:{REGION}:123456789012:alarms"

Run = Callable[..., Result]


@pytest.fixture
def notifications(pipeline: Pipeline) -> dict[str, Any]:
    """The upload bucket's notification configuration: moto leaves EventBridge out."""
    configuration: dict[str, Any] = {"EventBridgeConfiguration": {}}
    answer = (SimpleNamespace(status_code=200), configuration)
    pipeline.hook("s3", "GetBucketNotificationConfiguration", lambda **_: answer)
    return configuration


@pytest.fixture
def account(pipeline: Pipeline) -> dict[str, Any]:
    """What Lambda says of the account; empty: it may not be read."""
    found = {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}}
    refused = (SimpleNamespace(status_code=403), {"Error": {"Code": "AccessDenied", "Message": "by the test"}})
    pipeline.hook(
        "lambda", "GetAccountSettings", lambda **_: (SimpleNamespace(status_code=200), found) if found else refused
    )
    return found


@pytest.fixture
def triggers(pipeline: Pipeline) -> dict[str, str]:
    """The states of the rules and mappings by their logical ids; of others, an error's code."""
    states = {**dict.fromkeys(RULES, "ENABLED"), **dict.fromkeys(MAPPINGS, "Enabled")}

    def state(params: dict[str, Any], **_: Any) -> Any:
        (name,) = [name for name in states if name in f"{params['url_path']} {params['body']!r}"]
        if states[name].lower().startswith(("enabl", "disabl")):
            return SimpleNamespace(status_code=200), {"State": states[name]}
        return SimpleNamespace(status_code=400), {"Error": {"Code": states[name], "Message": "by the test"}}

    pipeline.hook("events", "DescribeRule", state)
    pipeline.hook("lambda", "GetEventSourceMapping", state)
    return states


@pytest.fixture
def stack(
    pipeline: Pipeline,
    notifications: dict[str, Any],
    account: dict[str, Any],
    triggers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stack:
    """The pipeline as the operator's stack; every command finds it."""
    undelivered = pipeline.sqs.create_queue(QueueName="undelivered")["QueueUrl"]

    def resource(params: dict[str, Any], **_: Any) -> Any:
        asked = params["body"]["LogicalResourceId"]
        # A mapping's id has 36 characters.
        known = {**{name: name for name in RULES}, **{name: name.ljust(36, "-") for name in MAPPINGS}}
        found = {"PhysicalResourceId": known.get(asked, undelivered)}
        return SimpleNamespace(status_code=200), {"StackResourceDetail": found}

    pipeline.hook("cloudformation", "DescribeStackResource", resource)
    found = Stack(
        name="posedrop",
        region=REGION,
        account="123456789012",
        outputs={
            "UploadBucketName": BUCKET,
            "OutputBucketName": OUTPUTS,
            "JobsTableName": TABLE,
            "UploadQueueUrl": pipeline.queue_url,
            "SubmitQueueUrl": pipeline.submit_queue_url,
            "DeadLetterQueueUrl": pipeline.dead_letter_url,
            "JobStateMachineArn": os.environ["STATE_MACHINE_ARN"],
            "SweepFunctionName": "sweep",
            "AlarmTopicArn": boto3.client("sns").create_topic(Name="alarms")["TopicArn"],
            "NotificationTopicArn": os.environ["NOTIFICATION_TOPIC_ARN"],
            "Version": VERSION,
        },
        parameters={
            **{name: os.environ[variable] for name, variable in PARAMETERS.items()},
            "SubmitConcurrency": "10",
            "LogRetentionDays": "14",
            "DefaultPrompt": pipeline.intake.default_prompt(),
        },
        client=boto3.client,
        created_at=pipeline.clock() - 3 * 86400,
        clock=pipeline.clock,
        sleep=pipeline.clock.sleep,
    )
    monkeypatch.setattr("ops.cli.shell.find", lambda target: found)
    return found


@pytest.fixture
def run(stack: Stack) -> Run:
    """Run a command line: `run("jobs", "--json")`. `code` is the exit code that is expected, `answer` what is typed."""

    def invoke(*words: str, code: int = 0, answer: str | None = None) -> Result:
        result = CliRunner(mix_stderr=False).invoke(cli.main, words, input=answer)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return result

    return invoke


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Run a command line with --json, and return what it says."""
    return lambda *words, code=0: json.loads(run(*words, "--json", code=code).stdout)
