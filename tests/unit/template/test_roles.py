"""The permissions of each role: everything that it uses, and nothing else."""

import ast
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest

from tests.cloudformation import ACCOUNT, REGION, Stack
from tests.support import ROOT

KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0"
OWN = f"{REGION}:{ACCOUNT}"
TABLE = f"arn:aws:dynamodb:{OWN}:table/JobsTable"
SECRET = f"arn:aws:secretsmanager:{OWN}:secret:SegmindSecret"
TOPIC = f"arn:aws:sns:{OWN}:NotificationTopic"
UPLOAD_QUEUE = f"arn:aws:sqs:{OWN}:UploadQueue"
SUBMIT_QUEUE = f"arn:aws:sqs:{OWN}:SubmitQueue"
DEAD_LETTERS = f"arn:aws:sqs:{OWN}:DeadLetterQueue"
EVENT_DEAD_LETTERS = f"arn:aws:sqs:{OWN}:EventDeadLetterQueue"
PREPARE = f"arn:aws:lambda:{OWN}:function:PrepareFunction"
POLL = f"arn:aws:lambda:{OWN}:function:PollFunction"
DISPATCH = f"arn:aws:lambda:{OWN}:function:DispatchFunction"
MACHINE = f"arn:aws:states:{OWN}:stateMachine:JobStateMachine"
EXECUTIONS = f"arn:aws:states:{OWN}:execution:JobStateMachine:*"
DELIVER = f"arn:aws:lambda:{OWN}:function:DeliverFunction"
TRACING = {"xray:PutTraceSegments": {"*"}, "xray:PutTelemetryRecords": {"*"}}


def logs(function: str) -> dict[str, set[str]]:
    """The grants for a function's own log group."""
    group = f"arn:aws:logs:{OWN}:log-group:/posedrop/posedrop/{function}:*"
    return {"logs:CreateLogStream": {group}, "logs:PutLogEvents": {group}}


