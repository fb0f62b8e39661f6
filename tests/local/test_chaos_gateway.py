"""The faults that the gateway of a chaos run puts into AWS: replies that are lost, messages late and twice, deaths."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from local.chaos import gateway as gateway_module
from local.chaos.callers import MARK, caller
from local.chaos.gateway import BUDGET_REPLIES, FAULTS_PATH, FaultyGateway, FaultyQueues, GatewayFaults
from tests.support import HANGS

NOW = 1_000_000.0


class Aws:
    """In MiniStack's place: applies each request and answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.applied: list[str] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        self.applied.append(dict(scope["headers"])[b"X-Amz-Target"].decode())
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def call(
    gateway: FaultyGateway, target: str, *, method: str = "POST", path: str = "/", body: bytes = b"{}"
) -> tuple[int, Any]:
    """Send a request; return the status and the JSON of its reply."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"X-Amz-Target", target.encode())]}
    asyncio.run(gateway(scope, receive, send))
    reply: bytes = sent[1]["body"]
    return sent[0]["status"], json.loads(reply) if reply.startswith(b"{") else reply


def gateway_of(aws: Aws, **faults: float) -> FaultyGateway:
    """A gateway that asks this AWS and hands out all messages of a queue that are visible."""

    def collect(queue: dict[str, Any], most: int, visibility: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [message for message in queue["messages"] if message["visible_at"] <= NOW]
        return found[:most]

    gateway = FaultyGateway(aws, collect)
    gateway.set_faults(GatewayFaults(**faults))  # type: ignore[arg-type]
    return gateway


def message(name: str, receive_count: int = 0) -> dict[str, Any]:
    return {"id": name, "visible_at": NOW, "receive_count": receive_count, "receipt_handle": "handle"}


@pytest.mark.parametrize("action", ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"])
def test_a_write_is_applied_and_its_reply_lost(action: str) -> None:
    aws = Aws()
    gateway = gateway_of(aws, lost_replies=1)
    status, body = call(gateway, f"DynamoDB_20120810.{action}")
    assert (status, body["__type"].rpartition("#")[2]) == (500, "InternalServerError")
    assert aws.applied == [f"DynamoDB_20120810.{action}"]
    assert gateway.struck == {"lost_replies": 1}


@pytest.mark.parametrize("key", ["budget/2026-11", "hero-walk-0123456789abcdef"])
def test_lost_replies_about_the_budget_are_counted_by_themselves(key: str) -> None:
    gateway = gateway_of(Aws(), lost_replies=1)
    call(gateway, "DynamoDB_20120810.UpdateItem", body=json.dumps({"Key": {"job_id": {"S": key}}}).encode())
    assert gateway.struck == {"lost_replies": 1} | ({BUDGET_REPLIES: 1} if key.startswith("budget/") else {})


@pytest.mark.parametrize("target", ["DynamoDB_20120810.GetItem", "AmazonSQS.SendMessage"])
def test_other_replies_arrive(target: str) -> None:
    assert call(gateway_of(Aws(), lost_replies=1), target) == (200, {})


def test_a_write_that_was_not_applied_says_so() -> None:
    gateway = gateway_of(Aws(status=400), lost_replies=1)
    assert call(gateway, "DynamoDB_20120810.PutItem")[0] == 400
    assert not gateway.struck


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/bucket/outputs/hero/walk/1.png", 503),
        ("POST", "/bucket/outputs/hero/walk/1.png", 503),
        ("GET", "/bucket/outputs/hero/walk/1.png", 200),
        ("PUT", "/bucket/incoming/outputs/face.png", 200),
        ("POST", "/", 200),
    ],
)
def test_an_output_bucket_that_is_down_refuses_writes_of_outputs(method: str, path: str, status: int) -> None:
    gateway = gateway_of(Aws(), outputs_refused=1.0)
    assert call(gateway, "", method=method, path=path)[0] == status
    assert gateway.struck["outputs_refused"] == (status == 503)


def test_the_seed_decides_which_replies_are_lost() -> None:
    def lost(seed: int) -> list[int]:
        gateway = gateway_of(Aws(), seed=seed, lost_replies=0.3)
        return [call(gateway, "DynamoDB_20120810.PutItem")[0] for _ in range(50)]

    assert lost(1) == lost(1) != lost(2)
    assert 5 < lost(1).count(500) < 25


def test_a_message_is_delivered_twice_under_one_id_and_no_more() -> None:
    queues = FaultyQueues(GatewayFaults(twice=1, twice_seconds=10), Counter())
    first = message("a", receive_count=1)
    (copy,) = queues.copies("SubmitQueue", [first], NOW)
    assert (copy["id"], copy["receipt_handle"]) == ("a", None)
    assert NOW <= copy["visible_at"] <= NOW + 10
    assert queues.copies("SubmitQueue", [first, copy], NOW) == []


def test_a_message_is_late_once_and_only_before_it_was_received() -> None:
    queues = FaultyQueues(GatewayFaults(late=1, late_seconds=10), Counter())
    new, known = message("new"), message("known", receive_count=1)
    queues.hold_back("SubmitQueue", [new, known], NOW)
    assert NOW < new["visible_at"] <= NOW + 10
    assert known["visible_at"] == NOW
    new["visible_at"] = NOW
    queues.hold_back("SubmitQueue", [new], NOW)
    assert new["visible_at"] == NOW


def test_a_queue_hands_out_what_is_not_late_and_keeps_the_copies() -> None:
    gateway = gateway_of(Aws(), late=0.5, twice=1)
    names = [f"m{number}" for number in range(20)]
    queue: Any = {"name": "posedrop-SubmitQueue-08CDC955AB04E", "messages": [message(name) for name in names]}
    received = [found["id"] for found in gateway.collect(queue, 100, 30)]
    assert 0 < len(received) == 20 - gateway.struck["late in SubmitQueue"] < 20
    assert sorted(found["id"] for found in queue["messages"]) == sorted([*names, *received])
    assert gateway.struck["twice in SubmitQueue"] == len(received)


def test_the_faults_are_set_over_http_and_counted() -> None:
    aws = Aws()
    gateway = gateway_of(aws)
    assert call(gateway, "DynamoDB_20120810.PutItem") == (200, {})
    assert call(gateway, "", path=FAULTS_PATH, body=b'{"lost_replies": 1}') == (200, {"struck": {}})
    assert call(gateway, "DynamoDB_20120810.PutItem")[0] == 500
    assert call(gateway, "", method="GET", path=FAULTS_PATH) == (200, {"struck": {"lost_replies": 1}})
    assert len(aws.applied) == 2


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"twice": "yes"}', b'{"unheard-of": 1}', b'{"late": -1}'])
def test_faults_that_cannot_be_read_are_refused(body: bytes) -> None:
    gateway = gateway_of(Aws())
    before = gateway.faults
    status, answer = call(gateway, "", path=FAULTS_PATH, body=body)
    assert (status, bool(answer["error"])) == (400, True)
    assert gateway.faults == before


# ---- deaths ----------------------------------------------------------------------------------------------------------

CONNECT = "import socket, sys; kept = socket.create_connection(('127.0.0.1', int(sys.argv[-1]))); kept.recv(1)"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this machine that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANGS)
        yield listening


@pytest.fixture
def function(listener: socket.socket, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks as MiniStack's processes of `submit` do, and connects to the listener."""
    script = tmp_path / f"{MARK}SubmitFunction-20B9FB4C15733-suq5kb4b" / "_worker.py"
    script.parent.mkdir()
    script.write_text(CONNECT)
    port = str(listener.getsockname()[1])
    with subprocess.Popen([sys.executable, str(script), "--port", port]) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="a caller is found in /proc")
