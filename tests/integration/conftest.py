"""The pipeline on moto: real S3, SQS, DynamoDB, SNS and Step Functions calls, and a provider with set responses."""

import importlib.util
import io
import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from operator import itemgetter
from types import ModuleType, SimpleNamespace
from typing import Any, Final, TextIO

import boto3
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters import BaseProvider, SecretsProvider, SSMProvider
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS
from botocore.config import Config
from botocore.exceptions import ClientError

from posedrop import settings as settings_module
from posedrop.aws.items import Item, Items
from posedrop.aws.places import Entry
from posedrop.aws.record_items import is_record
from posedrop.aws.s3 import s3_config
from posedrop.contract.times import epoch
from posedrop.gate.gate import HORIZON, Gate
from posedrop.line.line import Line
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.settings import DispatchSettings
from tests.aws import mock_stack, serve_directly
from tests.support import ROOT, Context, image

REGION: Final = "eu-central-1"
BUCKET = "posedrop-uploads"
OUTPUTS = "posedrop-outputs"
TABLE = "jobs"
QUEUES = {"UPLOAD_QUEUE_URL": "uploads", "SUBMIT_QUEUE_URL": "submits", "DEAD_LETTER_QUEUE_URL": "dead-letters"}
API_KEY = "SG_0123456789abcdef"
BASE_URL = "http://segmind.test"

Reply = httpx.Response | Exception


class Provider:
    """Stands for Segmind: records every request, and answers what `submits`, `statuses` and `results` hold.

    Calls for what is left on the account are counted apart, and answered with `credits`.

    The last response of a list is repeated; a submit that is accepted so again gets a request id of its own.
    """

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.credit_calls = 0
        self.credits: Reply = httpx.Response(404)
        self.accepted = 0
        self.submits: list[Reply] = [httpx.Response(200, json={"request_id": "request-1", "status": "QUEUED"})]
        self.statuses: list[Reply] = [httpx.Response(200, json={"status": "COMPLETED", "metrics": {}})]
        self.results: list[Reply] = [
            httpx.Response(
                200,
                json={
                    "status": "COMPLETED",
                    "error": None,
                    "metrics": {"inference_time": 31.06},
                    "output": f"{BASE_URL}/media/1.png",
                },
            )
        ]
        self.media: list[Reply] = [httpx.Response(200, content=image("png", (16, 12), "green"))]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/get-user-credits":
            return self._credits()
        self.requests.append(request)
        if request.method == "POST":
            answers = self.submits
        elif request.url.path.endswith("/status"):
            answers = self.statuses
        elif request.url.path.startswith("/v2/requests/"):
            answers = self.results
        else:
            answers = self.media
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if request.method == "POST" and answer.status_code == 200 and b"request-1" in answer.content:
            self.accepted += 1
            if self.accepted > 1:
                answer = httpx.Response(200, json={**answer.json(), "request_id": f"request-{self.accepted}"})
        # A stream, as one from a network, that can be read in any way but once.
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))

    def _credits(self) -> httpx.Response:
        self.credit_calls += 1
        if isinstance(self.credits, Exception):
            raise self.credits
        found = self.credits
        return httpx.Response(found.status_code, headers=found.headers, stream=httpx.ByteStream(found.content))

    @property
    def posts(self) -> list[dict[str, Any]]:
        """The bodies of all submits."""
        return [json.loads(request.content) for request in self.requests if request.method == "POST"]


class Clock:
    """A clock that only tests move. It starts a while after now, so that uploads are settled."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass the time."""
        self.slept.append(seconds)
        self.now += seconds


