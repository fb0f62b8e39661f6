"""template.yaml against the design: its names and its limits."""

import re
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
import yaml

from posedrop.aws.places import Entry
from posedrop.aws.prepared_pictures import LONGEST_SECONDS
from posedrop.prepare.preparer import DECODE_SECONDS, MARGIN
from posedrop.settings import (
    DeliverSettings,
    DispatchSettings,
    IntakeSettings,
    PollSettings,
    PrepareSettings,
    Settings,
    SubmitSettings,
    SweepSettings,
)
from tests.support import ROOT


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref x` becomes {"Ref": "x"}."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    raise TypeError(f"unexpected node behind !{suffix}")


Loader.add_multi_constructor("!", _short_form)


@cache
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader)
    return loaded


def resources(kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: found.get("Properties", {}) for name, found in template()["Resources"].items() if found["Type"] == kind
    }


def default(parameter: str) -> Any:
    return template()["Parameters"][parameter].get("Default")


FUNCTIONS = {
    "intake": IntakeSettings,
    "dispatch": DispatchSettings,
    "prepare": PrepareSettings,
    "submit": SubmitSettings,
    "poll": PollSettings,
    "deliver": DeliverSettings,
    "sweep": SweepSettings,
}


def function(name: str) -> dict[str, Any]:
    return resources("AWS::Serverless::Function")[f"{name.capitalize()}Function"]


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SegmindApiKey", None),
        ("SegmindBaseUrl", "https://api.segmind.com"),
        ("SegmindRequestsPerMinute", 50),
        ("DefaultPrompt", ""),
        ("SettleSeconds", 5),
        ("TypicalInferenceSeconds", 31),
        ("JobTimeoutSeconds", 3000),
        ("ImageTransport", "presigned-url"),
        ("ExistingUploadBucket", ""),
        ("NotificationEmail", ""),
        ("DailyBudget", 0),
        ("MonthlyBudget", 0),
        ("AccountPauseSeconds", 900),
        ("RecordRetentionDays", 0),
        ("LogRetentionDays", 30),
        ("LogLevel", "INFO"),
    ],
)
def test_parameters_and_their_defaults(name: str, value: Any) -> None:
    assert default(name) == value


def test_every_parameter_is_described_used_and_grouped() -> None:
    body = (ROOT / "template.yaml").read_text(encoding="utf-8")
    for name, parameter in template()["Parameters"].items():
        assert parameter["Description"]
        assert re.search(rf"!(Ref {name}\b|Equals \[!Ref {name},)", body), name
    assert template()["Parameters"]["SegmindApiKey"]["NoEcho"] is True


def test_outputs() -> None:
    assert set(template()["Outputs"]) >= {
        "UploadBucketName",
        "OutputBucketName",
        "NotificationTopicArn",
        "JobStateMachineArn",
        "JobsTableName",
        "UploadQueueUrl",
        "SubmitQueueUrl",
        "DeadLetterQueueUrl",
    }


# ---- functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_environment_is_what_the_settings_read(name: str) -> None:
    shared = template()["Globals"]["Function"]["Environment"]["Variables"]
    given = {**shared, **function(name)["Environment"]["Variables"]}
    read = {field.name.upper() for field in fields(FUNCTIONS[name])}
    assert {variable for variable in given if not variable.startswith("POWERTOOLS_")} == read
    assert {field.name.upper() for field in fields(Settings)} == {v for v in shared if not v.startswith("POWERTOOLS_")}
    assert given["POWERTOOLS_SERVICE_NAME"] == name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_its_own_role_and_a_log_group_with_retention(name: str) -> None:
    properties = function(name)
    assert properties["Role"] == {"GetAtt": f"{name.capitalize()}Role.Arn"}
    group = resources("AWS::Logs::LogGroup")[properties["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert properties["CodeUri"] == f"functions/{name}"
    assert (ROOT / "functions" / name / "app.py").is_file()


def test_runtime() -> None:
    shared = template()["Globals"]["Function"]
    assert (shared["Runtime"], shared["Architectures"], shared["Tracing"]) == ("python3.13", ["arm64"], "Active")


@pytest.mark.parametrize(
    ("name", "event", "queue", "concurrency"),
    [("intake", "Uploads", "UploadQueue", 5), ("submit", "Jobs", "SubmitQueue", {"Ref": "SubmitConcurrency"})],
)
def test_a_deferred_message_is_no_error_and_many_at_once_are_bounded(
    name: str, event: str, queue: str, concurrency: Any
) -> None:
    source = function(name)["Events"][event]["Properties"]
    assert source["Queue"] == {"GetAtt": f"{queue}.Arn"}
    assert source["BatchSize"] == 1
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"]["MaximumConcurrency"] == concurrency
    assert template()["Parameters"]["SubmitConcurrency"]["MinValue"] >= 2  # the least that Lambda takes


def test_dispatch_runs_each_minute_and_is_not_repeated_when_it_fails() -> None:
    dispatch = function("dispatch")
    assert dispatch["Events"]["EachMinute"]["Properties"]["Schedule"] == "rate(1 minute)"
    assert dispatch["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
    assert dispatch["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"] == {
        "GetAtt": "EventDeadLetterQueue.Arn"
    }


@pytest.mark.parametrize("name", ["intake", "dispatch", "sweep"])
def test_functions_that_do_not_call_the_provider_are_not_reported_where_it_is(name: str) -> None:
    assert "SEGMIND_BASE_URL" not in function(name)["Environment"]["Variables"]
    assert "SEGMIND_BASE_URL" not in template()["Globals"]["Function"]["Environment"]["Variables"]


def test_every_role_has_the_permissions_boundary() -> None:
    wanted = {"If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]}
    roles = resources("AWS::IAM::Role")
    assert {f"{name.capitalize()}Role" for name in FUNCTIONS} < set(roles)
    assert all(role["PermissionsBoundary"] == wanted for role in roles.values())


# ---- queues --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["UploadQueue", "SubmitQueue"])
def test_a_deferred_message_is_received_as_often_as_needed(name: str) -> None:
    queue = resources("AWS::SQS::Queue")[name]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 1000
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"GetAtt": "DeadLetterQueue.Arn"}


def test_uploads_settle_before_they_are_read() -> None:
    assert resources("AWS::SQS::Queue")["UploadQueue"]["DelaySeconds"] == {"Ref": "SettleSeconds"}
    assert "DelaySeconds" not in resources("AWS::SQS::Queue")["SubmitQueue"]
    assert template()["Parameters"]["SettleSeconds"]["MaxValue"] <= 900  # the most that SQS takes


@pytest.mark.parametrize("name", ["UploadQueue", "SubmitQueue", "DeadLetterQueue", "EventDeadLetterQueue"])
def test_queues_keep_14_days_and_are_encrypted_so_that_eventbridge_can_send(name: str) -> None:
    queue = resources("AWS::SQS::Queue")[name]
    assert queue["MessageRetentionPeriod"] == 14 * 86400
    assert queue["SqsManagedSseEnabled"] is True
    assert "KmsMasterKeyId" not in queue


def test_a_message_is_hidden_for_six_times_the_functions_time() -> None:
    assert default("QueueVisibilitySeconds") >= 6 * default("SubmitTimeoutSeconds")
    assert function("submit")["Timeout"] == {"Ref": "SubmitTimeoutSeconds"}
    for name in ("UploadQueue", "SubmitQueue"):
        assert resources("AWS::SQS::Queue")[name]["VisibilityTimeout"] == {"Ref": "QueueVisibilitySeconds"}


def test_no_choice_hides_a_message_for_less_than_its_function_may_run() -> None:
    """Lambda refuses such a queue (developer guide, Amazon SQS), and the deployment would be rolled back."""
    parameters = template()["Parameters"]
    longest = max(parameters["SubmitTimeoutSeconds"]["MaxValue"], function("intake")["Timeout"])
    assert parameters["QueueVisibilitySeconds"]["MinValue"] >= longest


@pytest.mark.parametrize("rule", ["UploadRule", "ExecutionEndRule"])
def test_events_that_cannot_be_delivered_are_kept(rule: str) -> None:
    (target,) = resources("AWS::Events::Rule")[rule]["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == {"GetAtt": "EventDeadLetterQueue.Arn"}


def test_an_unreported_end_of_an_execution_invokes_deliver() -> None:
    pattern = resources("AWS::Events::Rule")["ExecutionEndRule"]["EventPattern"]
    assert set(pattern["detail"]["status"]) == {"FAILED", "TIMED_OUT", "ABORTED"}
    assert pattern["detail"]["stateMachineArn"] == [{"Ref": "JobStateMachine"}]


# ---- at rest and in transit ----------------------------------------------------------------------------------------


def tls_only(statements: list[dict[str, Any]]) -> bool:
    return any(
        statement["Effect"] == "Deny"
        and statement["Principal"] == "*"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}
        for statement in statements
    )


@pytest.mark.parametrize("name", ["UploadBucket", "OutputBucket"])
def test_buckets_are_private_encrypted_and_tls_only(name: str) -> None:
    bucket = resources("AWS::S3::Bucket")[name]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["LifecycleConfiguration"]["Rules"][0]["AbortIncompleteMultipartUpload"]
    rules = resources("AWS::S3::BucketPolicy")[f"{name}Policy"]
    assert rules["Bucket"] == {"Ref": name}
    (statement,) = rules["PolicyDocument"]["Statement"]
    assert tls_only([statement])
    assert statement["Action"] == "s3:*"
    assert len(statement["Resource"]) == 2


def test_the_upload_bucket_is_versioned_and_says_eventbridge() -> None:
    bucket = resources("AWS::S3::Bucket")["UploadBucket"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_queues_and_the_topic_are_tls_only() -> None:
    policies = resources("AWS::SQS::QueuePolicy")
    covered = {queue["Ref"] for found in policies.values() for queue in found["Queues"]}
    assert covered == set(resources("AWS::SQS::Queue"))
    for found in [*policies.values(), *resources("AWS::SNS::TopicPolicy").values()]:
        assert tls_only(found["PolicyDocument"]["Statement"])


def test_topic_and_table_are_encrypted_and_the_ledger_outlives_the_stack() -> None:
    assert resources("AWS::SNS::Topic")["NotificationTopic"]["KmsMasterKeyId"]
    table = resources("AWS::DynamoDB::Table")["JobsTable"]
    assert table["SSESpecification"]["SSEEnabled"] is True
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    keys = {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in table["GlobalSecondaryIndexes"]
    }
    assert keys == {
        "by-character": ["character", "created_at"],
        "by-day": ["day", "created_at"],
        "line": ["stands", "place"],
        "unfinished": ["unfinished", "unfinished_at"],
    }
    held = {
        index["IndexName"]: index["Projection"].get("NonKeyAttributes", []) for index in table["GlobalSecondaryIndexes"]
    }
    assert {name for name, attributes in held.items() if attributes} == {"line"}
    assert set(held["line"]) | {"job_id", "stands", "place"} == {field.name for field in fields(Entry)}
    for name in ("JobsTable", "UploadBucket", "OutputBucket"):
        assert template()["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert template()["Resources"][name]["UpdateReplacePolicy"] == "Retain"


# ---- the decoders ----------------------------------------------------------------------------------------------------


def test_the_decoders_are_for_the_function_s_platform_and_pinned() -> None:
    makefile = (ROOT / "layers" / "prepare" / "Makefile").read_text()
    shared = template()["Globals"]["Function"]
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[shared["Architectures"][0]]
    assert f"MACHINE := {machine}\n" in makefile
    assert f"PYTHON_VERSION := {shared['Runtime'].removeprefix('python')}\n" in makefile
    layer = resources("AWS::Serverless::LayerVersion")["PrepareLayer"]
    assert layer["CompatibleArchitectures"] == shared["Architectures"]
    assert layer["CompatibleRuntimes"] == [shared["Runtime"]]
    pins = (ROOT / "layers" / "prepare" / "requirements.txt").read_text()
    assert "--require-hashes" in makefile
    assert {line.partition("==")[0] for line in pins.splitlines() if line[0].isalpha()} == {"pillow", "pi-heif"}


def test_only_prepare_has_the_decoders() -> None:
    for name in FUNCTIONS:
        assert function(name).get("Layers", []) == ([{"Ref": "PrepareLayer"}] if name == "prepare" else [])


def test_prepare_has_a_whole_processor_and_less_time_than_it_is_waited_for() -> None:
    properties = function("prepare")
    assert (properties["MemorySize"], properties["Timeout"]) == (1769, 60)
    assert DECODE_SECONDS + MARGIN < properties["Timeout"] < LONGEST_SECONDS
