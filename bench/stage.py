"""The stack that the benchmarks run on, and its usage, seen from outside."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.request import ProxyHandler, build_opener

from bench.gateway import USAGE_PATH
from local.deploy import ROOT
from local.pipeline import Inbox, drop
from local.processes import LocalError
from local.stack import LocalStack

DIRECTORY = ROOT / ".local" / "bench"
SAMPLES = ROOT / "local" / "samples"
PROMPT = "the same person, looking through a camera on a tripod"
REPORT = re.compile(r"^REPORT .*Billed Duration: (?P<ms>\d+) ms\tMemory Size: (?P<memory>\d+) MB")
LOG_EVENT_BYTES = 26  # added to each event (Amazon CloudWatch Logs API reference, PutLogEvents)

_opener = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class FunctionUse:
    """Invocations of one function. `log_bytes` are what CloudWatch Logs counts."""

    invocations: int = 0
    billed_ms: int = 0
    memory_mb: int = 0
    log_bytes: int = 0

    def __sub__(self, earlier: Self) -> "FunctionUse":
        return FunctionUse(
            self.invocations - earlier.invocations,
            self.billed_ms - earlier.billed_ms,
            self.memory_mb,
            self.log_bytes - earlier.log_bytes,
        )


@dataclass(frozen=True)
class Usage:
    """The usage of some jobs. `requests` are by caller, service and action; `units` are DynamoDB's."""

    functions: Mapping[str, FunctionUse] = field(default_factory=dict)
    transitions: int = 0
    requests: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, float] = field(default_factory=dict)

    def __sub__(self, earlier: Self) -> "Usage":
        return Usage(
            {name: use - earlier.functions.get(name, FunctionUse()) for name, use in self.functions.items()},
            self.transitions - earlier.transitions,
            {name: number - earlier.requests.get(name, 0) for name, number in self.requests.items()},
            {name: number - earlier.units.get(name, 0) for name, number in self.units.items()},
        )


class MeteredStack(LocalStack):
    """A local stack that counts its requests."""

    gateway = "bench.gateway"


class Notifications(Inbox):
    """An inbox that records when each notification was sent (seconds since the epoch), by job id."""

    def __init__(self, stack: LocalStack) -> None:
        """See Inbox."""
        super().__init__(stack)
        self.sent: dict[str, float] = {}

    def receive(self) -> list[dict[str, Any]]:
        """See Inbox."""
        while batch := self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["SentTimestamp"]
        ).get("Messages"):
            for message in batch:
                notification = json.loads(message["Body"])
                self.sent.setdefault(notification["job_id"], int(message["Attributes"]["SentTimestamp"]) / 1000)
                self.messages.append(notification)
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return self.messages

    def wait(self, number: int, timeout: float) -> list[dict[str, Any]]:
        """Wait until this many jobs are notified. Raises LocalError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.receive() is not None and len(self.sent) < number:
            if time.monotonic() > deadline:
                raise LocalError(f"{len(self.sent)} of {number} jobs were notified within {timeout:.0f} s")
            time.sleep(1)
        return self.messages


@contextmanager
def stage(name: str, parameters: Mapping[str, str | int], emulator: Sequence[str]) -> Iterator[MeteredStack]:
    """Yield a metered stack with its own emulator, while the context lasts."""
    stack = MeteredStack(DIRECTORY / name, parameters=parameters, emulator=emulator)
    with stack:
        yield stack


def upload_folder(stack: LocalStack, character: str, poses: Sequence[str], face: bytes, pose: bytes) -> float:
    """Upload a character's whole folder as fast as possible; return when it was done, in seconds since the epoch."""
    files = {
        "face.png": face,
        "job.json": json.dumps({"prompt": PROMPT}).encode(),
        **{f"poses/{name}.png": pose for name in poses},
    }
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: drop(stack, f"{stack.layout.folder(character).prefix}{name}", files[name]), files))
    return time.time()


def sample_images() -> tuple[bytes, bytes]:
    """Return the photographs of a face and a pose."""
    return (SAMPLES / "face-astronaut.png").read_bytes(), (SAMPLES / "pose-cameraman.png").read_bytes()


def provider(stack: LocalStack, name: str) -> Any:
    """Return a response of the emulator's control API."""
    return _get(f"{stack.segmind_base_url}/_emulator/{name}")


def usage(stack: LocalStack) -> Usage:
    """Return the usage of the stack since its start. Executions and functions must be at rest."""
    counted = _get(f"{stack.endpoint_url}{USAGE_PATH}")
    return Usage(
        functions={
            path.stem.removeprefix("function-"): function_use(path) for path in sorted(stack.save_function_logs())
        },
        transitions=sum(transitions(history) for history in histories(stack).values()),
        requests=counted["requests"],
        units=counted["units"],
    )


def function_use(log: Path) -> FunctionUse:
    """Return the sums of the REPORT lines in a function's log."""
    lines = log.read_text().splitlines()
    reports = [found for found in map(REPORT.match, lines) if found]
    return FunctionUse(
        invocations=len(reports),
        billed_ms=sum(int(found["ms"]) for found in reports),
        memory_mb=int(reports[0]["memory"]) if reports else 0,
        log_bytes=sum(len(line.encode()) + LOG_EVENT_BYTES for line in lines),
    )


def histories(stack: LocalStack) -> dict[str, list[dict[str, Any]]]:
    """Return the events of each execution, by its name."""
    states = stack.client("stepfunctions")
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=stack.outputs["JobStateMachineArn"])
    events = states.get_paginator("get_execution_history")
    return {
        execution["name"]: [
            event
            for page in events.paginate(executionArn=execution["executionArn"], includeExecutionData=False)
            for event in page["events"]
        ]
        for page in pages
        for execution in page["executions"]
    }


def transitions(history: Sequence[Mapping[str, Any]]) -> int:
    """Return the billed state transitions: each executed step, and each retry (AWS Step Functions pricing)."""
    entered: int = sum(event["type"].endswith("StateEntered") for event in history)
    tasks: int = sum(event["type"] == "TaskStateEntered" for event in history)
    tries: int = sum(event["type"] in ("TaskScheduled", "LambdaFunctionScheduled") for event in history)
    return entered + max(0, tries - tasks)


def seconds(time_stamp: str) -> float:
    """Return an RFC 3339 text as seconds since the epoch."""
    return datetime.fromisoformat(time_stamp).timestamp()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values is; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def _get(url: str) -> Any:
    with _opener.open(url, timeout=30) as response:
        return json.load(response)