READ_UPLOADS = {
    "s3:GetObject": {"arn:aws:s3:::UploadBucket/incoming/*"},
    "s3:GetObjectVersion": {"arn:aws:s3:::UploadBucket/incoming/*"},
    "s3:ListBucket": {"arn:aws:s3:::UploadBucket"},
    "s3:ListBucketVersions": {"arn:aws:s3:::UploadBucket"},
}
LEDGER = {
    f"dynamodb:{action}": {TABLE} for action in ("GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem")
}
ROLES: dict[str, dict[str, set[str]]] = {
    "IntakeRole": {
        **logs("intake"),
        **TRACING,
        **READ_UPLOADS,
        **LEDGER,
        "sqs:ReceiveMessage": {UPLOAD_QUEUE},  # with the next two: the event source
        "sqs:DeleteMessage": {UPLOAD_QUEUE},
        "sqs:GetQueueAttributes": {UPLOAD_QUEUE},
        "sqs:ChangeMessageVisibility": {UPLOAD_QUEUE},
        "sqs:SendMessage": {UPLOAD_QUEUE, SUBMIT_QUEUE, DEAD_LETTERS},
        "dynamodb:Query": {f"{TABLE}/index/line"},
        "states:StartExecution": {MACHINE},
        "states:DescribeExecution": {EXECUTIONS},
    },
    "DispatchRole": {
        **logs("dispatch"),
        **TRACING,
        "dynamodb:BatchGetItem": {TABLE},
        "dynamodb:UpdateItem": {TABLE},
        "dynamodb:Query": {f"{TABLE}/index/line"},
        "sqs:SendMessage": {SUBMIT_QUEUE, EVENT_DEAD_LETTERS},
        "secretsmanager:DescribeSecret": {SECRET},
    },
    "PrepareRole": {
        **logs("prepare"),
        **TRACING,
        **READ_UPLOADS,
        "s3:PutObject": {"arn:aws:s3:::OutputBucket/prepared/*"},
    },
    "SubmitRole": {
        **logs("submit"),
        **TRACING,
        **READ_UPLOADS,
        "s3:GetObject": {*READ_UPLOADS["s3:GetObject"], "arn:aws:s3:::OutputBucket/prepared/*"},
        "s3:ListBucket": {*READ_UPLOADS["s3:ListBucket"], "arn:aws:s3:::OutputBucket"},
        **LEDGER,
        "secretsmanager:GetSecretValue": {SECRET},
        "sqs:ReceiveMessage": {SUBMIT_QUEUE},  # with the next two: the event source
        "sqs:DeleteMessage": {SUBMIT_QUEUE},
        "sqs:GetQueueAttributes": {SUBMIT_QUEUE},
        "sqs:ChangeMessageVisibility": {SUBMIT_QUEUE},
        "sqs:SendMessage": {DEAD_LETTERS},
        "states:StartExecution": {MACHINE},
        "states:DescribeExecution": {EXECUTIONS},
        "lambda:InvokeFunction": {DISPATCH, PREPARE},
    },
    "PollRole": {
        **logs("poll"),
        **TRACING,
        "secretsmanager:GetSecretValue": {SECRET},
        "dynamodb:BatchGetItem": {TABLE},
        "dynamodb:UpdateItem": {TABLE},
    },
    "DeliverRole": {
        **logs("deliver"),
        **TRACING,
        "secretsmanager:GetSecretValue": {SECRET},
        "dynamodb:GetItem": {TABLE},
        "dynamodb:BatchGetItem": {TABLE},
        "dynamodb:UpdateItem": {TABLE},
        "s3:PutObject": {"arn:aws:s3:::OutputBucket/outputs/*"},
        "s3:AbortMultipartUpload": {"arn:aws:s3:::OutputBucket/outputs/*"},
        "sns:Publish": {TOPIC},
        "sqs:SendMessage": {EVENT_DEAD_LETTERS},  # the function's on-failure destination
    },
    "SweepRole": {
        **logs("sweep"),
        **TRACING,
        "dynamodb:GetItem": {TABLE},
        "dynamodb:UpdateItem": {TABLE},
        "dynamodb:Query": {f"{TABLE}/index/unfinished"},
        "sqs:SendMessage": {UPLOAD_QUEUE, SUBMIT_QUEUE, EVENT_DEAD_LETTERS},
        "states:ListExecutions": {MACHINE},
        "states:DescribeExecution": {EXECUTIONS},
        "lambda:InvokeFunction": {DELIVER},
        "sns:Publish": {TOPIC},
    },
    "JobStateMachineRole": {
        **TRACING,
        "xray:GetSamplingRules": {"*"},
        "xray:GetSamplingTargets": {"*"},
        "lambda:InvokeFunction": {POLL, DELIVER},
    },
}
WITH_KEY = {
    "IntakeRole": {"kms:Decrypt": {"s3", "dynamodb"}},
    "DispatchRole": {"kms:Decrypt": {"dynamodb"}},
    "PrepareRole": {"kms:Decrypt": {"s3"}, "kms:GenerateDataKey": {"s3"}},
    "SubmitRole": {"kms:Decrypt": {"s3", "dynamodb", "secretsmanager"}},
    "PollRole": {"kms:Decrypt": {"dynamodb", "secretsmanager"}},
    "DeliverRole": {"kms:Decrypt": {"s3", "dynamodb", "secretsmanager", "sns"}, "kms:GenerateDataKey": {"s3", "sns"}},
    "SweepRole": {"kms:Decrypt": {"dynamodb", "sns"}, "kms:GenerateDataKey": {"sns"}},
    "JobStateMachineRole": {},
}
"""What a key of the user's own adds, and through which services alone it may be used."""


@cache
def stack(key: str = "") -> Stack:
    """The stack under AWS's keys, or under a key of the user's own."""
    return Stack(KmsKeyArn=key)


def as_list(value: Any) -> list[Any]:
    """IAM takes one value for a list of one."""
    return value if isinstance(value, list) else [value]


