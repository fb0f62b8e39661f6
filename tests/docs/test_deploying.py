"""docs/deploying.md: the deploying role's actions follow from the template; its workflow and files are sound."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.cloudformation import Stack, source
from tests.docs.documents import document
from tests.support import ROOT

DOCUMENT = document(ROOT / "docs" / "deploying.md")
ALL_OPTIONS = {
    "DefaultPrompt": "walking",
    "NotificationEmail": "a@example.com",
    "AlarmEmail": "a@example.com",
    "PermissionsBoundary": "arn:aws:iam::123456789012:policy/bound",
    "KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/0",
    "UploadRetentionDays": 30,
}


def actions(service: str, *names: str) -> set[str]:
    return {f"{service}:{name}" for name in names}


NEEDED = {
    "AWS::CloudWatch::Alarm": actions(
        "cloudwatch", "PutMetricAlarm", "DeleteAlarms", "DescribeAlarms", "TagResource", "ListTagsForResource"
    ),
    "AWS::CloudWatch::Dashboard": actions("cloudwatch", "PutDashboard", "DeleteDashboards", "GetDashboard"),
    "AWS::DynamoDB::Table": actions(
        *("dynamodb", "CreateTable", "DeleteTable", "DescribeTable", "UpdateTable", "DescribeTimeToLive"),
        *("UpdateTimeToLive", "DescribeContinuousBackups", "UpdateContinuousBackups", "TagResource"),
        "ListTagsOfResource",
    ),
    "AWS::Events::Rule": actions(
        "events", "PutRule", "DeleteRule", "DescribeRule", "PutTargets", "RemoveTargets", "TagResource"
    ),
    "AWS::IAM::Role": actions(
        *("iam", "CreateRole", "DeleteRole", "GetRole", "UpdateAssumeRolePolicy", "PutRolePolicy", "GetRolePolicy"),
        *("DeleteRolePolicy", "PassRole", "TagRole", "PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary"),
    ),
    "AWS::Lambda::EventInvokeConfig": actions(
        *("lambda", "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig"),
        *("GetFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig"),
    ),
    "AWS::Lambda::EventSourceMapping": actions(
        *("lambda", "CreateEventSourceMapping", "DeleteEventSourceMapping", "GetEventSourceMapping"),
        "UpdateEventSourceMapping",
    ),
    "AWS::Lambda::Function": actions(
        *("lambda", "CreateFunction", "DeleteFunction", "GetFunction", "GetFunctionConfiguration"),
        *("UpdateFunctionCode", "UpdateFunctionConfiguration", "ListTags", "TagResource"),
    ),
    "AWS::Lambda::LayerVersion": actions("lambda", "PublishLayerVersion", "DeleteLayerVersion", "GetLayerVersion"),
    "AWS::Lambda::Permission": actions("lambda", "AddPermission", "RemovePermission", "GetPolicy"),
    "AWS::Logs::LogGroup": actions(
        *("logs", "CreateLogGroup", "DeleteLogGroup", "DescribeLogGroups", "PutRetentionPolicy", "AssociateKmsKey"),
        *("DisassociateKmsKey", "TagResource", "ListTagsForResource"),
    ),
    "AWS::S3::Bucket": actions(
        *("s3", "CreateBucket", "DeleteBucket", "PutBucketNotification", "GetBucketNotification"),
        *("PutBucketVersioning", "GetBucketVersioning", "PutEncryptionConfiguration", "GetEncryptionConfiguration"),
        *("PutLifecycleConfiguration", "GetLifecycleConfiguration", "PutBucketPublicAccessBlock"),
        *("GetBucketPublicAccessBlock", "PutBucketOwnershipControls", "GetBucketOwnershipControls"),
        *("PutBucketTagging", "GetBucketTagging", "PutBucketCORS", "GetBucketCORS"),
    ),
    "AWS::S3::BucketPolicy": actions("s3", "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"),
    "AWS::SNS::Subscription": actions("sns", "Subscribe", "Unsubscribe", "GetSubscriptionAttributes"),
    "AWS::SNS::Topic": actions(
        "sns", "CreateTopic", "DeleteTopic", "GetTopicAttributes", "SetTopicAttributes", "TagResource"
    )
    | {"sns:ListTagsForResource", "sns:ListSubscriptionsByTopic"},
    "AWS::SNS::TopicPolicy": actions("sns", "SetTopicAttributes"),
    "AWS::SQS::Queue": actions(
        "sqs", "CreateQueue", "DeleteQueue", "GetQueueAttributes", "SetQueueAttributes", "TagQueue", "ListQueueTags"
    )
    | {"sqs:GetQueueUrl"},
    "AWS::SQS::QueuePolicy": actions("sqs", "SetQueueAttributes"),
    "AWS::SSM::Parameter": actions(
        *("ssm", "PutParameter", "DeleteParameter", "GetParameter", "GetParameters", "AddTagsToResource"),
        "ListTagsForResource",
    ),
    "AWS::SecretsManager::Secret": actions(
        *("secretsmanager", "CreateSecret", "DeleteSecret", "DescribeSecret", "PutSecretValue", "UpdateSecret"),
        "TagResource",
    ),
    "AWS::StepFunctions::StateMachine": actions(
        *("states", "CreateStateMachine", "DeleteStateMachine", "DescribeStateMachine", "UpdateStateMachine"),
        *("TagResource", "ListTagsForResource"),
    ),
}
"""What CloudFormation calls to create, update, read and delete each type, by the types' pages in the CloudFormation
template reference and the services' pages in the service authorization reference."""
OF_THE_KEY = {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"}
"""What a KmsKeyArn needs: DynamoDB makes a grant, Secrets Manager encrypts as the caller."""
OF_THE_CLI = {
    *actions("cloudformation", "CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet"),
    *actions("cloudformation", "DescribeStacks", "DescribeStackEvents", "DescribeStackResource", "DeleteStack"),
    *actions("cloudformation", "GetTemplate", "GetTemplateSummary", "ListStackResources"),
    *actions("s3", "GetObject", "PutObject", "ListBucket"),  # the artifacts
}
"""What `sam deploy` and `sam delete` call themselves."""


def statements() -> list[dict[str, Any]]:
    (policy, *_) = DOCUMENT.under("The deploying role", "json")
    found: list[dict[str, Any]] = json.loads(policy)["Statement"]
    return found


def test_the_options_turn_all_resources_on() -> None:
    made = Stack(**ALL_OPTIONS).resources
    conditional = {name for name, resource in source()["Resources"].items() if "Condition" in resource}
    assert conditional
    assert conditional <= set(made)


def test_the_deploying_role_may_do_what_the_template_s_resources_need_and_no_more() -> None:
    types = {resource["Type"] for resource in Stack(**ALL_OPTIONS).resources.values()}
    assert types == set(NEEDED), "a type of resource without its actions, or one that there is no more"
    wanted = set().union(*NEEDED.values()) | OF_THE_KEY | OF_THE_CLI
    assert {action for statement in statements() for action in statement["Action"]} == wanted


def test_a_role_is_only_passed_to_the_services_that_use_one() -> None:
    (passing,) = [statement for statement in statements() if "iam:PassRole" in statement["Action"]]
    trusted = {
        statement["Principal"]["Service"]
        for role in Stack().of_type("AWS::IAM::Role").values()
        for statement in role["AssumeRolePolicyDocument"]["Statement"]
    }
    assert passing["Action"] == ["iam:PassRole"]
    assert set(passing["Condition"]["StringEquals"]["iam:PassedToService"]) == trusted


def test_the_workflow_stores_no_credentials() -> None:
    (text,) = DOCUMENT.under("From GitHub, without stored credentials", "yaml")
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert workflow["permissions"] == {}
    assert "secrets." not in text
    (policy,) = DOCUMENT.under("From GitHub, without stored credentials", "json")
    (statement,) = json.loads(policy)["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    conditions = statement["Condition"]["StringEquals"]
    assert conditions["token.actions.githubusercontent.com:sub"].endswith(":ref:refs/heads/main")


def test_the_parameters_of_the_file_are_the_template_s() -> None:
    (text,) = DOCUMENT.under("The key without a command line", "yaml")
    assert set(yaml.safe_load(text)) <= set(source()["Parameters"])


@pytest.mark.parametrize("environment", ["default", "prod"])
def test_every_deployment_is_tagged(environment: str) -> None:
    text = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
    (section,) = re.findall(rf"\[{environment}\.deploy\.parameters\]\n(.*?)(?:\n\[|\Z)", text, re.DOTALL)
    assert 'tags = "application=posedrop"' in section