def test_the_function_behind_a_connection_is_found(listener: socket.socket, function: subprocess.Popen[bytes]) -> None:
    theirs, address = listener.accept()
    with theirs:
        assert caller(address[1]) == (function.pid, "SubmitFunction")
    with socket.create_connection(listener.getsockname()) as own:
        assert caller(own.getsockname()[1]) is None


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_function_dies_at_its_call(
    monkeypatch: pytest.MonkeyPatch, function: subprocess.Popen[bytes], when: str
) -> None:
    monkeypatch.setattr(gateway_module, "caller_of", lambda scope: (function.pid, "SubmitFunction"))
    aws = Aws()
    gateway = gateway_of(aws, deaths=1)
    monkeypatch.setattr(gateway, "_deaths", Draws(0.0, 0.2 if when == "before" else 0.8))
    call(gateway, "DynamoDB_20120810.UpdateItem")
    assert function.wait(HANGS) == -signal.SIGKILL
    assert gateway.struck == {f"death of SubmitFunction {when} a call": 1}
    assert len(aws.applied) == (when == "after")


def test_who_is_no_function_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "caller_of", lambda scope: None)
    gateway = gateway_of(Aws(), deaths=1)
    assert call(gateway, "DynamoDB_20120810.UpdateItem") == (200, {})
    assert not gateway.struck


@pytest.mark.parametrize(("name", "deaths"), [("SubmitFunction", 100), ("DispatchFunction", 1000)])
def test_a_function_that_makes_few_calls_dies_oftener(monkeypatch: pytest.MonkeyPatch, name: str, deaths: int) -> None:
    monkeypatch.setattr(gateway_module, "caller_of", lambda scope: (1, name))
    gateway = gateway_of(Aws(), deaths=0.1)
    monkeypatch.setattr(gateway, "_deaths", Draws(*(number / 1000 for number in range(1000))))
    assert sum(gateway._victim({}) is not None for _ in range(1000)) == deaths


class Draws:
    """These numbers in turn, in a generator's place."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0)
