"""Simulate SQS queues, and Lambda functions that read them or are invoked, as documented.

Facts: SQS API reference (SendMessage: DelaySeconds are whole seconds, 0 to 900; ChangeMessageVisibility), SQS developer
guide ("Amazon SQS visibility timeout"). Lambda developer guide, "Configuring scaling behavior for SQS event source
mappings": long polling; five batches at once at first; 300 more a minute while there are messages, up to
MaximumConcurrency; back to five when traffic is low. "Understanding the Lambda execution environment lifecycle": an
environment is used again for the next invocation; its start is billed like its run time, by the millisecond.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.simulation.engine import Simulation

AT_FIRST, MORE_A_MINUTE = 5, 300
MINUTE = 60.0
RECEIVE_SECONDS = 0.03
"""Seconds from a message's time, or the end of the invocation before, to the next start: a long poll answers at once.
Not documented; two calls and an invocation."""
SQS_SECONDS = 0.010
"""Of a call."""
IDLE_SECONDS = 300.0
"""Seconds after which an unused environment is removed. Not documented: five to fifteen minutes are observed."""
LONGEST_DELAY = 900


Handler = Callable[[Any, Callable[[], float]], Any]
"""Takes an event and a function that returns the remaining seconds."""


class TimedOut(Exception):
    """A function ran longer than its timeout. The simulation stops; on AWS the function would be ended."""


@dataclass
class Use:
    """The billed usage of a function. `seconds` include the starts."""

    invocations: int = 0
    starts: int = 0
    seconds: float = 0.0


class Function:
    """A Lambda function.

    `handler` takes the event and returns the function's result. `start_seconds` is the start of a new environment.
    `timeout` is in seconds. `memory_mb` is for the bill.
    """

    def __init__(
        self,
        simulation: Simulation,
        handler: Handler,
        *,
        memory_mb: int,
        timeout: float,
        start_seconds: float,
    ) -> None:
        self.use = Use()
        self.memory_mb = memory_mb
        self.handler = handler
        self._simulation = simulation
        self._timeout = timeout
        self._start_seconds = start_seconds
        self._idle: list[float] = []
        """The times since when each environment is idle, the last used at the end."""

    def invoke(self, event: Any) -> Any:
        """Run the handler in an environment, a new one if none is idle, and return its result."""
        now = self._simulation.now
        if self._idle and self._idle[-1] > now - IDLE_SECONDS:
            self._idle.pop()
        else:
            self._idle.clear()  # the others have been idle longer
            self.use.starts += 1
            self._simulation.sleep(self._start_seconds)
        ends = self._simulation.now + self._timeout
        result = self.handler(event, lambda: ends - self._simulation.now)
        if self._simulation.now > ends:
            raise TimedOut(f"after {self._timeout} s")
        self.use.invocations += 1
        self.use.seconds += math.ceil((self._simulation.now - now) * 1000 - 1e-6) / 1000
        self._idle.append(self._simulation.now)
        return result


@dataclass
class Message:
    """A message of a queue. `receives`: the number of receives."""

    id: str
    body: str
    receives: int = 0


@dataclass
class QueueUse:
    """The billed calls of a queue, and the numbers of messages sent and received."""

    sent: int = 0
    receives: int = 0
    calls: int = 0


class Queue:
    """A standard queue with its client. `visibility` is its timeout in seconds."""

    def __init__(self, simulation: Simulation, visibility: float) -> None:
        self.use = QueueUse()
        self.on_message: Callable[[], None] = lambda: None
        self._simulation = simulation
        self._visibility = visibility
        self._ready: deque[Message] = deque()
        self._hidden: list[tuple[float, int, Message]] = []
        self._numbers = count()
        self._received: dict[str, float] = {}
        """When each received message becomes visible again, by its receipt handle."""

    def __len__(self) -> int:
        """Return how many messages can be received."""
        return len(self._ready)

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        """Do what SQS's SendMessageBatch does."""
        entries = request["Entries"]
        if not 1 <= len(entries) <= 10:
            raise ValueError(f"{len(entries)} messages at once")
        self._call()
        for entry in entries:
            self.send(entry["MessageBody"], entry.get("DelaySeconds", 0))
        return {"Successful": [{"Id": entry["Id"]} for entry in entries]}

    def change_message_visibility(self, **request: Any) -> None:
        """Do what SQS's ChangeMessageVisibility does."""
        self._call()
        self._received[request["ReceiptHandle"]] = self._simulation.now + request["VisibilityTimeout"]

    def send(self, body: str, delay: int = 0) -> None:
        """Put a message on the queue, without the duration of a call."""
        if not 0 <= delay <= LONGEST_DELAY or delay != int(delay):
            raise ValueError(f"DelaySeconds {delay}")
        self.use.sent += 1
        self._show(Message(f"message-{next(self._numbers)}", body), self._simulation.now + delay)

    def receive(self) -> Message:
        """Receive a message; there must be one."""
        message = self._ready.popleft()
        message.receives += 1
        self.use.receives += 1
        self.use.calls += 1
        self._received[message.id] = self._simulation.now + self._visibility
        return message

    def done(self, message: Message) -> None:
        """Delete a received message."""
        self.use.calls += 1
        del self._received[message.id]

    def again(self, message: Message) -> None:
        """Let a received message become visible after the visibility timeout."""
        self._show(message, self._received.pop(message.id))

    def _call(self) -> None:
        self.use.calls += 1
        self._simulation.sleep(SQS_SECONDS)

    def _show(self, message: Message, at: float) -> None:
        heapq.heappush(self._hidden, (at, next(self._numbers), message))
        self._simulation.at(at, self._appear)

    def _appear(self) -> None:
        while self._hidden and self._hidden[0][0] <= self._simulation.now:
            self._ready.append(heapq.heappop(self._hidden)[2])
        self.on_message()


