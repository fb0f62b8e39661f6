"""The template's parameters: the questions, the effects of a key and of retentions, the outputs."""

import re
import tomllib
from typing import Any

import pytest
from samcli.commands.deploy import guided_context
from samcli.commands.deploy.guided_context import GuidedContext

from posedrop.contract.prepared import LIFETIME, PREFIX
from posedrop.contract.times import DAY
from tests.cloudformation import ACCOUNT, REGION, Stack, source
from tests.support import ROOT

KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PARAMETERS: dict[str, dict[str, Any]] = source()["Parameters"]
INTERFACE = source()["Metadata"]["AWS::CloudFormation::Interface"]


# ---- what a newcomer is asked --------------------------------------------------------------------------------------


def test_every_parameter_is_in_one_group_and_labelled() -> None:
    grouped = [name for group in INTERFACE["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    assert set(INTERFACE["ParameterLabels"]) == set(PARAMETERS)
    assert list(PARAMETERS) == grouped  # sam asks in this order


def test_labels_are_questions_in_plain_words() -> None:
    for name, label in INTERFACE["ParameterLabels"].items():
        assert label["default"].endswith("?"), name
        assert name not in label["default"]


def test_guided_deployment_needs_an_answer_for_the_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def enter(text: str, default: object = None, **_: object) -> object:
        """Press Enter, where there is a default to take."""
        if default is None:
            asked.append(text.split()[-1])
            return "SG_0"
        return default

    monkeypatch.setattr(guided_context, "prompt", enter)
    given = GuidedContext.prompt_parameters(GuidedContext.__new__(GuidedContext), PARAMETERS, {}, "", "")
    assert asked == ["SegmindApiKey"]
    assert set(given) == set(PARAMETERS)
    Stack(**{name: answer["Value"] for name, answer in given.items()})


def test_what_is_refused_is_refused_with_a_reason() -> None:
    for name, parameter in PARAMETERS.items():
        bounds = {"AllowedPattern", "MinValue", "MaxValue", "MinLength", "MaxLength"} & set(parameter)
        assert bounds or "AllowedValues" in parameter, name
        assert ("ConstraintDescription" in parameter) == bool(bounds), name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("SegmindApiKey", ["SG_0123456789abcdef"], ["", "SG_ 0", "SG_0\n"]),
        ("NotificationEmail", ["", "a@example.com"], ["a@example", "a@example.com,b@example.com extra", "example.com"]),
        ("AlarmEmail", ["", "on.call+aws@example.co.uk"], ["nobody"]),
        (
            "UploadPrefix",
            ["incoming/", "a/", "clients/_b-2/drop.in/", "9/"],
            [
                "",
                "/",
                "incoming",
                "/in/",
                "in//x/",
                "../",
                "in/../",
                "in/./",
                ".in/",
                "in/.x/",
                "a b/",
                "ü/",
                "a*/",
                'a"/',
            ],
        ),
        ("ExistingUploadBucket", ["", "my-bucket.2"], ["s3://my-bucket", "My-Bucket", "my-bucket/incoming", "ab"]),
        ("KmsKeyArn", ["", KEY_ARN, KEY_ARN.replace("aws:", "aws-us-gov:", 1)], ["alias/mine", KEY_ARN[8:], "key"]),
        ("CorsOrigins", ["", "https://app.example.com", "http://localhost:3000"], ["app.example.com", "https://a/b"]),
        ("EventBusName", ["", "default", "team/images.v2"], ["a bus", "arn:aws:events:x"]),
        (
            "PermissionsBoundary",
            ["", f"arn:aws:iam::{ACCOUNT}:policy/path/Bound_1", "arn:aws-cn:iam::aws:policy/PowerUserAccess"],
            ["Bound", f"arn:aws:iam::{ACCOUNT}:role/Bound", f"arn:aws:iam::{ACCOUNT}:policy/"],
        ),
        (
            "SegmindBaseUrl",
            ["https://api.segmind.com", "http://127.0.0.1:9000"],
            ["", "api.segmind.com", "https://a/v1"],
        ),
        ("SegmindHistoryUrl", ["", "https://api.segmind.com"], ["off"]),
    ],
)
def test_patterns(name: str, good: list[str], bad: list[str]) -> None:
    pattern = re.compile(PARAMETERS[name]["AllowedPattern"])
    assert all(pattern.fullmatch(value) for value in good)
    assert not any(pattern.fullmatch(value) for value in bad)


