"""Every example of docs/subscribers.md, run as it stands there, on notifications that the pipeline has published."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest
from moto.events.models import EventPattern

from posedrop.aws.channels import DETAIL_TYPES, SOURCE
from posedrop.aws.notifier import email
from posedrop.contract.notification import Notification
from tests.docs.documents import Call, aws_commands, call, document
from tests.integration.conftest import REGION, Pipeline, environment, pipeline, provider
from tests.support import ROOT, Context, image, load_event

__all__ = ["environment", "pipeline", "provider"]

DOCUMENT = document(ROOT / "docs" / "subscribers.md")
ACCOUNT = "123456789012"
NAMES = {
    "TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:notifications",
    "QUEUE_ARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:character-images",
    "QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/character-images",
    "FUNCTION_NAME": "gallery",
    "FUNCTION_ARN": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:gallery",
}
FOLDERS = ["hero", "villain", "client-a/hero", "client-a/villain"]


def named(text: str, **more: str) -> str:
    """A text of the document with real names in place of the words in capitals."""
    for word, name in {**NAMES, **more}.items():
        text = re.sub(rf"\b{word}\b", name, text)
    return text


def calls(heading: str, **more: str) -> list[Call]:
    """The commands under a heading."""
    files = {"policy.json": named("".join(DOCUMENT.under("SQS", "json")))}
    lines = [line for text in DOCUMENT.under(heading, "sh") for line in text.replace("\\\n", " ").splitlines()]
    found = [call(named(command, **more), files) for command in aws_commands(lines)]
    return [each for each in found if each]


def do(made: Call) -> Any:
    """Make a call."""
    return getattr(boto3.client(made.service), made.operation)(**made.arguments)  # type: ignore[call-overload]


def python(heading: str) -> dict[str, Any]:
    """What the Python under a heading defines."""
    (source,) = DOCUMENT.under(heading, "python")
    assert "boto3" in source
    scope: dict[str, Any] = {}
    exec(compile(source.replace("WaitTimeSeconds=20", "WaitTimeSeconds=0"), DOCUMENT.name, "exec"), scope)
    return scope


@pytest.fixture
def queue(pipeline: Pipeline) -> Callable[[], list[dict[str, Any]]]:
    """The queue of the document, without its subscription; takes its messages."""
    create, allow, _ = calls("SQS")
    NAMES["QUEUE_URL"] = do(create)["QueueUrl"]
    do(calls("SQS")[1])
    assert allow.operation == "set_queue_attributes"
    return lambda: pipeline.receive(NAMES["QUEUE_URL"])


def run_jobs(pipeline: Pipeline) -> None:
    """One job of each folder: the villains' are blocked by the provider, the others succeed."""
    for folder in FOLDERS:
        colour = "white" if folder.endswith("hero") else "black"
        files = [(f"incoming/{folder}/face.png", image("png", (10, 10), colour))]
        files += [(f"incoming/{folder}/poses/walk.png", image("png", (12, 8), colour))]
        pipeline.upload(*files)
        (execution,) = [found for found in pipeline.executions().values() if found["character"] == folder]
        good = pipeline.provider.results
        if folder.endswith("villain"):
            pipeline.provider.results = [httpx.Response(422, json={"status": "FAILED", "error": "blocked"})]
        pipeline.run(execution)
        pipeline.provider.results = good


# ---- SQS -------------------------------------------------------------------------------------------------------------


def test_a_queue_gets_each_end_and_the_consumer_reads_it(pipeline: Pipeline, queue: Any) -> None:
    do(calls("SQS")[-1])
    run_jobs(pipeline)
    received: list[dict[str, Any]] = []
    python("SQS")["consume"](NAMES["QUEUE_URL"], received.append)
    assert [(each["character"], each["status"]) for each in received] == [
        ("hero", "SUCCEEDED"),
        ("villain", "FAILED"),
        ("client-a/hero", "SUCCEEDED"),
        ("client-a/villain", "FAILED"),
    ]
    assert queue() == []


def test_the_consumer_keeps_what_it_could_not_handle(pipeline: Pipeline, queue: Any) -> None:
    do(calls("SQS")[-1])
    run_jobs(pipeline)
    with pytest.raises(ZeroDivisionError):
        python("SQS")["consume"](NAMES["QUEUE_URL"], lambda _: 1 / 0)
    attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=NAMES["QUEUE_URL"], AttributeNames=["All"])
    counts = attributes["Attributes"]
    assert int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"]) == 4


def test_the_queue_s_policy_lets_this_topic_send_to_it_alone() -> None:
    _, allow, _ = calls("SQS")
    (statement,) = json.loads(allow.arguments["Attributes"]["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == NAMES["QUEUE_ARN"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": NAMES["TOPIC_ARN"]}}


def test_raw_delivery(pipeline: Pipeline, queue: Any) -> None:
    (subscribe,) = calls("Raw delivery")
    do(subscribe)
    run_jobs(pipeline)
    first, second, *_ = queue()
    assert json.loads(first["Body"])["status"] == "SUCCEEDED"
    attributes = {name: value["StringValue"] for name, value in second["MessageAttributes"].items()}
    assert attributes == {"status": "FAILED", "character": "villain", "error_type": "InferenceFailed"}