class EventSource:
    """Reads a queue for a function, one message per invocation, at most `maximum` (MaximumConcurrency) at a time."""

    def __init__(self, simulation: Simulation, queue: Queue, function: Function, maximum: int) -> None:
        self._simulation = simulation
        self._queue = queue
        self._function = function
        self._maximum = maximum
        self._allowed = min(AT_FIRST, maximum)
        self._busy = self._busiest = 0
        self._growing = False
        queue.on_message = self._read
        simulation.after(MINUTE, self._shrink)

    def _read(self) -> None:
        """Start functions for the present messages."""
        while len(self._queue) and self._busy < self._allowed:
            self._busy += 1
            self._busiest = max(self._busiest, self._busy)
            message = self._queue.receive()
            self._simulation.spawn(lambda message=message: self._invoke(message), RECEIVE_SECONDS)  # type: ignore[misc]
        if len(self._queue) and self._allowed < self._maximum and not self._growing:
            self._growing = True
            self._simulation.after(MINUTE / MORE_A_MINUTE, self._grow)

    def _grow(self) -> None:
        self._growing = False
        if len(self._queue):
            self._allowed += 1
            self._read()

    def _shrink(self) -> None:
        """Reduce the concurrency to that of the last minute, at least five."""
        self._allowed = min(self._allowed, max(AT_FIRST, self._busiest))
        self._busiest = self._busy
        self._simulation.after(MINUTE, self._shrink)

    def _invoke(self, message: Message) -> None:
        response: Mapping[str, Any] = self._function.invoke({"Records": [_record(message)]})
        if response["batchItemFailures"]:
            self._queue.again(message)
        else:
            self._queue.done(message)
        self._busy -= 1
        self._read()


def _record(message: Message) -> dict[str, Any]:
    """Return a message as in a function's event."""
    return {
        "messageId": message.id,
        "receiptHandle": message.id,
        "body": message.body,
        "attributes": {"ApproximateReceiveCount": str(message.receives)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }
