"""The local stack's gateway, with faults of AWS itself: `GATEWAY_PORT=4566 python -m local.chaos.gateway`.

POST /_chaos/faults sets the faults (JSON, any of `GatewayFaults`' fields), GET returns how often each has struck. At
the start there are none. The faults:

- lost_replies: DynamoDB applies a write and its reply is lost. The caller gets a 500, after which botocore repeats the
  call, as it does after a broken connection. The repeated call finds the item that the first one wrote (Amazon DynamoDB
  developer guide, error handling: a write that returns a 5xx may have been applied).
- deaths: a function's process is killed at one of its AWS calls. Half of the calls are not applied; the other half
  are applied, but the process never gets the reply.
- twice: SQS delivers a message a second time, with the same message id, although it was deleted.
- outputs_refused: S3 answers 503 to a write below outputs/, as if the output bucket were down.
- late: SQS delivers a message later than others that were sent after it.
  (Both: Amazon SQS developer guide, standard queues: at-least-once delivery, best-effort ordering.)
"""

import json
import os
import random
import runpy
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from local.chaos.callers import caller
from local.deploy import STACK_NAME

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]
Message = dict[str, Any]
Collect = Callable[[dict[str, Any], int, int], list[Message]]
"""Receives messages of a queue: the queue, the maximum number, and for how many seconds they are hidden."""

FAULTS_PATH = "/_chaos/faults"
DYNAMODB_TARGET = "DynamoDB_20120810."
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})
LOST_REPLY = json.dumps(
    {"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": "the reply was lost"}
).encode()
OUTPUT_REFUSED = b"<Error><Code>ServiceUnavailable</Code><Message>the output bucket is down</Message></Error>"
OFTEN = {"DispatchFunction": 10}
"""How much more often than others a function dies at a call, because it makes few."""
BUDGET = b'"budget/'
"""A text in each request that writes a month's spending."""
BUDGET_REPLIES = "lost_replies about the budget"
"""The number of lost replies to such a write."""
JSON_HEADERS = [(b"content-type", b"application/x-amz-json-1.0")]


@dataclass
class GatewayFaults:
    """Shares from 0 to 1, drawn once for each call, write or message; times in seconds."""

    seed: int = 0
    deaths: float = 0.0
    lost_replies: float = 0.0
    twice: float = 0.0
    twice_seconds: float = 40.0
    """The copy arrives at any time up to this many seconds later."""
    outputs_refused: float = 0.0
    late: float = 0.0
    late_seconds: float = 8.0

    @classmethod
    def parse(cls, document: object) -> "GatewayFaults":
        """Check the requested faults. Raises ValueError that names the wrong one."""
        if not isinstance(document, dict):
            raise ValueError("the faults must be a JSON object")
        known = {field.name for field in fields(cls)}
        for name, value in document.items():
            if name not in known:
                raise ValueError(f"no such fault: {name}")
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} cannot be {value!r}")
        return cls(**document)


class FaultyQueues:
    """Decides what happens to each message before it is delivered."""

    def __init__(self, faults: GatewayFaults, struck: Counter[str]) -> None:
        """`struck` counts what happened."""
        self._faults = faults
        self._struck = struck
        self._random = random.Random(f"{faults.seed}/queues")  # nosec B311 # the same each time

    def hold_back(self, queue: str, messages: list[Message], now: float) -> None:
        """Delay some of a queue's messages that were never received, each at most once."""
        for message in messages:
            if message["visible_at"] <= now and not message["receive_count"] and "late" not in message:
                message["late"] = self._random.random() < self._faults.late
                if message["late"]:
                    message["visible_at"] = now + self._random.uniform(0, self._faults.late_seconds)
                    self._struck[f"late in {queue}"] += 1

    def copies(self, queue: str, received: list[Message], now: float) -> list[Message]:
        """Return copies of some of the messages, to be delivered later; at most one copy of each."""
        made: list[Message] = []
        for message in received:
            if "copied" in message:
                continue
            message["copied"] = self._random.random() < self._faults.twice
            if message["copied"]:
                visible_at = now + self._random.uniform(0, self._faults.twice_seconds)
                made.append({**message, "receipt_handle": None, "visible_at": visible_at})
                self._struck[f"twice in {queue}"] += 1
        return made


class FaultyGateway:
    """MiniStack's ASGI application, with faults."""

    def __init__(self, application: Callable[[Scope, Channel, Channel], Awaitable[None]], collect: Collect) -> None:
        """`application` and `collect` are MiniStack's own."""
        self._application = application
        self._collect = collect
        self.struck: Counter[str] = Counter()
        self.set_faults(GatewayFaults())

    def set_faults(self, faults: GatewayFaults) -> None:
        """Replace all faults. Their draws start again; the counts continue."""
        self.faults = faults
        self._replies = random.Random(f"{faults.seed}/replies")  # nosec B311 # the same each time
        self._outputs = random.Random(f"{faults.seed}/outputs")  # nosec B311 # the same each time
        self._deaths = random.Random(f"{faults.seed}/deaths")  # nosec B311 # the same each time
        self._queues = FaultyQueues(faults, self.struck)

    async def __call__(self, scope: Scope, receive: Channel, send: Channel) -> None:
        """Forward a request, lose some replies to applied writes, and kill some of the callers."""
        if scope["type"] == "http" and scope["path"] == FAULTS_PATH:
            await self._control(scope, receive, send)
        elif scope["type"] == "http" and (found := self._victim(scope)):
            await self._kill(found, scope, receive, send)
        elif scope["type"] == "http" and is_output(scope) and self._outputs.random() < self.faults.outputs_refused:
            self.struck["outputs_refused"] += 1
            await _respond(send, 503, OUTPUT_REFUSED)
        elif scope["type"] == "http" and is_write(scope) and self._replies.random() < self.faults.lost_replies:
            await self._lose_reply(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    def collect(self, queue: dict[str, Any], most: int, visibility: int) -> list[Message]:
        """Return messages of a queue in place of MiniStack: some late, some of them twice."""
        now, name = time.time(), queue_name(queue["name"])
        self._queues.hold_back(name, queue["messages"], now)
        received = self._collect(queue, most, visibility)
        queue["messages"] += self._queues.copies(name, received, now)
        return received

    def _victim(self, scope: Scope) -> tuple[int, str] | None:
        """Return the process id and the logical id of a calling function that must die now, or None."""
        draw = self._deaths.random()
        if draw >= self.faults.deaths * max(OFTEN.values()):
            return None
        found = caller_of(scope)
        return found if found and draw < self.faults.deaths * OFTEN.get(found[1], 1) else None

    async def _kill(self, found: tuple[int, str], scope: Scope, receive: Channel, send: Channel) -> None:
        """Kill a caller, before or after its call is applied. Nobody receives the reply."""
        pid, function = found
        before = self._deaths.random() < 0.5
        if not before:
            await self._application(scope, receive, _unheard)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.struck[f"death of {function} {'before' if before else 'after'} a call"] += 1
        await _respond(send, 500, LOST_REPLY)

    async def _lose_reply(self, scope: Scope, receive: Channel, send: Channel) -> None:
        replies: list[MutableMapping[str, Any]] = []
        request = b""

        async def hear() -> Any:
            nonlocal request
            part = await receive()
            request += part.get("body", b"")
            return part

        async def keep(message: MutableMapping[str, Any]) -> None:
            replies.append(message)

        await self._application(scope, hear, keep)
        if replies and replies[0].get("status") == 200:
            self.struck["lost_replies"] += 1
            if BUDGET in request:
                self.struck[BUDGET_REPLIES] += 1
            await _respond(send, 500, LOST_REPLY)
            return
        for message in replies:  # the write was not applied, so its reply is not lost
            await send(message)

    async def _control(self, scope: Scope, receive: Channel, send: Channel) -> None:
        if scope["method"] == "POST":
            body, more = b"", True
            while more:
                part = await receive()
                body, more = body + part.get("body", b""), part.get("more_body", False)
            try:
                self.set_faults(GatewayFaults.parse(json.loads(body)))
            except ValueError as error:
                await _respond(send, 400, json.dumps({"error": str(error)}).encode())
                return
        await _respond(send, 200, json.dumps({"struck": self.struck}).encode())


def is_write(scope: Scope) -> bool:
    """Return whether a request writes to DynamoDB."""
    target: bytes = next((value for name, value in scope["headers"] if name.lower() == b"x-amz-target"), b"")
    service, _, action = target.decode("latin-1").partition(".")
    return f"{service}." == DYNAMODB_TARGET and action in WRITES


def is_output(scope: Scope) -> bool:
    """Return whether a request writes an image or a result.json to S3.

    In MiniStack the bucket is the first part of the path.
    """
    return scope["method"] in ("PUT", "POST") and "outputs" in scope["path"].split("/")[2:3]


def caller_of(scope: Scope) -> tuple[int, str] | None:
    """Return the process id and the logical id of the function that sent a request, or None."""
    return caller(scope["client"][1]) if scope.get("client") else None


def queue_name(name: str) -> str:
    """Return the logical id of a queue of the stack, such as `SubmitQueue`; for others, the first word of the name."""
    return name.removeprefix(f"{STACK_NAME}-").partition("-")[0]


async def _unheard(message: MutableMapping[str, Any]) -> None:
    """Discard the reply to a call whose caller will be dead."""


async def _respond(send: Channel, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": JSON_HEADERS})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve the local stack's gateway with these faults."""
    import ministack.app
    from ministack.services import sqs

    gateway = FaultyGateway(ministack.app.app, sqs._collect_msgs)
    ministack.app.app = gateway
    sqs._collect_msgs = gateway.collect
    runpy.run_module("local.gateway", run_name="__main__")


if __name__ == "__main__":
    main()
