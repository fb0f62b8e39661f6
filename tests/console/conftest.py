"""The console on a real port of this machine, on a stack that is moto in this process."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any, cast

import boto3
import pytest
import urllib3
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from ops.console.app import HASTY
from ops.console.server import Server, bind
from ops.stack import Stack
from posedrop.aws.places import in_line
from posedrop.aws.record import AnyRecord, JobStatus, Record, Status, WaitingRecord
from posedrop.aws.record_items import to_item
from posedrop.aws.record_table import INCOMPLETE, PAID
from posedrop.contract.job import waiting_id
from posedrop.contract.naming import execution_name
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import Request, RequestStatus
from tests.integration import conftest as integration
from tests.integration.conftest import BUCKET, OUTPUTS, TABLE, Clock, Pipeline, environment, pipeline, provider
from tests.ops.conftest import account, notifications, stack, triggers
from tests.support import HANGS, image

__all__ = ["account", "environment", "notifications", "pipeline", "provider", "stack", "triggers"]

TOKEN = "token-of-this-start"
CODE = "code-for-the-browser"
COLORS = ("teal", "coral", "indigo", "olive", "orchid", "sienna")
CYCLE = ("done", "done", "failed", "running", "queued", "waiting", "done", "submitting", "delivering", "done")
"""The states that seeded jobs have, one after another."""
FEED = {"READ_SECONDS": 0.2, "SUMMARY_SECONDS": 0.4, "READ_DEADLINE": HANGS}
"""The console reads its stack more often than it does for people, and waits as long as a busy machine needs."""
FAILURES = (
    ("InferenceFailed", "the model ran out of memory"),
    ("Rejected", "the provider answered 400: blocked content"),
    ("InvalidInput", "incoming/hero/poses/walk.png: not a PNG, JPEG or WebP image"),
    ("TimedOut", "no result after 3000 seconds"),
)


class LiveClock(Clock):
    """The handlers' clock as time passes; tests that set it move it."""

    shift = 0.0

    def __init__(self, _now: float) -> None:
        super().__init__(time.time())

    @property
    def now(self) -> float:
        """Now."""
        return time.time() + self.shift

    @now.setter
    def now(self, value: float) -> None:
        self.shift = value - time.time()


Dropped = tuple[str, bytes]
"""A file as it is dropped: its name and its bytes."""


