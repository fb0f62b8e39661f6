"""The gateway of a chaos run, as boto3 meets it: a real MiniStack, with faults of AWS's own."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.processes import Process, free_port, responds

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The services' URL."""
    directory = tmp_path_factory.mktemp("gateway")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = Process(directory / "pid", directory / "log")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    settings = {
        **{"AUTH": "false", "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)},
        **{"MINISTACK_REGION": REGION, "IOT_MTLS_ENABLED": "0", "DOCKER_HOST": "unix:///nonexistent"},
        **{"TMPDIR": str(directory), "NO_PROXY": "127.0.0.1"},
    }
    process.start([sys.executable, "-m", "local.chaos.gateway"], ROOT, {**kept, **settings})
    try:
        process.wait_until(partial(responds, f"{url}/_ministack/health"), "MiniStack", 60)
        yield url
    finally:
        process.stop()


@pytest.fixture
def faults(endpoint: str) -> Iterator[Callable[..., Any]]:
    """Set the gateway's faults; they end with the test."""

    def setter(**faults: float) -> None:
        httpx.post(f"{endpoint}/_chaos/faults", json=faults, trust_env=False).raise_for_status()

    yield setter
    setter()


def client(endpoint: str, service: str) -> Any:
    """A client that repeats a call at once."""
    session: Any = boto3.session.Session()
    return session.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}, retries={"total_max_attempts": 2}),
    )


def test_a_conditional_write_whose_reply_is_lost_ends_as_a_failed_condition(
    endpoint: str, faults: Callable[..., Any]
) -> None:
    dynamodb = client(endpoint, "dynamodb")
    dynamodb.create_table(
        TableName="jobs",
        KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"job_id": {"S": "hero"}, "owner": {"S": "me"}}
    faults(lost_replies=1)
    with pytest.raises(ClientError) as caught:
        dynamodb.put_item(TableName="jobs", Item=item, ConditionExpression="attribute_not_exists(job_id)")
    assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert dynamodb.get_item(TableName="jobs", Key={"job_id": {"S": "hero"}})["Item"] == item


def test_a_message_that_was_deleted_is_delivered_again(endpoint: str, faults: Callable[..., Any]) -> None:
    sqs = client(endpoint, "sqs")
    url = sqs.create_queue(QueueName="uploads")["QueueUrl"]
    faults(twice=1, twice_seconds=0)
    sent = sqs.send_message(QueueUrl=url, MessageBody="one")["MessageId"]
    received = []
    for _ in range(3):
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            received.append(message["MessageId"])
    assert received == [sent, sent]


def test_a_message_that_is_late_is_delivered_after_the_next_one(endpoint: str, faults: Callable[..., Any]) -> None:
    sqs = client(endpoint, "sqs")
    url = sqs.create_queue(QueueName="more-uploads")["QueueUrl"]
    faults(late=1, late_seconds=3600)
    sqs.send_message(QueueUrl=url, MessageBody="first")
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    faults()
    sqs.send_message(QueueUrl=url, MessageBody="second")
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert message["Body"] == "second"
