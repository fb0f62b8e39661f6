"""The results of a run, read from outside: the ledger, executions, notifications, outputs, queues, the provider."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from boto3.dynamodb.types import TypeDeserializer
from PIL import Image

from local.stack import LOCAL_API_KEY, LocalStack
from posedrop.contract.naming import execution_arn

Record = dict[str, Any]

HISTORY_PAGE = 100
NAME = re.compile(r'filename="([^"]+)"')

_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True)
class Ended:
    """The ledger's data about a job that has ended.

    `notified_at` is when its notification was sent (RFC 3339), None if it was not. `expires`: the record has a time to
    live.
    """

    job_id: str
    attempt: int
    status: str
    notified_at: str | None
    expires: bool


@dataclass(frozen=True)
class Accepted:
    """A request that the provider accepted: the attempt that its image URLs name, and its prompt."""

    request_id: str
    name: str
    prompt: str


@dataclass(frozen=True)
class DeadLetter:
    """A message in the dead-letter queue: its source queue and its reason. Both are "" if unknown."""

    body: str
    source: str
    reason: str


@dataclass(frozen=True)
class Stored:
    """An object of the output bucket. `fault` says why it is not a complete image; a result.json has its content."""

    sha256: str
    fault: str | None = None
    result: Record | None = None


@dataclass(frozen=True)
class Evidence:
    """All results of a run.

    executions: name and status. late_tasks: for executions that timed out, the number of function calls that failed
    because the function was killed or throttled. accepted: oldest first. stored: by key. left: the bodies of messages
    that are left, by queue, without dead letters. budgets: the items of the months, by key. aws_struck: the gateway's
    faults. struck: the number of times, by line of the plan. deaths: processes that died while working, by function.
    resumed: records, by the sweeps' action.
    """

    records: list[Record]
    executions: list[tuple[str, str]]
    late_tasks: dict[str, int]
    accepted: list[Accepted]
    accepted_in_all: int
    notifications: list[Record]
    stored: dict[str, Stored]
    left: dict[str, list[str]]
    dead_letters: list[DeadLetter]
    budgets: dict[str, Record]
    aws_struck: Counter[str]
    struck: list[int]
    calls: list[Record]
    key_leaks: int
    deaths: Counter[str]
    resumed: dict[str, set[str]]
    errors: Counter[str]


class Ledger:
    """The records of the jobs' table."""

    def __init__(self, stack: LocalStack) -> None:
        self._pages = stack.client("dynamodb").get_paginator("scan")
        self._table = stack.outputs["JobsTableName"]

    def read(self) -> list[Record]:
        """Return all records of jobs and of waiting uploads."""
        return [record for record in self._items() if "status" in record and "character" in record]

    def budgets(self) -> dict[str, Record]:
        """Return the items of the months' spending, by key."""
        return {item["job_id"]: item for item in self._items() if item["job_id"].startswith("budget/")}

    def _items(self) -> Iterator[Record]:
        for page in self._pages.paginate(TableName=self._table):
            for item in page["Items"]:
                yield {name: _deserialize(value) for name, value in item.items()}


def ends(records: Iterable[Record]) -> dict[tuple[str, str], Ended]:
    """Return the jobs that have ended, by character and pose."""
    return {
        (record["character"], record["pose"]): Ended(
            record["job_id"],
            int(record["attempt"]),
            record["status"],
            record.get("notified_at"),
            expires="expires_at" in record,
        )
        for record in records
        if record["status"] in ("SUCCEEDED", "FAILED")
    }