def granted(role: str, key: str = "") -> dict[str, set[str]]:
    """The resources on which a role may do each action."""
    grants: dict[str, set[str]] = {}
    for statement in stack(key).statements(role):
        assert statement["Effect"] == "Allow"
        for action in as_list(statement["Action"]):
            grants.setdefault(action, set()).update(as_list(statement["Resource"]))
    return grants


def allowed(role: str, action: str, resource: str, key: str = "", **context: str) -> bool:
    """Whether a role may do something, as IAM decides it: no statement denies, so that one must allow."""
    return any(
        action in as_list(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        and all(
            operator.split(":")[-1] in ("StringEquals", "StringLike")
            and any(fnmatchcase(context.get(name.split(":")[1], ""), pattern) for pattern in as_list(patterns))
            for operator, tests in statement.get("Condition", {}).items()
            for name, patterns in tests.items()
        )
        for statement in stack(key).statements(role)
    )


@pytest.mark.parametrize("role", ROLES)
def test_roles_may_do_what_they_use_and_no_more(role: str) -> None:
    assert granted(role) == ROLES[role]


@pytest.mark.parametrize("role", ROLES)
def test_a_key_of_ones_own_adds_its_use_through_the_services_that_hold_the_data(role: str) -> None:
    added = {action: found for action, found in granted(role, KEY_ARN).items() if action not in ROLES[role]}
    assert added == {action: {KEY_ARN} for action in WITH_KEY[role]}
    services = {
        statement["Action"]: set(statement["Condition"]["StringEquals"]["kms:ViaService"])
        for statement in stack(KEY_ARN).statements(role)
        if statement["Resource"] == KEY_ARN
    }
    assert services == {
        action: {f"{name}.{REGION}.amazonaws.com" for name in names} for action, names in WITH_KEY[role].items()
    }


def test_there_is_no_other_role_and_no_managed_policy() -> None:
    roles = stack().of_type("AWS::IAM::Role")
    assert set(roles) == set(ROLES)
    assert all("ManagedPolicyArns" not in properties for properties in roles.values())
    assert not {kind for kind in ("Policy", "ManagedPolicy", "RolePolicy") if stack().of_type(f"AWS::IAM::{kind}")}


def test_each_role_is_assumed_by_its_service_alone() -> None:
    for name, properties in stack().of_type("AWS::IAM::Role").items():
        (statement,) = properties["AssumeRolePolicyDocument"]["Statement"]
        service = "states" if name == "JobStateMachineRole" else "lambda"
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}


@pytest.mark.parametrize("role", ROLES)
def test_a_resource_is_named_wherever_aws_lets_it_be_named(role: str) -> None:
    grants = granted(role, KEY_ARN)
    assert not [action for action in grants if "*" in action]
    # X-Ray's actions have no resources (service authorization reference, AWS X-Ray).
    assert all(action.startswith("xray:") for action, resources in grants.items() if "*" in resources)
    for resource in {resource for resources in grants.values() for resource in resources} - {"*"}:
        kind, name = resource.split(":", 5)[2], resource.split(":", 5)[5]
        # A wildcard stands only below a name of the stack's: a log group's streams, a machine's executions, a prefix.
        assert not name.startswith("*"), resource
        assert "*" not in name or (kind in ("logs", "states", "s3") and name.endswith("*") and name.count("*") == 1)


def test_a_grant_on_all_resources_says_why_beside_it() -> None:
    lines = (ROOT / "template.yaml").read_text(encoding="utf-8").splitlines()
    # A queue's or bucket's own policy is bound to it already.
    found = [line for line in lines if 'Resource: "*"' in line and "#" in line]
    bare = [line for line in lines if line.strip() == 'Resource: "*"']
    assert len(found) == 2
    assert len(bare) == 1