@dataclass
class Console:
    """A console that runs, and the stack behind it.

    `down`: AWS cannot be reached. `answering`: it does not hang. `patience`: seconds after which a client gives up.
    """

    stack: Stack
    pipeline: Pipeline
    down: bool = False
    patience: float = HASTY.read_timeout * HASTY.retries["total_max_attempts"]  # type: ignore[attr-defined]
    answering: threading.Event = field(default_factory=threading.Event)
    handled: set[str] = field(default_factory=set)
    server: Server | None = None
    gate: tuple[str, threading.Event] | None = None

    @cached_property
    def base(self) -> str:
        """The address without token and slash, http://127.0.0.1:port. The server starts when it is first asked for."""
        port = self.start(0, TOKEN)
        return f"http://127.0.0.1:{port}"

    def start(self, port: int, token: str) -> int:
        """Start the server, and return its port."""
        listener = bind(port)
        port = listener.getsockname()[1]
        self.server = Server(self.stack, token, port, CODE)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        return port

    @property
    def url(self) -> str:
        """The address that the browser opens, with the token."""
        return f"{self.base}/?token={TOKEN}"

    def stop(self) -> None:
        """End the server, if it runs."""
        if self.server:
            self.server.should_exit = True
            self.thread.join(HANGS)

    # ---- what the page does --------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str | None] = {},
        **options: Any,
    ) -> urllib3.BaseHTTPResponse:
        """One request as the page would send it; a header that is None is left out."""
        own: dict[str, str | None] = {
            "Host": self.base.removeprefix("http://"),
            "Cookie": f"posedrop-{self.base.rpartition(':')[2]}={TOKEN}",
            "Origin": None if method == "GET" else self.base,
        }
        sent = {name: value for name, value in {**own, **headers}.items() if value is not None}
        options = {"timeout": HANGS, "redirect": False, "retries": False, **options}
        if body is not None:
            options["body"] = body if isinstance(body, bytes) else json.dumps(body)
        return urllib3.PoolManager().request(method, f"{self.base}{path}", headers=sent, **options)

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON at a path."""
        return self._json(self.request("GET", path, **options), status)

    def post(self, path: str, body: object = None, status: int = 200, **options: Any) -> Any:
        """Post JSON, or a file's bytes, and return the JSON that is answered."""
        return self._json(self.request("POST", path, body, **options), status)

    def plan(self, *files: Dropped, status: int = 200, **values: Any) -> Any:
        """What would become of files that are dropped, the face among them named so."""
        return self.post("/api/plan", self.drop(*files, **values), status)

    def upload(self, *files: Dropped, status: int = 202, **values: Any) -> Any:
        """Upload files that are dropped, at any price."""
        return self.post("/api/uploads", self.drop(*files, **{"usd": 9.0, **values}), status)

    def drop(self, *files: Dropped, character: str = "hero", **values: Any) -> dict[str, Any]:
        """Send files as the page does, and describe them. What is called a face is the face."""
        files_sent = [{"file": name, "sha256": self.post("/api/files", data)["sha256"]} for name, data in files]
        face = next((file for file in files_sent if file["file"].startswith("face")), None)
        poses = [file for file in files_sent if file is not face]
        return {"character": character, "face": face, "poses": poses, **values}

    @staticmethod
    def _json(response: urllib3.BaseHTTPResponse, status: int) -> Any:
        assert response.status == status, response.data
        return json.loads(response.data)

    @contextmanager
    def held(self, operation: str) -> Iterator[None]:
        """Let no call of an AWS operation go on, but those of the test itself."""
        go_on = threading.Event()
        self.gate = (operation, go_on)
        try:
            yield
        finally:
            self.gate = None
            go_on.set()

    # ---- what happens in the stack -------------------------------------------------------------------------------

    def seed(self, count: int, states: tuple[str, ...] = CYCLE, characters: int = 4) -> list[Any]:
        """Write so many jobs, the newest first, with their images (shared by all); return their records, of both kinds.

        To be called before the server starts: what has ended is read then, and every half minute.
        """
        s3 = self.pipeline.s3
        keys: dict[str, list[str]] = {}
        for kind, size in (("face", (60, 80)), ("pose", (90, 120)), ("output", (90, 120))):
            keys[kind] = [f"seed/{kind}-{color}.png" for color in COLORS]
            for key, color in zip(keys[kind], COLORS, strict=True):
                bucket = OUTPUTS if kind == "output" else BUCKET
                s3.put_object(Bucket=bucket, Key=key, Body=image("png", size, color))
        now = time.time()
        records = []
        for index in range(count):
            shade = index % len(COLORS)
            state = states[index % len(states)]
            stored = {
                name: {"bucket": BUCKET, "key": keys[name][shade], "version_id": None, "content_type": "image/png"}
                for name in ("face", "pose")
            }
            output: dict[str, Any] = {
                "bucket": OUTPUTS,
                "key": keys["output"][shade],
                "uri": f"s3://{OUTPUTS}/{keys['output'][shade]}",
                "width": 90,
                "height": 120,
            }
            records.append(_record(index, state, f"hero-{index % characters + 1}", now - index * 20, stored, output))
        self.write(records)
        return records

    def write(self, records: list[AnyRecord]) -> None:
        """Put records into the table, over what is there."""
        for record in records:
            values = {name: value for name, value in vars(record).items() if value not in (None, [], {}, "")}
            boto3.client("dynamodb").put_item(
                TableName=TABLE, Item=to_item({**values, **_standing(record), "day": rfc3339(record.created_at)[:10]})
            )

    def change(self, record: Record, **values: Any) -> Record:
        """Change a record now, and return it."""
        changed = replace(record, **{"updated_at": round(time.time(), 3), **values})
        self.write([changed])
        return changed

    def refuse_account(self, reason: str) -> None:
        """Let the provider refuse two requests in a row: submitting is paused for ten minutes."""
        now = time.time()
        self.stack.gate.breaker.change(lambda state: (state.refused(now, reason, 600).refused(now, reason, 600), None))

    def handle(self) -> None:
        """Let the stack handle what was uploaded or asked for since the last time; jobs are submitted by that."""
        for version in self.pipeline.s3.list_object_versions(Bucket=BUCKET, Prefix="incoming/").get("Versions", []):
            if version["VersionId"] not in self.handled:
                self.handled.add(version["VersionId"])
                self.pipeline.handle(_event(version))
        for message in self.pipeline.receive(self.pipeline.queue_url):
            self.pipeline.handle(message["Body"])

    def finish(self) -> None:
        """Let all executions that were started come to their ends."""
        running = {
            execution_name(job_id, int(record["attempt"]))
            for job_id, record in self.pipeline.records().items()
            if record["status"] == Status.SUBMITTED
        }
        for name, execution in self.pipeline.executions().items():
            if name in running:
                self.pipeline.run(execution)


