"""The queues and the runs of dispatch on the tests' clock, as AWS documents them.

A delayed message arrives after its delay, a failed one after its visibility timeout. `dispatch` runs when it is invoked
and each minute; minutes in which it would find nothing to do are skipped.
"""

import math
import uuid
from dataclasses import dataclass, field
from typing import Any

import boto3

from posedrop.aws.items import Items
from posedrop.contract.times import epoch
from posedrop.gate.gate import HORIZON
from posedrop.line.line import Line
from tests.integration.conftest import TABLE
from tests.memory import MemoryPipeline

VISIBILITY = 360.0
"""Seconds after which a message is redelivered if its function has died."""
MINUTE = 60.0


@dataclass
class Message:
    """One message for a function, not delivered before `due` (seconds since the epoch)."""

    function: str
    body: str
    due: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receives: int = 0


class Queues:
    """The messages for intake and submit, and when dispatch runs next: SQS and Lambda of a pipeline in memory."""

    def __init__(self, pipeline: MemoryPipeline) -> None:
        self.pipeline = pipeline
        self.clock = pipeline.clock
        self.messages: list[Message] = []
        self.sent: list[Message] = []
        """All messages that functions have sent."""
        self.is_invoked = False
        """Whether dispatch was invoked and has not run since."""
        self._functions = {pipeline.queue_url: "intake", pipeline.submit_queue_url: "submit"}
        self._hidden: float | None = None
        """The seconds for which the function has hidden the present message, if it has."""
        self._line = Line(Items(boto3.client("dynamodb"), TABLE))
        pipeline.aws.queues = self

    def send(self, body: str, function: str = "intake", *, at: float | None = None, **values: Any) -> None:
        """Put a message on a function's queue, to arrive at a time, or now."""
        self.messages.append(Message(function, body, self.clock.now if at is None else at, **values))

    def take(self, number: int = 0) -> Message:
        """Remove and return a message, by default the one that is due first."""
        self.messages.sort(key=lambda message: message.due)
        return self.messages.pop(number)

    def next_due(self) -> float:
        """Return when the next message is due (seconds since the epoch); infinity if there is none."""
        return min((message.due for message in self.messages), default=math.inf)

    def next_run(self) -> float:
        """Return when dispatch next has something to do, in seconds since the epoch.

        Infinity if there is nothing to do.
        """
        now = self.clock.now
        if self.is_invoked:
            return now
        found = [epoch(entry.place) for entry in self._line.next_due()]
        if not self._line.is_empty():
            gate = self.pipeline.gate()
            state = gate.read(now)
            probed = state.breaker.probe_until if state.breaker.is_open else 0.0
            found.append(max(gate.opening(state, now).at, probed, state.until - HORIZON))
        return math.floor(max(now, min(found)) / MINUTE + 1) * MINUTE if found else math.inf

    def dispatch(self, context: Any) -> Any:
        """Run dispatch now, and return its result."""
        self.is_invoked = False
        return self.pipeline.dispatch.handler({}, context)

    def deliver(self, message: Message, context: Any, process: Any = None) -> bool:
        """Let a message's function handle it now; return whether it succeeded. Otherwise the message is redelivered.

        process: has the functions to use instead of the pipeline's own. It may begin while one of those runs.
        """
        message.receives += 1
        record = {**self.pipeline.record_of(message.body), "messageId": message.id}
        record["attributes"] = {"ApproximateReceiveCount": str(message.receives)}
        interrupted, self._hidden = self._hidden, None
        hidden = VISIBILITY
        try:
            result = getattr(process or self.pipeline, message.function).handler({"Records": [record]}, context)
            if not result["batchItemFailures"]:
                hidden = 0.0
            elif self._hidden is not None:
                hidden = self._hidden
        finally:  # also if the function died
            self._hidden = interrupted
            if hidden:
                again = Message(message.function, message.body, self.clock.now + hidden, message.id, message.receives)
                self.messages.append(again)
        return not hidden

    # ---- the calls of the functions --------------------------------------------------------------------------------

    def send_message(self, **request: Any) -> dict[str, Any]:
        self._queue(request["QueueUrl"], request)
        return {"MessageId": "sent"}

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        for entry in request["Entries"]:
            self._queue(request["QueueUrl"], entry)
        return {"Successful": []}

    def change_message_visibility(self, **request: Any) -> dict[str, Any]:
        self._hidden = request["VisibilityTimeout"]
        return {}

    def invoke(self, **request: Any) -> dict[str, Any]:
        assert request["FunctionName"] == "dispatch"
        self.is_invoked = True
        return {"StatusCode": 202}

    def _queue(self, url: str, entry: dict[str, Any]) -> None:
        assert url in self._functions, "a message that nobody could read"
        self.send(entry["MessageBody"], self._functions[url], at=self.clock.now + entry.get("DelaySeconds", 0))
        self.sent.append(self.messages[-1])