@pytest.mark.parametrize("bucket", ["", "theirs"])
def test_the_prefix_of_uploads_is_the_one_of_rule_and_intake(bucket: str) -> None:
    stack = Stack(UploadPrefix="clients/b/", ExistingUploadBucket=bucket)
    variables = stack.properties("IntakeFunction")["Environment"]["Variables"]
    assert variables["UPLOAD_PREFIX"] == "clients/b/"
    pattern = stack.properties("UploadRule")["EventPattern"]["detail"]["object"]["key"]
    # Of our own bucket all keys, so that a stray upload gets its log line; of a shared one only ours.
    assert pattern == [{"prefix": "clients/b/" if bucket else ""}]


def test_the_default_prompt_is_kept_where_there_is_room_for_it() -> None:
    """Lambda allows 4 KB for a function's whole environment, in which the longest prompt would not fit."""
    stack = Stack(DefaultPrompt="a prompt")
    store = stack.properties("DefaultPromptParameter")
    assert (store["Type"], store["Value"]) == ("String", "a prompt")
    for found in stack.of_type("AWS::Lambda::Function").values():
        assert "a prompt" not in str(found["Environment"])
    intake = stack.properties("IntakeFunction")["Environment"]["Variables"]
    assert intake["DEFAULT_PROMPT_PARAMETER"] == "DefaultPromptParameter"


def test_without_a_default_prompt_there_is_nothing_to_keep() -> None:
    assert "DefaultPromptParameter" not in Stack().resources  # the store takes no empty text
    assert Stack().properties("IntakeFunction")["Environment"]["Variables"]["DEFAULT_PROMPT_PARAMETER"] == ""
    assert "ssm:" not in str(Stack().statements("IntakeRole"))


@pytest.mark.parametrize("environment", ["default", "prod"])
def test_samconfig_names_only_parameters_that_there_are(environment: str) -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))[environment]
    assert config["global"]["parameters"]["stack_name"]
    deploy = config["deploy"]["parameters"]
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    given = dict(item.split("=", 1) for item in deploy.get("parameter_overrides", "").split())
    assert set(given) <= set(PARAMETERS)
    assert "SegmindApiKey" not in given
    Stack(**given)


def test_production_asks_before_it_changes_and_keeps_logs_for_longer() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))["prod"]["deploy"]["parameters"]
    given = dict(item.split("=", 1) for item in config["parameter_overrides"].split())
    assert config["confirm_changeset"] is True
    assert int(given["LogRetentionDays"]) in PARAMETERS["LogRetentionDays"]["AllowedValues"]
    assert int(given["LogRetentionDays"]) > PARAMETERS["LogRetentionDays"]["Default"]


# ---- a key of one's own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "aws", "own"),
    [
        (
            "UploadBucket",
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
            {
                "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY_ARN},
                "BucketKeyEnabled": True,
            },
        ),
        (
            "OutputBucket",
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
            {
                "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY_ARN},
                "BucketKeyEnabled": True,
            },
        ),
    ],
)
def test_buckets_are_encrypted_under_the_key(name: str, aws: dict[str, Any], own: dict[str, Any]) -> None:
    for key, expected in (("", aws), (KEY_ARN, own)):
        found = Stack(KmsKeyArn=key).properties(name)["BucketEncryption"]
        assert found == {"ServerSideEncryptionConfiguration": [expected]}


@pytest.mark.parametrize(
    ("name", "property_name", "aws"),
    [
        ("NotificationTopic", "KmsMasterKeyId", "alias/aws/sns"),
        ("SegmindSecret", "KmsKeyId", None),
        ("IntakeLogGroup", "KmsKeyId", None),
        ("DispatchLogGroup", "KmsKeyId", None),
        ("SubmitLogGroup", "KmsKeyId", None),
        ("PollLogGroup", "KmsKeyId", None),
        ("DeliverLogGroup", "KmsKeyId", None),
        ("SweepLogGroup", "KmsKeyId", None),
    ],
)
def test_topic_secret_and_logs_are_encrypted_under_the_key(name: str, property_name: str, aws: str | None) -> None:
    assert Stack().properties(name).get(property_name) == aws
    assert Stack(KmsKeyArn=KEY_ARN).properties(name)[property_name] == KEY_ARN


def test_the_table_is_encrypted_under_the_key() -> None:
    assert Stack().properties("JobsTable")["SSESpecification"] == {"SSEEnabled": True}
    assert Stack(KmsKeyArn=KEY_ARN).properties("JobsTable")["SSESpecification"] == {
        "SSEEnabled": True,
        "SSEType": "KMS",
        "KMSMasterKeyId": KEY_ARN,
    }


