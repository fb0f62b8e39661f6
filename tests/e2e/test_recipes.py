"""docs/recipes/ on the deployed stack: each event arrives, with receivers that fail a third of the time."""

import io
import json
import random
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from local.__main__ import environment
from local.pipeline import wait_for
from local.stack import LocalStack
from posedrop.aws.channels import EventBus
from posedrop.contract.notification import Notification
from tests.backend import program
from tests.e2e.test_pipeline import hurried
from tests.support import HANGS, ROOT, load_event

BUS = "recipes"
SENT = {f"hero-walk-{number:016x}" for number in range(100)}
BAD = {job_id for job_id in SENT if job_id.endswith("0")}
"""Those that a receiver fails for each time, until its fault is fixed."""
RECEIVER = """
import json, random, urllib.request

def handler(event, context):
    job_id = event.get("detail", event)["job_id"]
    if random.random() < 1 / 3 or (job_id.endswith("0") and not {fixed}):
        raise RuntimeError("not this time")
    urllib.request.urlopen({url!r}, json.dumps(job_id).encode()).close()
"""
Deploy = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def bus(stack: LocalStack) -> EventBus:
    """An event bus of these tests."""
    stack.client("events").create_event_bus(Name=BUS)
    return EventBus(stack.client("events"), BUS)


@pytest.fixture
def deploy(stack: LocalStack) -> Iterator[Deploy]:
    """Deploy a recipe and return its outputs: `deploy("webhook", Url="http://...")`."""
    cloudformation = stack.client("cloudformation")
    made: list[str] = []

    def create(name: str, **parameters: str) -> dict[str, str]:
        made.append(f"recipe-{name}-{len(made)}")
        given = {"EventBusName": BUS, **parameters}
        cloudformation.create_stack(
            StackName=made[-1],
            TemplateBody=(ROOT / "docs" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(StackName=made[-1], WaiterConfig={"Delay": 1})
        (found,) = cloudformation.describe_stacks(StackName=made[-1])["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    yield create
    for name in made:
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})


@pytest.fixture
def backend(stack: LocalStack, tmp_path: Path) -> Iterator[ModuleType]:
    """The program of docs/backends.md, which can redrive dead letters."""
    with program(tmp_path, environment(stack.state())) as found:
        yield found


class Endpoint:
    """A URL that notes what is posted to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def received(self) -> set[str]:
        """The ids that a function has posted."""
        return {body for _, body in self.requests}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A web server for a test."""
    found = Endpoint()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def send(bus: EventBus, job_ids: Iterable[str] = SENT) -> None:
    """Publish notifications of these jobs."""
    for job_id in job_ids:
        bus.publish(Notification(**{**load_event("notification.json"), "job_id": job_id}))


def length(stack: LocalStack, url: str) -> int:
    """The number of messages of a queue that are there to be received."""
    names = ["ApproximateNumberOfMessages"]
    found = stack.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]])