class Pipeline:
    """The handlers on moto."""

    def __init__(self, provider: Provider, clock: Clock, load: Callable[[str], ModuleType]) -> None:
        self.provider = provider
        self.clock = clock
        self._load = load
        self.intake = load("intake")
        self.dispatch = load("dispatch")
        self.prepare = load("prepare")
        self.submit = load("submit")
        self.poll = load("poll")
        self.deliver = load("deliver")
        self.s3 = boto3.client("s3")
        self.sqs = boto3.client("sqs")
        self.dynamodb = _table()
        self.sfn = boto3.client("stepfunctions")
        self.queue_url = self.sqs.get_queue_url(QueueName="uploads")["QueueUrl"]
        self.submit_queue_url = self.sqs.get_queue_url(QueueName="submits")["QueueUrl"]
        self.dead_letter_url = self.sqs.get_queue_url(QueueName="dead-letters")["QueueUrl"]
        self.notifications_url = self.sqs.get_queue_url(QueueName="notifications")["QueueUrl"]
        self.receive_count = 1
        self.hooks: list[Callable[[], None]] = []
        self.woken = 0
        self.prepared: list[str] = []
        """The keys of the uploads that `prepare` was invoked for."""
        self.instead_of_prepare: Iterator[Callable[[dict[str, Any]], Any]] = iter(())
        """What answers the next invocations of `prepare` in its place."""
        self.messages: list[tuple[str, float]] = []
        """The messages that are to come (back) later, and after how many seconds."""

    # ---- uploads ---------------------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes | str | dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """Upload a file, and return its event as EventBridge sends it."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        answer = self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, **arguments)
        found = {"key": key, "size": len(data), "etag": answer["ETag"].strip('"'), "version-id": answer["VersionId"]}
        return {
            "detail-type": "Object Created",
            "source": "aws.s3",
            "detail": {"bucket": {"name": BUCKET}, "object": found},
        }

    @property
    def later(self) -> list[tuple[str, float]]:
        """What is to come later, and after how many seconds: messages, and jobs that `dispatch` will send one for."""
        return [*self.messages, *((f"dispatch {job_id}", seconds) for job_id, seconds in self.put_back())]

    def put_back(self) -> list[tuple[str, float]]:
        """The queued jobs that have no message, and the seconds until they are due or the gate has a time for them."""
        gate = self.gate()
        state = gate.read(self.clock.now)
        opens_at = max(gate.opening(state, self.clock.now).at, state.until - HORIZON)
        found = []
        for job_id, record in self.records().items():
            if record.get("stands") == "in line":
                found.append((job_id, opens_at - self.clock.now))
            elif record.get("stands") == "due" and "send_at" not in record:
                found.append((job_id, max(epoch(record["place"]), opens_at) - self.clock.now))
        return [(job_id, math.ceil(10 * max(0.0, seconds) - 0.01) / 10) for job_id, seconds in found]

    def gate(self) -> Gate:
        """The gate, with the functions' settings."""
        settings = settings_module.from_environment(DispatchSettings)
        return Gate(Items(boto3.client("dynamodb"), TABLE), settings.limit, settings.budget, CONSISTENT_CHARACTER)

    def handle(self, body: object, seconds: float = 60.0) -> bool:
        """Let the function of its queue handle a message, and all that is sent then. Return whether it was done."""
        record = self.record_of(body)
        text = record["body"]
        before = len(self.messages)
        function = self.submit if '"submit"' in text else self.intake
        answer = function.handler({"Records": [record]}, Context(seconds))
        self.messages[before:] = [(body or text, delay) for body, delay in self.messages[before:]]
        done = not answer["batchItemFailures"]
        return self.drain(seconds) and done

    def drain(self, seconds: float = 60.0) -> bool:
        """Handle all messages that are in the queues now. Return whether they were done."""
        done = True
        while self.woken:
            self.woken -= 1
            self.run_dispatch()
        for url in (self.queue_url, self.submit_queue_url):
            for message in self.receive(url):
                done = self.handle(message["Body"], seconds) and done
        return done

    def dispatch_one(self, job_id: str) -> bool:
        """Send a job's message now, whatever the gate says, and handle it. Return whether it was done."""
        item = self.item(job_id)
        if "stands" not in item:
            return self.handle({"submit": job_id})
        number = Line(Items(boto3.client("dynamodb"), TABLE)).dispatch(Entry.of(item), self.clock.now)
        return self.handle({"submit": job_id, "number": number})

    def item(self, job_id: str) -> Item:
        """The texts and numbers of one item of the table."""
        return Items(boto3.client("dynamodb"), TABLE).get(job_id)[0]

    def restarted(self) -> "Pipeline":
        """The same pipeline after a deployment: its functions have started again, with the environment as it is now."""
        settings_module.from_environment.cache_clear()
        for name in ("intake", "dispatch", "submit"):
            module = self._load(name)
            module.time = clock_module(self.clock)  # type: ignore[attr-defined]
            setattr(self, name, module)
        return self

    def use_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the functions have the tests' time."""
        for module in (self.intake, self.dispatch, self.submit, self.poll, self.deliver):
            monkeypatch.setattr(module, "time", clock_module(self.clock))

    def close_breaker(self) -> None:
        """Let the account be sound again."""
        self.gate().breaker.change(lambda state: (state.rejected(), None))

    def run_dispatch(self) -> dict[str, int]:
        """Let dispatch run once. What it sends is not handled yet."""
        result: dict[str, int] = self.dispatch.handler({}, Context())
        return result

    def record_of(self, body: object) -> dict[str, Any]:
        """A message as Lambda hands it to a function."""
        return {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "receipt",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": {"ApproximateReceiveCount": str(self.receive_count)},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:uploads",
            "awsRegion": REGION,
        }

    def upload(self, *files: tuple[str, bytes | str | dict[str, Any]]) -> bool:
        """Upload files and handle their events in this order."""
        events = [self.put(key, body) for key, body in files]
        done = [self.handle(event) for event in events]
        return all(done)

    def resume(self) -> bool:
        """Pass the time until a message is redelivered or a job dispatched again; return whether it was done then."""
        body, seconds = min(self.later, key=itemgetter(1))
        self.pass_time(seconds)
        if body.startswith("dispatch "):
            self.clock.now += 0.001  # an index shows what is due before now
            self.run_dispatch()
            if any(json.loads(message).get("submit") in body for message, _ in self.messages):
                return self.resume()  # the job's time is a little later
            return self.drain()
        self.messages = [(other, delay) for other, delay in self.messages if other != body]
        return self.handle(body)

    def live(self, seconds: float) -> None:
        """Let so many seconds pass, with a run of dispatch each minute, and every message handled at its time."""
        end, next_run = self.clock.now + seconds, self.clock.now
        while self.clock.now < end:
            if self.clock.now >= next_run:
                next_run += 60
                with suppress(ClientError):
                    self.run_dispatch()
                self.drain()
            due = [body for body, delay in self.messages if delay <= 0]
            self.messages = [(body, delay) for body, delay in self.messages if delay > 0]
            for body in due:
                self.handle(body)
            self.pass_time(max(0.01, min([next_run - self.clock.now, *(delay for _, delay in self.messages)])))

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.clock.now += seconds
        self.messages = [(body, max(0.0, delay - seconds)) for body, delay in self.messages]

    def _send_later(self, params: dict[str, Any], **_: Any) -> Any:
        """Keep a delayed message from the queue: its delay is of the tests' clock."""
        message = json.loads(params["body"])
        if not message.get("DelaySeconds"):
            return None
        self.messages.append((message["MessageBody"], message["DelaySeconds"]))
        return SimpleNamespace(status_code=200), {"MessageId": "later"}

    def _send_batch_later(self, params: dict[str, Any], **_: Any) -> Any:
        """As _send_later, for the delayed messages of a batch. One that is rounded up to a second comes now."""
        batch = json.loads(params["body"])
        delayed = [entry for entry in batch["Entries"] if entry.get("DelaySeconds", 0) > 1]
        self.messages += [(entry["MessageBody"], entry["DelaySeconds"]) for entry in delayed]
        now = [{**entry, "DelaySeconds": 0} for entry in batch["Entries"] if entry not in delayed]
        params["body"] = json.dumps({**batch, "Entries": now}).encode()
        return None if now else (SimpleNamespace(status_code=200), {"Successful": []})

    def _redeliver_later(self, params: dict[str, Any], **_: Any) -> Any:
        asked = json.loads(params["body"])
        if asked["QueueUrl"] == self.dead_letter_url:
            return None  # an operator reads it, no function
        self.messages.append(("", asked["VisibilityTimeout"]))
        return SimpleNamespace(status_code=200), {}

    def _invoke(self, params: dict[str, Any], **_: Any) -> Any:
        if "/prepare/" in params["url_path"]:
            event = json.loads(params["body"])
            if instead := next(self.instead_of_prepare, None):
                return instead(event)
            self.prepared.append(event["key"])
            answer = self.prepare.handler(event, Context(memory_limit_in_mb=1769))
            body = io.BytesIO(json.dumps(answer).encode())
            return SimpleNamespace(status_code=200), {"StatusCode": 200, "Payload": body}
        if "/dispatch/" not in params["url_path"]:
            return None
        self.woken += 1
        return SimpleNamespace(status_code=202), {"StatusCode": 202}

    def watch_queue(self) -> None:
        """Take note of what is deferred, and of calls of dispatch; let prepare be invoked."""
        self.hook("lambda", "Invoke", self._invoke)
        self.hook("sqs", "SendMessage", self._send_later)
        self.hook("sqs", "SendMessageBatch", self._send_batch_later)
        self.hook("sqs", "ChangeMessageVisibility", self._redeliver_later)

    def hook(self, service: str, operation: str, action: Callable[..., Any]) -> Callable[[], None]:
        """Let `action` see every call of an AWS operation, as botocore's before-call event; return what ends that.

        A result other than None is the response instead of AWS's.
        """
        events, name = boto3.client(service).meta.events, f"before-call.{service}.{operation}"  # type: ignore[call-overload]
        events.register_first(name, action)
        self.hooks.append(lambda: events.unregister(name, action))
        return self.hooks[-1]

    def break_call(self, service: str, operation: str, code: str = "AccessDenied", times: int = 1000) -> None:
        """Let the next calls of an AWS operation fail with this error code."""
        answers = iter([SimpleNamespace(status_code=400)] * times)

        def fail(**_: Any) -> Any:
            found = next(answers, None)
            return found and (found, {"Error": {"Code": code, "Message": "broken by the test"}})

        self.hook(service, operation, fail)

    # ---- the rest --------------------------------------------------------------------------------------------------

    def run(self, execution: dict[str, Any]) -> dict[str, Any]:
        """Do what the state machine does with an execution's input, without waiting."""
        state = execution
        while not state["finished"]:
            self.clock.now += state["wait_seconds"]
            state = self.poll.handler(state, Context())
        return self.deliver.handler(state, Context(300))  # type: ignore[no-any-return]

    def run_all(self) -> list[dict[str, Any]]:
        """Run all executions that were started."""
        return [self.run(execution) for execution in self.executions().values()]

    # ---- what came of it -------------------------------------------------------------------------------------------

    def records(self) -> dict[str, dict[str, Any]]:
        """The ledger's records by their ids."""
        items = self.dynamodb.scan(ConsistentRead=True)["Items"]
        return {str(item["job_id"]): item for item in items if is_record(item)}

    def record(self) -> dict[str, Any]:
        """The only record."""
        (record,) = self.records().values()
        return record

    def record_of_pose(self, pose: str) -> dict[str, Any]:
        """The only record of a pose."""
        (record,) = [record for record in self.records().values() if record["pose"] == pose]
        return record

    def executions(self) -> dict[str, dict[str, Any]]:
        """The inputs of all executions by their names."""
        arn = self.sfn.list_state_machines()["stateMachines"][0]["stateMachineArn"]
        found = self.sfn.list_executions(stateMachineArn=arn)["executions"]
        return {
            execution["name"]: json.loads(self.sfn.describe_execution(executionArn=execution["executionArn"])["input"])
            for execution in reversed(found)
        }

    def receive(self, url: str) -> list[dict[str, Any]]:
        """Take all messages of a queue."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", []):
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found += map(dict, messages)
        return found

    def notifications(self) -> list[dict[str, Any]]:
        """All notifications so far; each is returned once."""
        return [json.loads(json.loads(message["Body"])["Message"]) for message in self.receive(self.notifications_url)]

    def outputs(self) -> dict[str, bytes]:
        """The stored outputs by their keys."""
        found = self.s3.list_objects_v2(Bucket=OUTPUTS).get("Contents", [])
        return {entry["Key"]: self.s3.get_object(Bucket=OUTPUTS, Key=entry["Key"])["Body"].read() for entry in found}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The functions' environment as template.yaml sets it. Tests change it before they ask for the pipeline."""
    values = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "POWERTOOLS_METRICS_NAMESPACE": "posedrop",
        "JOBS_TABLE": TABLE,
        "SEGMIND_BASE_URL": BASE_URL,
        "SEGMIND_SECRET_ID": "segmind",
        "SEGMIND_REQUESTS_PER_MINUTE": "600",
        "LIMIT_COUNTS": "submits",
        "DAILY_BUDGET": "0",
        "MONTHLY_BUDGET": "0",
        "TYPICAL_INFERENCE_SECONDS": "31",
        "RECORD_RETENTION_DAYS": "0",
        "STATE_MACHINE_ARN": f"arn:aws:states:{REGION}:123456789012:stateMachine:job",
        "DEFAULT_PROMPT_PARAMETER": "prompt",
        "DISPATCH_FUNCTION": "dispatch",
        "PREPARE_FUNCTION": "prepare",
        "PREPARE_IMAGES": "true",
        "SETTLE_SECONDS": "5",
        "UPLOAD_PREFIX": "incoming/",
        "IMAGE_TRANSPORT": "presigned-url",
        "ACCOUNT_PAUSE_SECONDS": "900",
        "SUBMIT_TIMEOUT_SECONDS": "60",
        "JOB_TIMEOUT_SECONDS": "3000",
        "OUTPUT_BUCKET": OUTPUTS,
        "NOTIFICATION_TOPIC_ARN": f"arn:aws:sns:{REGION}:123456789012:notifications",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def provider() -> Provider:
    """The provider's stand-in."""
    return Provider()