UPLOAD = "arn:aws:s3:::UploadBucket/incoming/hero/face.png"
OUTPUT = "arn:aws:s3:::OutputBucket/outputs/hero/walk/1.png"


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        ("IntakeRole", "secretsmanager:GetSecretValue", SECRET),
        ("IntakeRole", "s3:PutObject", UPLOAD),
        ("IntakeRole", "lambda:InvokeFunction", DISPATCH),
        ("DispatchRole", "secretsmanager:GetSecretValue", SECRET),
        ("DispatchRole", "dynamodb:DeleteItem", TABLE),
        ("DispatchRole", "s3:GetObject", UPLOAD),
        ("DispatchRole", "states:StartExecution", MACHINE),
        ("SubmitRole", "sqs:SendMessage", SUBMIT_QUEUE),
        ("SubmitRole", "dynamodb:Query", f"{TABLE}/index/line"),
        ("SubmitRole", "sns:Publish", TOPIC),
        ("SubmitRole", "s3:PutObject", UPLOAD),
        ("SubmitRole", "s3:DeleteObject", UPLOAD),
        ("SubmitRole", "s3:GetObject", "arn:aws:s3:::UploadBucket/elsewhere/face.png"),
        ("SubmitRole", "s3:PutObject", OUTPUT),
        ("SubmitRole", "s3:GetObject", OUTPUT),
        ("SubmitRole", "dynamodb:Scan", TABLE),
        ("SubmitRole", "lambda:InvokeFunction", DELIVER),
        ("PollRole", "s3:GetObject", UPLOAD),
        ("PollRole", "s3:PutObject", OUTPUT),
        ("PollRole", "sns:Publish", TOPIC),
        ("PollRole", "sqs:SendMessage", UPLOAD_QUEUE),
        ("PollRole", "dynamodb:PutItem", TABLE),
        ("PollRole", "dynamodb:DeleteItem", TABLE),
        ("PollRole", "states:StartExecution", MACHINE),
        ("DeliverRole", "s3:GetObject", UPLOAD),
        ("DeliverRole", "s3:GetObjectVersion", UPLOAD),
        ("DeliverRole", "s3:ListBucket", "arn:aws:s3:::UploadBucket"),
        ("DeliverRole", "s3:PutObject", UPLOAD),
        ("DeliverRole", "s3:PutObject", "arn:aws:s3:::OutputBucket/elsewhere/1.png"),
        ("DeliverRole", "s3:DeleteObject", OUTPUT),
        ("DeliverRole", "sqs:SendMessage", UPLOAD_QUEUE),
        ("DeliverRole", "dynamodb:DeleteItem", TABLE),
        ("DeliverRole", "states:StartExecution", MACHINE),
        ("SweepRole", "secretsmanager:GetSecretValue", SECRET),
        ("SweepRole", "s3:GetObject", UPLOAD),
        ("SweepRole", "s3:PutObject", OUTPUT),
        ("SweepRole", "dynamodb:Query", f"{TABLE}/index/by-character"),
        ("SweepRole", "dynamodb:Scan", TABLE),
        ("SweepRole", "dynamodb:DeleteItem", TABLE),
        ("SweepRole", "states:StartExecution", MACHINE),
        ("SweepRole", "states:DescribeExecution", f"arn:aws:states:{OWN}:execution:other:1"),
        ("SweepRole", "lambda:InvokeFunction", POLL),
        ("JobStateMachineRole", "lambda:InvokeFunction", f"arn:aws:lambda:{OWN}:function:SubmitFunction"),
        ("JobStateMachineRole", "sns:Publish", TOPIC),
    ],
)
def test_roles_lack_what_they_do_not_need(role: str, action: str, resource: str) -> None:
    assert not allowed(role, action, resource)


@pytest.mark.parametrize("role", ["IntakeRole", "DispatchRole", "SubmitRole", "PollRole", "DeliverRole", "SweepRole"])
def test_no_function_may_change_its_own_limits(role: str) -> None:
    services = {action.split(":")[0] for action in granted(role, KEY_ARN)}
    assert not services & {"iam", "sts", "cloudformation", "events", "cloudwatch"}
    assert "secretsmanager:PutSecretValue" not in granted(role)


