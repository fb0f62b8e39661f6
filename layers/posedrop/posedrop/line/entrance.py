"""Place new jobs. If the line is empty, the gate is open and a time is free, a job is sent at once; else it waits."""

from collections.abc import Callable
from typing import Any, Self

from posedrop.aws.items import Items
from posedrop.aws.messages import SubmitMessage
from posedrop.aws.places import dispatched, in_line
from posedrop.aws.record import Record
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.contract.times import rfc3339
from posedrop.gate.gate import Gate
from posedrop.line.line import Line
from posedrop.settings import Settings


class Entrance:
    """Gives each new job its place. Errors of DynamoDB and SQS pass as botocore's ClientError."""

    def __init__(self, gate: Gate, line: Line, queue: SubmitQueue, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._line = line
        self._queue = queue
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings, items: Items, queue: SubmitQueue, clock: Callable[[], float]) -> Self:
        """Return the entrance of a stack with these settings."""
        gate = Gate(items, settings.limit, settings.budget, settings.model)
        return cls(gate, Line(items), queue, clock)

    def place(self, character: str, number: int = 0) -> dict[str, Any]:
        """Return the place of a new job or attempt, as attributes for its record.

        `number` is the record's dispatch number so far. A job that is sent at once gets the highest rank so far and
        does not raise it, so the jobs in line lose nothing.
        """
        now = self._clock()
        place: dict[str, Any] = {"queued_at": now, "dispatch_number": number + 1}
        state = self._gate.read(now)
        opening = self._gate.opening(state, now)
        if not opening.closed and self._line.is_empty():
            times, _ = self._gate.reserve(state, opening, now, [state.highest_rank])
            if times:
                return {**place, "rank": state.highest_rank, **dispatched(times[0])}
        rank = self._line.rank(character, state.highest_rank, now)
        place |= {"rank": rank, **in_line(rank, now)}
        if opening.closed:
            reason = {"reason": opening.closed.reason, "reason_code": opening.closed.code}
            return {**place, **reason, "deferred_until": opening.closed.until}
        return place

    def send(self, record: Record, place: dict[str, Any]) -> None:
        """Send the message of a job that is sent at once. Call it after the record was written with this `place`."""
        at = place.get("send_at")
        if at is not None and record.send_at is not None and rfc3339(record.send_at) == rfc3339(at):
            message = SubmitMessage(record.job_id, record.dispatch_number)
            self._queue.send([(message, record.send_at - self._clock())])