@pytest.fixture
def pipeline(environment: dict[str, str], provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """The handlers, with all AWS resources they need."""
    use_clients(monkeypatch, _client)
    with mock_stack(_create_resources) as created:
        for name, value in created.items():
            monkeypatch.setenv(name, value)
        use_provider(monkeypatch, provider)
        pipeline = Pipeline(provider, Clock(time.time() + 60), load)
        log_to(monkeypatch, pipeline, sys.stderr)
        pipeline.use_clock(monkeypatch)
        pipeline.watch_queue()
        yield pipeline
        for end in pipeline.hooks:
            end()


def use_clients(monkeypatch: pytest.MonkeyPatch, client: Callable[..., Any]) -> None:
    """Let the functions, which start again, have their clients of AWS from here."""
    settings_module.from_environment.cache_clear()
    monkeypatch.setattr(boto3, "client", client)
    for name, provider in (
        ("secrets", _provider(SecretsProvider, client("secretsmanager"))),
        ("ssm", _provider(SSMProvider, client("ssm"))),
    ):
        provider.clear_cache()  # type: ignore[no-untyped-call]
        monkeypatch.setitem(DEFAULT_PROVIDERS, name, provider)


@cache
def _provider(provider: Callable[..., BaseProvider], client: Any) -> BaseProvider:
    """One provider for each client of all tests: each adds a hook to its client that stays."""
    return provider(boto3_client=client)


def use_provider(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    """Let the functions' requests go to this provider."""
    original = httpx.Client.__init__

    def with_provider(self: httpx.Client, **arguments: Any) -> None:
        original(self, **{**arguments, "transport": httpx.MockTransport(provider)})

    monkeypatch.setattr(httpx.Client, "__init__", with_provider)


@pytest.fixture
def logs(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Gives the log lines that the handlers wrote so far."""
    stream = io.StringIO()
    log_to(monkeypatch, pipeline, stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def log_to(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, stream: TextIO) -> None:
    """Let the functions log to a stream. Their logger keeps that of the first test, which pytest closes."""
    for handler in pipeline.submit.logger.handlers:
        monkeypatch.setattr(handler, "stream", stream)


def clock_module(clock: Clock) -> Any:
    """What stands for the module `time` in the handlers."""
    stand_in = ModuleType("time")
    stand_in.time = clock  # type: ignore[attr-defined]
    stand_in.sleep = clock.sleep  # type: ignore[attr-defined]
    return stand_in


def _client(service: str, config: Config | None = None) -> Any:
    """One client of a service for all tests, the handlers' too: to make one takes longer than most tests."""
    return _cached_client(service)


@cache
def _cached_client(service: str) -> Any:
    # With a name of its own a client does not gather, for each call, what it runs on.
    config = Config(user_agent="tests", request_checksum_calculation="when_required")
    if service == "s3":
        config = config.merge(s3_config("virtual"))
    client = boto3.Session().client(service, config=config)  # type: ignore[call-overload]
    serve_directly(client)
    return client


@cache
def _table() -> Any:
    table = boto3.Session().resource("dynamodb").Table(TABLE)
    serve_directly(table.meta.client)
    return table


def load(function: str) -> ModuleType:
    """Import a handler again, as a cold start does."""
    name = f"{function}_app"
    specification = importlib.util.spec_from_file_location(name, ROOT / "functions" / function / "app.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def _create_resources() -> dict[str, str]:
    """Make all AWS resources; return what of the environment is known only then."""
    s3 = boto3.client("s3")
    for bucket in (BUCKET, OUTPUTS):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    sqs = boto3.client("sqs")
    urls = {variable: sqs.create_queue(QueueName=name)["QueueUrl"] for variable, name in QUEUES.items()}
    notifications = sqs.create_queue(QueueName="notifications")["QueueUrl"]
    sns = boto3.client("sns")
    topic = sns.create_topic(Name="notifications")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=notifications, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    boto3.client("secretsmanager").create_secret(Name="segmind", SecretString=API_KEY)
    boto3.client("ssm").put_parameter(Name="prompt", Type="String", Value="a walk in the rain")
    keys = {
        "by-character": ("character", "created_at"),
        "by-day": ("day", "created_at"),
        "line": ("stands", "place"),
        "unfinished": ("unfinished", "unfinished_at"),
    }
    boto3.client("dynamodb").create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in sorted({"job_id"}.union(*keys.values()))
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
    boto3.client("iam").create_role(RoleName="job", AssumeRolePolicyDocument="{}")
    boto3.client("stepfunctions").create_state_machine(
        name="job",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
        roleArn="arn:aws:iam::123456789012:role/job",
    )
    return urls