def test_raw_delivery_of_a_subscription_that_there_is(pipeline: Pipeline, queue: Any) -> None:
    arn = do(calls("SQS")[-1])["SubscriptionArn"]
    (command,) = aws_commands([span for span in DOCUMENT.spans if "RawMessageDelivery" in span])
    change = call(named(command, SUBSCRIPTION_ARN=arn))
    assert change
    do(change)
    run_jobs(pipeline)
    assert json.loads(queue()[0]["Body"])["character"] == "hero"


# ---- filters ---------------------------------------------------------------------------------------------------------

HEROES = [("hero", "SUCCEEDED"), ("client-a/hero", "SUCCEEDED")]
VILLAINS = [("villain", "FAILED"), ("client-a/villain", "FAILED")]


@pytest.mark.parametrize(
    ("heading", "number", "expected"),
    [
        ("Only failures", 0, VILLAINS),
        ("Only failures", 1, []),
        ("Only this character", 0, HEROES[:1]),
        ("Only this character", 1, HEROES[1:]),
    ],
)
def test_a_filter_policy_lets_through_what_the_document_says(
    pipeline: Pipeline, queue: Any, heading: str, number: int, expected: list[tuple[str, str]]
) -> None:
    do(calls(heading, SUBSCRIPTION_ARN="x")[number])
    run_jobs(pipeline)
    received = [json.loads(json.loads(message["Body"])["Message"]) for message in queue()]
    assert [(each["character"], each["status"]) for each in received] == expected


def test_the_named_kinds_of_failure_get_through(pipeline: Pipeline, queue: Any) -> None:
    do(calls("Only failures")[1])
    pipeline.provider.submits = [httpx.Response(504)]
    pipeline.upload(("incoming/hero/face.png", image()), ("incoming/hero/poses/walk.png", image("png", (9, 9))))
    while pipeline.later:
        pipeline.resume()
    pipeline.run_all()
    (message,) = queue()
    assert json.loads(json.loads(message["Body"])["Message"])["error"]["type"] == "SubmitOutcomeUnknown"


def test_the_policy_in_the_text_lets_through_all_that_needs_somebody(pipeline: Pipeline, queue: Any) -> None:
    (policy,) = [span for span in DOCUMENT.spans if "anything-but" in span]
    arn = do(calls("SQS")[-1])["SubscriptionArn"]
    boto3.client("sns").set_subscription_attributes(
        SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue=policy
    )
    run_jobs(pipeline)
    assert len(queue()) == len(VILLAINS)


# ---- Lambda ----------------------------------------------------------------------------------------------------------


def test_the_function_copies_the_images_however_often_it_is_reported(
    pipeline: Pipeline, queue: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    do(calls("SQS")[-1])
    run_jobs(pipeline)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="gallery", CreateBucketConfiguration={"LocationConstraint": REGION})
    monkeypatch.setenv("GALLERY", "gallery")
    # What SNS hands to a function is the envelope that a queue gets.
    envelopes = [json.loads(message["Body"]) for message in queue()]
    event = {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": envelope} for envelope in envelopes]}
    handler = python("Lambda")["handler"]
    for _ in range(2):
        handler(copy.deepcopy(event), Context())
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="gallery")["Contents"]]
    assert keys == ["client-a/hero/walk-1.png", "hero/walk-1.png"]
    copied = s3.get_object(Bucket="gallery", Key="hero/walk-1.png")["Body"].read()
    assert copied == image("png", (16, 12), "green")
    assert "InferenceFailed blocked" in capsys.readouterr().out


def test_the_function_is_subscribed(pipeline: Pipeline) -> None:
    permit, subscribe = calls("Lambda")
    client = boto3.client("lambda")
    client.create_function(
        FunctionName=NAMES["FUNCTION_NAME"],
        Role=f"arn:aws:iam::{ACCOUNT}:role/job",
        Runtime="python3.13",
        Handler="app.handler",
        Code={"ZipFile": b""},
    )
    do(permit)
    (statement,) = json.loads(client.get_policy(FunctionName=NAMES["FUNCTION_NAME"])["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert statement["Condition"] == {"ArnLike": {"AWS:SourceArn": NAMES["TOPIC_ARN"]}}
    arn = do(subscribe)["SubscriptionArn"]
    attributes = boto3.client("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert (attributes["Protocol"], attributes["Endpoint"]) == ("lambda", NAMES["FUNCTION_ARN"])


# ---- EventBridge -----------------------------------------------------------------------------------------------------


def test_the_rule_of_the_document_takes_what_it_says() -> None:
    (text,) = DOCUMENT.under("EventBridge", "json")
    pattern = EventPattern.load(text)
    for status, kind in DETAIL_TYPES.items():
        for character in ("client-a/hero", "client-b/hero"):
            detail = {**load_event("notification.json"), "status": status, "character": character}
            wanted = status != "SUCCEEDED" and character == "client-a/hero"
            assert pattern.matches_event({"source": SOURCE, "detail-type": kind, "detail": detail}) == wanted


# ---- e-mail ----------------------------------------------------------------------------------------------------------


def test_mail_is_subscribed_and_reads_as_shown(pipeline: Pipeline) -> None:
    (subscribe,) = calls("E-mail")
    assert do(subscribe)["SubscriptionArn"]
    (text,) = DOCUMENT.under("E-mail", "text")
    assert text.strip() == email(Notification(**load_event("notification.json")))


def test_every_example_is_run_here() -> None:
    tried = {"SQS", "Raw delivery", "Only failures", "Only this character", "Lambda", "E-mail"}
    assert {block.heading for block in DOCUMENT.blocks if block.language in ("sh", "python")} == tried