def _standing(record: AnyRecord) -> dict[str, Any]:
    """The keys of the sparse indexes: where a record stands until its end is notified."""
    since = rfc3339(record.updated_at)
    if record.status is Status.WAITING:
        return {"unfinished": INCOMPLETE, "unfinished_at": since}
    if record.status is Status.QUEUED:
        return {} if record.stands else in_line(record.rank, record.queued_at)
    if record.ended and record.notified_at:
        return {}
    return {"unfinished": PAID, "unfinished_at": since}


def _event(version: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "key": version["Key"],
        "size": version["Size"],
        "etag": version["ETag"].strip('"'),
        "version-id": version["VersionId"],
    }
    return {
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {"bucket": {"name": BUCKET}, "object": found},
    }


def _record(
    index: int, state: str, character: str, at: float, inputs: dict[str, Any], output: dict[str, Any]
) -> AnyRecord:
    """One job in a state (see ops.console.cards.STATES), that last changed at a time (seconds)."""
    status = {"running": "SUBMITTED", "delivering": "SUCCEEDED", "done": "SUCCEEDED"}.get(state, state.upper())
    pose, at = f"pose-{index + 1}", round(at, 3)  # as the table keeps it
    times: dict[str, Any] = {"created_at": at - 60, "updated_at": at}
    if state == "waiting":
        name = waiting_id(character, pose)
        return WaitingRecord(name, Status.WAITING, character, pose, BUCKET, missing=["face"], **times)
    values: dict[str, Any] = {}
    if state in ("running", "delivering", "done", "failed"):
        accepted = Request(1, at - 41, RequestStatus.ACCEPTED, f"request-{index}")
        values |= {"request_id": accepted.request_id, "submitted_at": at - 40, "requests": [accepted]}
    if state == "running":
        values |= {"submitted_at": at}
    if state == "submitting":
        values |= {"owner": "somebody", "requests": [Request(1, at)]}
    if state == "queued":
        values |= {"queued_at": at - 60}
    if state in ("delivering", "done"):
        metrics = {"inference_seconds": 31.06, "total_seconds": 38.2, "polls": 2}
        values |= {"completed_at": at, "outputs": [output], "metrics": metrics}
    if state == "failed":
        kind, message = FAILURES[index // len(CYCLE) % len(FAILURES)]
        values |= {"completed_at": at, "error": {"type": kind, "message": message}}
    if state in ("done", "failed"):
        values |= {"notified_at": at}
    return Record(
        f"{character}-{pose}-{index:016x}",
        cast(JobStatus, Status(status)),
        character,
        pose,
        BUCKET,
        inputs=inputs,
        parameters={"prompt": f"a walk in the rain, number {index + 1}", "seed": 2778725438 + index, "samples": 1},
        **times,
        **values,
    )


@pytest.fixture(autouse=True)
def live(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers' clock goes as time does, nothing is left to settle, and the console looks often."""
    monkeypatch.setenv("SETTLE_SECONDS", "0")
    monkeypatch.setattr(integration, "Clock", LiveClock)
    for name, seconds in FEED.items():
        monkeypatch.setattr(f"ops.console.feed.{name}", seconds)
    monkeypatch.setattr("ops.console.app.RECONNECT_MS", 100)
    monkeypatch.setattr("uvicorn.server.asyncio", _hurried())


def _hurried() -> ModuleType:
    """Stand for asyncio in uvicorn: while it waits for its end, it sleeps a tenth of the time."""
    found = ModuleType("asyncio")
    vars(found).update({**vars(asyncio), "sleep": lambda seconds: asyncio.sleep(seconds / 10)})
    return found


@pytest.fixture
def console(stack: Stack, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """A console that runs on a free port. The table is empty: see `Console.seed`."""
    found = Console(replace(stack, clock=pipeline.clock), pipeline)
    lock, call = threading.RLock(), BaseClient._make_api_call  # type: ignore[attr-defined]

    def one_at_a_time(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
        mine = threading.current_thread() is threading.main_thread()
        if found.gate and not mine and found.gate[0] == operation:
            found.gate[1].wait(HANGS)
        if not mine and not found.answering.wait(found.patience):
            raise ReadTimeoutError(endpoint_url="http://stack.test")
        # moto is not made for threads.
        with lock:
            if found.down and not mine:
                raise EndpointConnectionError(endpoint_url="http://stack.test")
            return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", one_at_a_time)
    found.answering.set()
    yield found
    found.answering.set()
    found.stop()