def test_poll_sees_the_rate_limit_and_no_job() -> None:
    for action in ("dynamodb:BatchGetItem", "dynamodb:UpdateItem"):
        assert allowed("PollRole", action, TABLE, LeadingKeys="rate-limit")
        assert not allowed("PollRole", action, TABLE, LeadingKeys="hero-walk-0123456789abcdef")


@pytest.mark.parametrize("role", ["DeliverRole", "SweepRole"])
def test_who_notifies_may_put_events_on_that_bus_alone(role: str) -> None:
    def grants(stack: Stack) -> list[object]:
        return [found["Resource"] for found in stack.statements(role) if found["Action"] == "events:PutEvents"]

    assert grants(Stack()) == []
    assert grants(Stack(EventBusName="images")) == [f"arn:aws:events:{OWN}:event-bus/images"]


def test_deliver_reads_outputs_only_so_that_its_links_do() -> None:
    assert not [found for found in Stack().statements("DeliverRole") if "s3:GetObject" in as_list(found["Action"])]
    (found,) = (
        found for found in Stack(ResultLinkSeconds=60).statements("DeliverRole") if found["Sid"] == "LinkOutputs"
    )
    assert (found["Action"], found["Resource"]) == ("s3:GetObject", "arn:aws:s3:::OutputBucket/outputs/*")


def test_intake_reads_the_default_prompt_and_no_other_parameter() -> None:
    (statement,) = (
        found for found in Stack(DefaultPrompt="x").statements("IntakeRole") if found["Sid"] == "DefaultPrompt"
    )
    assert statement["Action"] == "ssm:GetParameter"
    assert statement["Resource"] == f"arn:aws:ssm:{OWN}:parameter/posedrop/posedrop/default-prompt"


@pytest.mark.parametrize("role", ["IntakeRole", "PrepareRole", "SubmitRole"])
@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:ListBucketVersions"])
@pytest.mark.parametrize("bucket", ["", "theirs"])
def test_it_is_seen_that_a_file_or_a_version_of_it_is_not_there(bucket: str, action: str, role: str) -> None:
    """S3 answers 404 to who may list the bucket, 403 to others; a GET has no prefix to hold against a condition."""
    statements = Stack(ExistingUploadBucket=bucket).statements(role)
    statement, *_ = (found for found in statements if action in as_list(found["Action"]))
    assert as_list(statement["Resource"]) == [f"arn:aws:s3:::{bucket or 'UploadBucket'}"]
    assert "Condition" not in statement


def test_submit_lists_of_the_other_bucket_the_prepared_pictures_alone() -> None:
    for action in ("s3:ListBucket", "s3:ListBucketVersions"):
        assert allowed("SubmitRole", action, "arn:aws:s3:::UploadBucket")
    outputs = [found for found in stack().statements("SubmitRole") if found["Resource"] == "arn:aws:s3:::OutputBucket"]
    (statement,) = outputs
    assert (statement["Action"], statement["Condition"]) == (
        "s3:ListBucket",
        {"StringLike": {"s3:prefix": "prepared/*"}},
    )


@pytest.mark.parametrize(
    ("role", "action", "service"),
    [
        ("SubmitRole", "kms:GenerateDataKey", "s3"),
        ("PollRole", "kms:Decrypt", "s3"),
        ("SweepRole", "kms:Decrypt", "secretsmanager"),
        ("DeliverRole", "kms:Encrypt", "s3"),
    ],
)
def test_roles_lack_what_they_do_not_need_of_a_key(role: str, action: str, service: str) -> None:
    assert not allowed(role, action, KEY_ARN, KEY_ARN, ViaService=f"{service}.{REGION}.amazonaws.com")