def test_what_an_aws_service_writes_into_does_not_depend_on_the_keys_policy() -> None:
    own = Stack(KmsKeyArn=KEY_ARN)
    for queue in own.of_type("AWS::SQS::Queue").values():  # EventBridge
        assert queue["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in queue
    assert "KmsMasterKeyId" not in own.properties("AlarmTopic")  # CloudWatch


def test_without_a_key_the_template_grants_none() -> None:
    assert "kms:" not in str([Stack().statements(role) for role in Stack().of_type("AWS::IAM::Role")])


def test_a_boundary_bounds_every_role_that_is_made_those_of_the_transform_too() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:policy/bound"
    assert not any("PermissionsBoundary" in role for role in Stack().of_type("AWS::IAM::Role").values())
    bound = Stack(PermissionsBoundary=arn).of_type("AWS::IAM::Role").values()
    assert {role["PermissionsBoundary"] for role in bound} == {arn}


def test_web_pages_are_let_in_only_if_they_are_named() -> None:
    origins = ["https://app.example.com", "http://localhost:3000"]
    for bucket, methods in (("UploadBucket", ["POST", "PUT"]), ("OutputBucket", ["GET", "HEAD"])):
        assert "CorsConfiguration" not in Stack().properties(bucket)
        (rule,) = Stack(CorsOrigins=origins).properties(bucket)["CorsConfiguration"]["CorsRules"]
        assert (rule["AllowedOrigins"], rule["AllowedMethods"]) == (origins, methods)


# ---- how long things are kept --------------------------------------------------------------------------------------


def rules(stack: Stack, bucket: str) -> dict[str, dict[str, Any]]:
    """A bucket's lifecycle rules by their ids, without that of the prepared pictures."""
    found = {rule["Id"]: rule for rule in stack.properties(bucket)["LifecycleConfiguration"]["Rules"]}
    found.pop("prepared", None)
    return found


@pytest.mark.parametrize("bucket", ["UploadBucket", "OutputBucket"])
def test_zero_days_keep_and_unfinished_uploads_go_after_a_day(bucket: str) -> None:
    for rule in rules(Stack(), bucket).values():
        assert "ExpirationInDays" not in rule
        assert rule["Status"] == "Enabled"
    assert rules(Stack(), bucket)["abort-incomplete-uploads"]["AbortIncompleteMultipartUpload"] == {
        "DaysAfterInitiation": 1
    }


@pytest.mark.parametrize(
    ("parameter", "bucket", "other"),
    [("UploadRetentionDays", "UploadBucket", "OutputBucket"), ("OutputRetentionDays", "OutputBucket", "UploadBucket")],
)
def test_each_bucket_has_its_own_retention(parameter: str, bucket: str, other: str) -> None:
    stack = Stack(**{parameter: 30})
    (days,) = (rule["ExpirationInDays"] for rule in rules(stack, bucket).values() if "ExpirationInDays" in rule)
    assert days == 30
    assert not any("ExpirationInDays" in rule for rule in rules(stack, other).values())


def test_prepared_pictures_go_after_30_days_and_are_made_again_before_that() -> None:
    for days in (0, 7):
        found = Stack(OutputRetentionDays=days).properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
        (rule,) = [rule for rule in found if rule["Id"] == "prepared"]
        assert rule == {"Id": "prepared", "Status": "Enabled", "Prefix": PREFIX, "ExpirationInDays": 30}
        assert LIFETIME < 30 * DAY
        assert all(other.get("Prefix") == "outputs/" for other in found if other["Id"] == "outputs")


def test_old_versions_of_uploads_go_after_a_day() -> None:
    rule = rules(Stack(), "UploadBucket")["old-versions"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rule["ExpiredObjectDeleteMarker"] is True


def test_an_existing_bucket_is_left_as_it_is() -> None:
    stack = Stack(ExistingUploadBucket="theirs", UploadRetentionDays=30)
    assert set(stack.of_type("AWS::S3::Bucket")) == {"OutputBucket"}
    assert set(stack.of_type("AWS::S3::BucketPolicy")) == {"OutputBucketPolicy"}


# ---- what is published with it -------------------------------------------------------------------------------------


def test_the_application_repository_gets_all_it_asks_for() -> None:
    found = source()["Metadata"]["AWS::ServerlessRepo::Application"]
    # Limits: AWS Serverless Application Repository, API reference, CreateApplication.
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,140}", found["Name"])
    assert 1 <= len(found["Description"]) <= 256
    assert re.fullmatch(r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", found["Author"])
    assert len(found["Author"]) <= 127
    assert found["SpdxLicenseId"] == "MIT"
    assert (ROOT / found["LicenseUrl"]).read_text(encoding="utf-8").startswith("MIT License")
    assert (ROOT / found["ReadmeUrl"]).is_file()
    assert 1 <= len(found["Labels"]) <= 10
    assert all(re.fullmatch(r"[a-zA-Z0-9+_:/@-]{1,127}", label) for label in found["Labels"])
