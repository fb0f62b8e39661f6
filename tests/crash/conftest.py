"""Functions that really end: on MiniStack's services and the emulator, driven as SQS and Step Functions drive them."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from local.processes import Process, free_port, responds
from local.segmind.server import Emulator
from posedrop.aws.record_items import is_record
from tests.crash.worker import KILLED
from tests.support import HANGS, ROOT, image

REGION = "us-east-1"
FUNCTION_SECONDS = {"intake": 60.0, "dispatch": 60.0, "submit": 60.0, "poll": 30.0, "deliver": 300.0, "sweep": 300.0}
VISIBILITY = 360.0
"""Seconds after which a message is delivered again whose function died."""
SOON = 30.0
"""Seconds after which one is delivered again that was deferred."""
MINUTE = 60.0
"""Seconds between two runs of `dispatch`."""
QUEUES = {"UPLOAD_QUEUE_URL": "intake", "SUBMIT_QUEUE_URL": "submit"}
"""The functions that read the queues."""
RETRIES = {"poll": 9, "deliver": 10}
FOLDER = {
    "face.png": image("png", (10, 10), "white"),
    "poses/walk.png": image("png", (12, 8), "black"),
}
PARAMETERS = {"samples": 4, "custom_width": 64, "custom_height": 64, "use_input_img_dimension": False}

Crash = tuple[str, str, str, int]
"""The function, and the point: see the worker."""


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The services' URL."""
    directory = tmp_path_factory.mktemp("services")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = Process(directory / "pid", directory / "log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    settings = {
        **{"AUTH": "false", "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)},
        **{"MINISTACK_REGION": REGION, "IOT_MTLS_ENABLED": "0", "DOCKER_HOST": "unix:///nonexistent"},
        **{"TMPDIR": str(directory), "NO_PROXY": "127.0.0.1"},
    }
    process.start([sys.executable, "-m", "local.gateway"], ROOT, {**environment, **settings})
    try:
        process.wait_until(partial(responds, f"{url}/_ministack/health"), "MiniStack", HANGS)
        yield url
    finally:
        process.stop()


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """The provider."""
    with Emulator(latency=0) as running:
        yield running


@pytest.fixture(scope="session")
def worker(endpoint: str) -> Iterator["subprocess.Popen[str]"]:
    """The process that forks the functions."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": endpoint,
        **{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION},
        "PYTHONPATH": f"{ROOT / 'layers' / 'posedrop'}",
        "POWERTOOLS_SERVICE_NAME": "test",
        "POWERTOOLS_METRICS_NAMESPACE": "posedrop",
        "NO_PROXY": "127.0.0.1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.worker"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=HANGS)


@pytest.fixture(scope="session")
def clients(endpoint: str) -> dict[str, Any]:
    """The tests' own clients."""
    access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
    names = ("s3", "sqs", "sns", "dynamodb", "stepfunctions", "secretsmanager")
    config = Config(proxies={})
    return {name: boto3.Session().client(name, endpoint_url=endpoint, config=config, **access) for name in names}  # type: ignore[call-overload]


@pytest.fixture
def world(clients: dict[str, Any], emulator: Emulator, worker: "subprocess.Popen[str]") -> Iterator["World"]:
    """A stack of its own for each test."""
    emulator.faults([])
    yield World(clients, emulator, worker)
    emulator.faults([])


class World:
    """One stack: its services, and what drives its functions."""

    def __init__(self, clients: dict[str, Any], emulator: Emulator, worker: "subprocess.Popen[str]") -> None:
        self.clients = clients
        self.emulator = emulator
        self.crash: Crash | None = None
        self.crashes = 0
        self.offset = 60.0  # what was uploaded is settled
        self._worker = worker
        self._name = f"w{uuid4().hex[:12]}"
        self._run: set[str] = set()
        self._sent: list[str] = []
        self._notified: list[dict[str, Any]] = []
        self._events: dict[str, dict[str, Any]] = {}
        self.environment = self._create()

    @property
    def now(self) -> float:
        """The functions' time, in seconds since the epoch."""
        return time.time() + self.offset

    # ---- what happens ----------------------------------------------------------------------------------------------

    def upload(self, **changes: bytes) -> None:
        """Upload a folder, and put the events of face and pose on the queue. `changes` are other bytes of the two."""
        self.put("job.json", json.dumps({"prompt": self._name, **PARAMETERS}).encode())
        for name, body in FOLDER.items():
            self.put(name, changes.get(name.partition("/")[0].partition(".")[0], body))
        for name in FOLDER:
            self.send_event(name)

    def put(self, name: str, body: bytes) -> None:
        """Upload one file of the folder, whose event is lost."""
        key = f"incoming/hero/{name}"
        answer = self.clients["s3"].put_object(Bucket=self._name, Key=key, Body=body)
        found = {"key": key, "size": len(body), "etag": answer["ETag"].strip('"'), "version-id": answer["VersionId"]}
        detail = {"bucket": {"name": self._name}, "object": found}
        self._events[name] = {"detail-type": "Object Created", "source": "aws.s3", "detail": detail}

    def send(self, message: dict[str, Any]) -> None:
        """Put a message on the queue."""
        self.clients["sqs"].send_message(
            QueueUrl=self.environment["UPLOAD_QUEUE_URL"], MessageBody=json.dumps(message), DelaySeconds=0
        )

    def send_event(self, name: str) -> None:
        """Put the event of a file on the queue, perhaps once more."""
        self.send(self._events[name])

    def send_again(self) -> None:
        """Put each message that `submit` has had on its queue once more, as SQS may do with any."""
        for body in self._sent[:]:
            self.clients["sqs"].send_message(QueueUrl=self.environment["SUBMIT_QUEUE_URL"], MessageBody=body)

    def reserve(self, seconds: float) -> None:
        """Let the times of the next seconds be reserved for others."""
        self._put_numbers("dispatch", until=self.now + seconds, rank=0)

    def pause(self, seconds: float) -> None:
        """Let all calls pause, as after a 429."""
        self._put_numbers("rate-limit", paused_until=self.now + seconds)

    def work(self) -> None:
        """Go on until there is nothing more to do."""
        for _ in range(200):
            if not (self.handle_message() or self._run_execution() or self._wait_for_dispatch()):
                return
        raise AssertionError("it does not come to an end")

    def invoke(self, function: str, event: object) -> dict[str, Any]:
        """Let a function handle an event in a process of its own, which ends at the crash point if there is one."""
        armed = list(self.crash[1:]) if self.crash and self.crash[0] == function else None
        order = {
            **{"function": function, "event": event, "seconds": FUNCTION_SECONDS[function]},
            **{"offset": self.offset, "environment": self.environment, "crash": armed},
        }
        assert self._worker.stdin
        assert self._worker.stdout
        self._worker.stdin.write(json.dumps(order) + "\n")
        self._worker.stdin.flush()
        answer: dict[str, Any] = json.loads(self._worker.stdout.readline())
        if answer["exit"] == KILLED:
            self.crashes += 1
            self.crash = None
        else:
            assert answer["exit"] == 0
        return answer

    def handle_message(self, *variables: str) -> bool:
        """Do what the queues' pollers do with one message of these queues, or of any of the two."""
        return any(self._handle_message(variable) for variable in variables or QUEUES)

    def _handle_message(self, variable: str) -> bool:
        sqs, url = self.clients["sqs"], self.environment[variable]
        messages = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], MessageAttributeNames=["All"])
        if not messages.get("Messages"):
            return False
        (message,) = messages["Messages"]
        if message["Attributes"]["ApproximateReceiveCount"] == "1":
            self.offset += float(message.get("MessageAttributes", {}).get("delay", {"StringValue": "0"})["StringValue"])
            if variable == "SUBMIT_QUEUE_URL" and message["Body"] not in self._sent:
                self._sent.append(message["Body"])
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:000000000000:{url.rpartition('/')[2]}",
            "awsRegion": REGION,
        }
        answer = self.invoke(QUEUES[variable], {"Records": [record]})
        if answer.get("answer") == {"batchItemFailures": []}:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return True
        self.offset += VISIBILITY if answer["exit"] else SOON
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        return True

    def _wait_for_dispatch(self) -> bool:
        """While a job is queued, let a minute pass and run `dispatch`, whatever comes of it."""
        if not any(record["status"] == {"S": "QUEUED"} for record in self.records()):
            return False
        self.offset += MINUTE
        self.invoke("dispatch", {})
        return True

    def _run_execution(self) -> bool:
        """Do what the state machine does with one execution, to its end."""
        name = next((name for name in self.executions() if name not in self._run), None)
        if name is None:
            return False
        self._run.add(name)
        state = self.executions()[name]
        while not state["finished"]:
            self.offset += state["wait_seconds"]
            fault, answer = self._task("poll", state)
            state = {**state, "finished": True, "poll_fault": fault} if fault else answer
        fault, _ = self._task("deliver", state)
        if fault:
            fault, _ = self._task("deliver", {**state, "deliver_fault": fault})
        assert not fault
        return True

    def _task(self, function: str, state: dict[str, Any]) -> tuple[dict[str, str] | None, dict[str, Any]]:
        """A state that runs a function, with its retries: the fault that is left, and the function's answer."""
        for _ in range(RETRIES[function]):
            answer = self.invoke(function, state)
            if "answer" in answer:
                return None, answer["answer"]
            self.offset += SOON
        error = answer.get("error", {"errorType": "Runtime.ExitError"})
        return {"error": error["errorType"], "cause": json.dumps(error)}, {}

    # ---- what came of it -------------------------------------------------------------------------------------------

    def accepted(self) -> list[dict[str, Any]]:
        """The jobs that the provider took."""
        return [accepted for accepted in self.emulator.requests() if accepted["prompt"] == self._name]

    def executions(self) -> dict[str, dict[str, Any]]:
        """The inputs of all executions by their names."""
        sfn = self.clients["stepfunctions"]
        found = sfn.list_executions(stateMachineArn=self.environment["STATE_MACHINE_ARN"])["executions"]
        return {
            entry["name"]: json.loads(sfn.describe_execution(executionArn=entry["executionArn"])["input"])
            for entry in found
        }

    def notifications(self) -> list[dict[str, Any]]:
        """All notifications so far."""
        sqs, url = self.clients["sqs"], self._notifications_url
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._notified.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return self._notified

    def outputs(self) -> dict[str, bytes]:
        """The stored outputs by their keys."""
        s3, bucket = self.clients["s3"], self.environment["OUTPUT_BUCKET"]
        found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {entry["Key"]: s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in found}

    def digests(self) -> dict[str, str]:
        """SHA-256 of the stored outputs by their keys."""
        return {key: hashlib.sha256(body).hexdigest() for key, body in self.outputs().items()}

    def records(self) -> list[dict[str, Any]]:
        """The ledger's records as DynamoDB gives them."""
        items = self.clients["dynamodb"].scan(TableName=self._name)["Items"]
        return [item for item in items if is_record(item)]

    def depth(self) -> dict[str, int]:
        """How many messages there are in the queues and in the dead-letter queue."""
        wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        depths = {}
        for name in ("UPLOAD_QUEUE_URL", "SUBMIT_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
            found = self.clients["sqs"].get_queue_attributes(QueueUrl=self.environment[name], AttributeNames=wanted)[
                "Attributes"
            ]
            depths[name] = sum(int(found[key]) for key in wanted)
        return depths

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _put_numbers(self, key: str, **numbers: float) -> None:
        """Write an item of the gate."""
        attributes = {name: {"N": str(number)} for name, number in numbers.items()}
        self.clients["dynamodb"].put_item(TableName=self._name, Item={"job_id": {"S": key}, **attributes})

    def _create(self) -> dict[str, str]:
        clients, name = self.clients, self._name
        for bucket in (name, f"{name}-outputs"):
            clients["s3"].create_bucket(Bucket=bucket)
        clients["s3"].put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        urls = {
            kind: clients["sqs"].create_queue(QueueName=f"{name}-{kind}")["QueueUrl"]
            for kind in ("uploads", "submits", "dead", "notifications")
        }
        self._notifications_url = urls["notifications"]
        topic = clients["sns"].create_topic(Name=name)["TopicArn"]
        arn = clients["sqs"].get_queue_attributes(QueueUrl=urls["notifications"], AttributeNames=["QueueArn"])[
            "Attributes"
        ]
        clients["sns"].subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"], Attributes={"RawMessageDelivery": "true"}
        )
        keys = {"line": ("stands", "place"), "unfinished": ("unfinished", "unfinished_at")}
        clients["dynamodb"].create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": key, "AttributeType": "S"} for key in sorted({"job_id"}.union(*keys.values()))
            ],
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [
                        {"AttributeName": partition, "KeyType": "HASH"},
                        {"AttributeName": sort, "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, (partition, sort) in keys.items()
            ],
        )
        clients["secretsmanager"].create_secret(Name=name, SecretString=self.emulator.api_key)
        machine = clients["stepfunctions"].create_state_machine(
            name=name,
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn=f"arn:aws:iam::000000000000:role/{name}",
        )
        return {
            **{"JOBS_TABLE": name, "SEGMIND_BASE_URL": self.emulator.url, "SEGMIND_SECRET_ID": name},
            **{"SEGMIND_REQUESTS_PER_MINUTE": "6000", "LIMIT_COUNTS": "submits", "DAILY_BUDGET": "0"},
            **{"TYPICAL_INFERENCE_SECONDS": "31", "RECORD_RETENTION_DAYS": "0", "SETTLE_SECONDS": "5"},
            **{"MONTHLY_BUDGET": "0", "SUBMIT_QUEUE_URL": urls["submits"], "DISPATCH_FUNCTION": "none"},
            **{"STATE_MACHINE_ARN": machine["stateMachineArn"], "IMAGE_TRANSPORT": "presigned-url"},
            **{"PREPARE_FUNCTION": "none", "PREPARE_IMAGES": "true", "UPLOAD_PREFIX": "incoming/"},
            **{"ACCOUNT_PAUSE_SECONDS": "900", "SUBMIT_TIMEOUT_SECONDS": "60"},
            **{"SEGMIND_HISTORY_URL": self.emulator.url, "JOB_TIMEOUT_SECONDS": "3000"},
            **{"OUTPUT_BUCKET": f"{name}-outputs", "NOTIFICATION_TOPIC_ARN": topic, "WAITING_ALERT_HOURS": "24"},
            **{"UPLOAD_QUEUE_URL": urls["uploads"], "DEAD_LETTER_QUEUE_URL": urls["dead"], "DELIVER_FUNCTION": "none"},
        }