def test_a_key_may_not_be_used_directly() -> None:
    assert allowed("SubmitRole", "kms:Decrypt", KEY_ARN, KEY_ARN, ViaService=f"s3.{REGION}.amazonaws.com")
    assert not allowed("SubmitRole", "kms:Decrypt", KEY_ARN, KEY_ARN)


@pytest.mark.parametrize("role", ["IntakeRole", "PrepareRole", "SubmitRole"])
@pytest.mark.parametrize("prefix", ["incoming/", "clients/b/"])
def test_an_existing_bucket_is_read_below_the_contracts_prefix_alone(prefix: str, role: str) -> None:
    statements = Stack(ExistingUploadBucket="theirs", UploadPrefix=prefix).statements(role)
    buckets = {resource for found in statements for resource in as_list(found["Resource"]) if ":s3:" in resource}
    buckets = {resource for resource in buckets if "OutputBucket" not in resource}
    assert buckets == {f"arn:aws:s3:::theirs/{prefix}*", "arn:aws:s3:::theirs"}


@pytest.mark.parametrize(
    ("kind", "service"),
    [
        ("AWS::SQS::QueuePolicy", "events.amazonaws.com"),
        ("AWS::SNS::TopicPolicy", "cloudwatch.amazonaws.com"),
        ("AWS::S3::BucketPolicy", None),
    ],
)
def test_only_a_service_is_let_in_by_a_resource_and_only_for_this_stack_or_account(kind: str, service: str) -> None:
    found = [
        statement
        for properties in stack().of_type(kind).values()
        for statement in properties["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    assert {statement["Principal"]["Service"] for statement in found} == ({service} if service else set())
    for statement in found:
        (test,) = statement["Condition"].values()
        assert set(test) <= {"aws:SourceArn", "aws:SourceAccount"}


# ---- the code ------------------------------------------------------------------------------------------------------

CALLS = {
    "get_item": "dynamodb:GetItem",
    "batch_get_item": "dynamodb:BatchGetItem",
    "describe_secret": "secretsmanager:DescribeSecret",
    "put_item": "dynamodb:PutItem",
    "update_item": "dynamodb:UpdateItem",
    "delete_item": "dynamodb:DeleteItem",
    "put_object": "s3:PutObject",
    "upload_fileobj": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject",
    "publish": "sns:Publish",
    "start_execution": "states:StartExecution",
    "describe_execution": "states:DescribeExecution",
    "send_message": "sqs:SendMessage",
    "send_message_batch": "sqs:SendMessage",
    "change_message_visibility": "sqs:ChangeMessageVisibility",
    "get_secret": "secretsmanager:GetSecretValue",
}
SHARED = {
    "intake": [
        "items",
        "ledger",
        "record_table",
        "waiting_uploads",
        "executions",
        "submit_queue",
        "upload_bucket",
        "stored_uploads",
    ],
    "dispatch": ["items", "submit_queue"],
    "submit": ["api_key", "items", "ledger", "record_table", "executions", "upload_bucket", "stored_uploads"],
    "poll": ["api_key", "items"],
    "deliver": ["api_key", "items", "ended_jobs", "record_table", "output_bucket", "notifier"],
    "sweep": ["record_table", "notifier"],
}
"""The modules of the room `aws` that a function uses besides the room of its own name."""
LATENCY = {"submit", "deliver"}


@pytest.mark.parametrize("name", SHARED)
def test_every_call_that_a_function_makes_is_granted(name: str) -> None:
    package = ROOT / "layers" / "posedrop" / "posedrop"
    shared = [package / "aws" / f"{module}.py" for module in SHARED[name]]
    paths = [*(package / name).glob("*.py"), *shared]
    if name in LATENCY:
        paths.append(package / "gate" / "latency.py")
    calls = {
        node.func.attr
        for path in [*paths, ROOT / "functions" / name / "app.py"]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    needed = {action for call, action in CALLS.items() if call in calls}
    assert needed
    assert needed <= set(ROLES[f"{name.capitalize()}Role"])