def depth(stack: LocalStack, queue_url: str) -> int:
    """Return the number of messages of a queue, including those in flight and delayed."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    found = stack.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def waiting_messages(stack: LocalStack) -> list[str]:
    """Return the bodies of all messages in the pipeline's queues, including those in flight and delayed.

    MiniStack shows the messages without receiving them.
    """
    bodies: list[str] = []
    for name, url in stack.outputs.items():
        if not name.endswith("QueueUrl") or "DeadLetter" in name:
            continue
        response = httpx.get(  # nosec B501 # plain HTTP, on this machine
            f"{stack.endpoint_url}/_ministack/sqs/messages", params={"QueueUrl": url}, trust_env=False, verify=False
        )
        for regions in response.raise_for_status().json()["messages"].values():
            for queues in regions.values():
                bodies += [message["Body"] for messages in queues.values() for message in messages]
    return bodies


def running(stack: LocalStack) -> set[str]:
    """Return the names of the executions that have not ended."""
    return {name for name, status in _executions(stack) if status == "RUNNING"}


def gather(stack: LocalStack, notifications: list[Record], faults: Record, aws_struck: Counter[str]) -> Evidence:
    """Read all evidence. `faults` is the emulator's report on its calls before its plan was replaced.

    All faults must be off by now, those of the emulator and of the gateway.
    """
    logs = {path.stem.removeprefix("function-"): path.read_text().splitlines() for path in stack.save_function_logs()}
    with httpx.Client(  # nosec B501 # plain HTTP, on this machine
        base_url=stack.segmind_base_url, trust_env=False, timeout=20, verify=False
    ) as http:
        # Only the pipeline's own requests, and all of them.
        http.post("/_emulator/settings", json={"history_others": 0, "history_lag": 0}).raise_for_status()
        accepted = _accepted(http)
        in_all = len(http.get("/_emulator/requests").raise_for_status().json())
    ledger = Ledger(stack)
    return Evidence(
        records=ledger.read(),
        executions=_executions(stack),
        late_tasks=_late_tasks(stack, notifications),
        accepted=accepted,
        accepted_in_all=in_all,
        notifications=notifications,
        stored=_stored(stack),
        left={
            **{
                name.removesuffix("Url"): [letter.body for letter in _left_messages(stack, url)]
                for name, url in stack.outputs.items()
                if name.endswith("QueueUrl") and "DeadLetter" not in name
            },
            "EventDeadLetterQueue": [
                letter.body for letter in _left_messages(stack, stack.resource("EventDeadLetterQueue"))
            ],
        },
        dead_letters=_left_messages(stack, stack.outputs["DeadLetterQueueUrl"]),
        budgets=ledger.budgets(),
        aws_struck=aws_struck,
        struck=[int(entry["struck"]) for entry in faults["faults"]],
        calls=faults["calls"],
        key_leaks=faults["key_leaks"],
        deaths=Counter({name: sum("Worker process died" in line for line in lines) for name, lines in logs.items()}),
        resumed=_resumed(logs.get("sweep", [])),
        errors=_errors(logs),
    )


def _accepted(http: httpx.Client) -> list[Accepted]:
    """Return the requests in the provider's history, oldest first; a request's image URLs name its attempt."""
    found: dict[str, Accepted] = {}
    page = 1
    while True:
        response = http.get(
            "/inference-request/request-history",
            params={"page": page, "per_page": HISTORY_PAGE, "sort_order": "asc"},
            headers={"x-api-key": LOCAL_API_KEY},
        )
        rows = response.raise_for_status().json()["generations"]
        for row in rows:  # one for each output
            body = row["request_body"]
            disposition = httpx.URL(body["face_image"]).params.get("response-content-disposition", "")
            name = NAME.search(disposition)
            found[row["request_id"]] = Accepted(row["request_id"], name[1] if name else "", body["prompt"])
        if len(rows) < HISTORY_PAGE:
            return list(found.values())
        page += 1


def _executions(stack: LocalStack) -> list[tuple[str, str]]:
    pages = stack.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=stack.outputs["JobStateMachineArn"])
    return [(execution["name"], execution["status"]) for page in found for execution in page["executions"]]


def _late_tasks(stack: LocalStack, notifications: list[Record]) -> dict[str, int]:
    pages = stack.client("stepfunctions").get_paginator("get_execution_history")
    machine = stack.outputs["JobStateMachineArn"]
    late = {
        f"{message['job_id']}-{message['attempt']}"
        for message in notifications
        if (message["error"] or {}).get("type") == "TimedOut"
    }
    return {
        name: sum(
            event["type"] == "TaskFailed"
            for page in pages.paginate(executionArn=execution_arn(machine, name))
            for event in page["events"]
        )
        for name in late
    }


def _stored(stack: LocalStack) -> dict[str, Stored]:
    s3, bucket = stack.client("s3"), stack.outputs["OutputBucketName"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    with ThreadPoolExecutor(8) as pool:
        bodies = pool.map(lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read(), keys)
        return {key: _checked(key, body) for key, body in zip(keys, bodies, strict=True)}


def _checked(key: str, body: bytes) -> Stored:
    digest = hashlib.sha256(body).hexdigest()
    if key.endswith(".json"):
        return Stored(digest, result=json.loads(body))
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return Stored(digest, fault=f"{type(error).__name__}: {error}")
    return Stored(digest)


def _left_messages(stack: LocalStack, queue_url: str) -> list[DeadLetter]:
    sqs = stack.client("sqs")
    found: list[DeadLetter] = []
    wanted = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
    while batch := sqs.receive_message(QueueUrl=queue_url, **wanted).get("Messages"):
        for message in batch:
            said = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            found.append(DeadLetter(message["Body"], said.get("source", ""), said.get("reason", "")))
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found


def _resumed(lines: Iterable[str]) -> dict[str, set[str]]:
    """Return the actions of the sweeps, by their log messages, with the records."""
    found: dict[str, set[str]] = {}
    for line in _entries(lines):
        if line.get("job_id") and line["message"] in ("sent again", "an execution has ended without notifying"):
            found.setdefault(line["message"], set()).add(line["job_id"])
    return found


def _errors(logs: dict[str, list[str]]) -> Counter[str]:
    """Return the exceptions that the functions logged, by function and type."""
    return Counter(
        f"{function}: {line.get('exception_name') or line['message']}"
        for function, lines in logs.items()
        for line in _entries(lines)
        if line.get("level") in ("ERROR", "CRITICAL")
    )


def _entries(lines: Iterable[str]) -> Iterable[Record]:
    for line in lines:
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "message" in entry:
                yield entry