def receiver(url: str, *, fixed: bool) -> bytes:
    """The code of a function that posts the ids of the jobs that it has received to a URL."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("index.py", RECEIVER.format(url=url, fixed=fixed))
    return data.getvalue()


# ---- each event arrives ----------------------------------------------------------------------------------------------


def test_a_queue_brings_every_event(stack: LocalStack, bus: EventBus, deploy: Deploy, backend: ModuleType) -> None:
    outputs = deploy("queue")
    queue, dead = outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]
    sqs, chance = stack.client("sqs"), random.Random(1)
    received: set[str] = set()

    def consume(bad: set[str]) -> None:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            given = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
            job_id = json.loads(message["Body"])["job_id"]
            if job_id in bad or chance.random() < 1 / 3:
                sqs.change_message_visibility(**given, VisibilityTimeout=0)  # it fails: again at once
                continue
            received.add(job_id)
            sqs.delete_message(**given)

    def consumed(bad: set[str], left: int) -> Any:
        def read() -> bool | None:
            for _ in range(20):
                consume(bad)
            return (len(received) == len(SENT) - left and length(stack, dead) == left) or None

        return read

    send(bus)
    wait_for(consumed(BAD, len(BAD)), "all but those that fail each time", HANGS)
    assert backend.redrive_queue(dead, queue) == len(BAD)
    wait_for(consumed(set(), 0), "the dead letters", HANGS)
    assert received == SENT


def test_a_function_gets_every_event(
    stack: LocalStack, bus: EventBus, deploy: Deploy, backend: ModuleType, endpoint: Endpoint
) -> None:
    outputs = deploy("lambda")
    name, dead = outputs["FunctionName"], outputs["DeadLetterQueueUrl"]
    functions = stack.client("lambda")
    functions.update_function_code(FunctionName=name, ZipFile=receiver(endpoint.url, fixed=False))
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=4)

    def accounted() -> bool | None:
        return len(endpoint.received()) + length(stack, dead) >= len(SENT) or None

    def redriven() -> bool | None:
        backend.redrive_function(dead, name)
        return endpoint.received() == SENT or None

    send(bus)
    wait_for(accounted, "each event or its dead letter", HANGS)
    assert not endpoint.received() & BAD
    functions.update_function_code(FunctionName=name, ZipFile=receiver(endpoint.url, fixed=True))
    wait_for(redriven, "the dead letters", HANGS)


def test_an_execution_handles_every_event(
    stack: LocalStack, bus: EventBus, deploy: Deploy, backend: ModuleType, endpoint: Endpoint
) -> None:
    functions, iam = stack.client("lambda"), stack.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="receiver", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    made = functions.create_function(
        FunctionName="receiver",
        Runtime="python3.13",
        Handler="index.handler",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": receiver(endpoint.url, fixed=False)},
        Timeout=60,
    )
    outputs = deploy("execution", FunctionArn=made["FunctionArn"])
    dead = outputs["DeadLetterQueueUrl"]

    def accounted(wanted: int) -> Callable[[], bool | None]:
        return lambda: len(endpoint.received()) + length(stack, dead) >= wanted or None

    def redriven() -> bool | None:
        backend.redrive_executions(dead, outputs["StateMachineArn"])
        return endpoint.received() == SENT or None

    with hurried(stack):  # the times between the tries
        for number in range(0, len(SENT), 10):  # not more at once than the local stack has processes for
            send(bus, sorted(SENT)[number : number + 10])
            good = set(sorted(SENT)[: number + 10]) - BAD
            wait_for(accounted(len(good)), "the good ones", HANGS)
        wait_for(accounted(len(SENT)), "each event or its dead letter", HANGS)
        assert not endpoint.received() & BAD
        functions.update_function_code(FunctionName="receiver", ZipFile=receiver(endpoint.url, fixed=True))
        wait_for(redriven, "the dead letters", HANGS)
    functions.delete_function(FunctionName="receiver")


# ---- webhooks --------------------------------------------------------------------------------------------------------


FAILED = {"status": "FAILED", "outputs": [], "error": {"type": "InferenceFailed", "message": 'it said "no"'}}
INCOMPLETE = {
    "status": "INCOMPLETE",
    "outputs": [],
    "job_id": 'waiting/a "name"/',
    "error": {"type": "Incomplete", "message": "the uploads wait"},
}


def test_a_webhook_posts_the_notification_with_its_secret(bus: EventBus, deploy: Deploy, endpoint: Endpoint) -> None:
    deploy("webhook", Url=endpoint.url, Secret="s3cret")
    notified = [{**load_event("notification.json"), **changes} for changes in ({}, FAILED, INCOMPLETE)]
    for each in notified:
        bus.publish(Notification(**each))
    wait_for(lambda: len(endpoint.requests) == len(notified) or None, "the webhook", HANGS)
    assert sorted((body for _, body in endpoint.requests), key=str) == sorted(notified, key=str)
    assert {headers["x-posedrop-secret"] for headers, _ in endpoint.requests} == {"s3cret"}
    assert all(headers["content-type"].startswith("application/json") for headers, _ in endpoint.requests)


def test_slack_gets_a_message_of_each_kind(bus: EventBus, deploy: Deploy, endpoint: Endpoint) -> None:
    deploy("webhook", Url=endpoint.url, Secret="none", Format="slack")
    for changes in ({}, FAILED, INCOMPLETE):
        bus.publish(Notification(**{**load_event("notification.json"), **changes}))
    wait_for(lambda: len(endpoint.requests) == 3 or None, "the messages", HANGS)
    job = load_event("notification.json")["job_id"]
    assert sorted(body["text"] for _, body in endpoint.requests) == [
        "Uploads wait for a file that is missing: python -m ops jobs --status WAITING says for which.",
        f"{job} failed: InferenceFailed. What to do: python -m ops show {job}",
        f"{job} is done.",
    ]
    assert all(set(body) == {"text"} for _, body in endpoint.requests)
