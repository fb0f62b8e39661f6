"""AWS in the test's process, with the parts that the functions use: a call takes microseconds, not milliseconds.

Tests on moto and on the local stack check how the functions use the real interfaces; here they run thousands of times.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import RLock
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from botocore.config import Config
from botocore.exceptions import ClientError

from posedrop.aws.record_items import deserialize, is_record
from tests.bucket import MemoryBucket
from tests.integration.conftest import API_KEY, OUTPUTS, REGION, Clock, Pipeline, Provider
from tests.table import Table


def nothing() -> None:
    """Do nothing."""


class Buckets:
    """S3. A file's version is named after its content."""

    def __init__(self, clock: Clock) -> None:
        self.of: dict[str, MemoryBucket] = defaultdict(lambda: MemoryBucket({}, 0))
        self._clock = clock

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        return self.of[request["Bucket"]].list_objects_v2(**request)

    def head_object(self, **request: Any) -> dict[str, Any]:
        return self.of[request["Bucket"]].head_object(**request)

    def get_object(self, **request: Any) -> dict[str, Any]:
        return self.of[request["Bucket"]].get_object(**request)

    def put_object(self, **request: Any) -> dict[str, Any]:
        return self.of[request["Bucket"]].put_object(self._clock.now, **request)


class Topics:
    """SNS: stores the published messages."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []

    def publish(self, **request: Any) -> dict[str, Any]:
        self.published.append(json.loads(json.loads(request["Message"])["default"]))
        return {"MessageId": "published"}


class Executions:
    """Step Functions: the inputs of all executions by name, and the names of those that have not ended."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}
        self.running: list[str] = []

    def start_execution(self, **request: Any) -> dict[str, Any]:
        """Start an execution. While it runs, a repeated call succeeds; the name is never free again (API reference)."""
        name, given = request["name"], json.loads(request["input"])
        if name not in self.inputs:
            self.inputs[name] = given
            self.running.append(name)
        elif name not in self.running or self.inputs[name] != given:
            raise ClientError({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")
        return {"executionArn": name}

    def describe_execution(self, **request: Any) -> dict[str, Any]:
        return {"input": json.dumps(self.inputs[request["executionArn"].rpartition(":")[2]])}


class Secrets:
    """Secrets Manager: the provider's key, which never changes."""

    def get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {"SecretString": API_KEY}

    def describe_secret(self, **_: Any) -> dict[str, Any]:
        return {"LastChangedDate": datetime.fromtimestamp(0, UTC)}


class Parameters:
    """Systems Manager: the default prompt."""

    def get_parameter(self, **_: Any) -> dict[str, Any]:
        return {"Parameter": {"Value": "a walk in the rain"}}


class QueueNames:
    """SQS without queues. In some tests, tests/queues.py replaces SQS and Lambda."""

    def get_queue_url(self, **request: Any) -> dict[str, Any]:
        return {"QueueUrl": f"https://sqs.test/{request['QueueName']}"}


SECRETS, PARAMETERS = Secrets(), Parameters()


class Client:
    """A client of one service, as from boto3."""

    meta = SimpleNamespace(endpoint_url=f"https://s3.{REGION}.amazonaws.com")

    def __init__(self, aws: "MemoryAws", service: str) -> None:
        self._aws = aws
        self._service = service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **request: self._aws.call(self._service, operation, request)

    def get_paginator(self, operation: str) -> "Client":
        return Client(self._aws, f"{self._service} {operation}")

    def paginate(self, PaginationConfig: dict[str, Any] | None = None, **request: Any) -> Iterator[dict[str, Any]]:
        service, operation = self._service.split()
        limit = {"Limit": PaginationConfig["MaxItems"]} if PaginationConfig else {}
        token: dict[str, str] = {}
        while True:
            page = self._aws.call(service, operation, {**request, **limit, **token})
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def upload_fileobj(self, body: Any, bucket: str, key: str, **_: Any) -> None:
        self.put_object(Bucket=bucket, Key=key, Body=body.read())

    def generate_presigned_url(self, _: str, Params: dict[str, str], **__: Any) -> str:
        query = {"response-content-disposition": Params["ResponseContentDisposition"]}
        return f"https://{Params['Bucket']}.s3.{REGION}.amazonaws.com/{quote(Params['Key'])}?{urlencode(query)}"


class MemoryAws:
    """All services, empty. `before` and `after` are called at each call of a client."""

    def __init__(self, clock: Clock) -> None:
        self.before: Callable[[], object] = nothing
        self.after: Callable[[], object] = nothing
        self.queues: Any = QueueNames()
        self._clock = clock
        self._lock = RLock()
        self.clear()

    def clear(self) -> None:
        """Delete everything."""
        self.table = Table()
        self.buckets = Buckets(self._clock)
        self.topics = Topics()
        self.executions = Executions()

    def watch_nothing(self) -> None:
        """Stop calling `before` and `after`."""
        self.before = self.after = nothing

    def client(self, service: str, config: Config | None = None) -> Any:
        """Return a client, as boto3.client does."""
        return Client(self, service)

    def call(self, service: str, operation: str, request: dict[str, Any]) -> Any:
        """Execute a client's call; calls from several threads are executed one after the other."""
        self.before()
        with self._lock:
            response = getattr(self._service(service), operation)(**request)
        self.after()
        return response

    def _service(self, name: str) -> Any:
        return {
            "dynamodb": self.table,
            "s3": self.buckets,
            "sns": self.topics,
            "sqs": self.queues,
            "lambda": self.queues,
            "stepfunctions": self.executions,
            "secretsmanager": SECRETS,
            "ssm": PARAMETERS,
        }[name]


class MemoryPipeline(Pipeline):
    """The handlers, with AWS in memory."""

    def __init__(self, provider: Provider, clock: Clock, load: Callable[[str], ModuleType], aws: MemoryAws) -> None:
        super().__init__(provider, clock, load)
        self.aws = aws

    def records(self) -> dict[str, dict[str, Any]]:
        """As Pipeline.records."""
        items = [item for item in self.aws.table.items.values() if is_record(item)]
        return {item["job_id"]["S"]: {name: deserialize(value) for name, value in item.items()} for item in items}

    def executions(self) -> dict[str, dict[str, Any]]:
        """As Pipeline.executions."""
        return dict(self.aws.executions.inputs)

    def notifications(self) -> list[dict[str, Any]]:
        """As Pipeline.notifications."""
        published, self.aws.topics.published = self.aws.topics.published, []
        return published

    def outputs(self) -> dict[str, bytes]:
        """As Pipeline.outputs."""
        return self.aws.buckets.of[OUTPUTS].files
