"""Dispatch jobs: take those for the next HORIZON seconds out of the line, each with a reserved time.

Runs may be repeated, and may overlap: a job moves only from the place where this run has read it, and a conditional
write reserves the times. The record is written first, with a new dispatch number, and then the message with that number
is sent. So if a run dies, each job is still in line or due.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.messages import SubmitMessage
from posedrop.aws.parallel import Parallel, in_threads
from posedrop.aws.places import Entry
from posedrop.contract.reasons import Closed
from posedrop.gate.breaker import Cause
from posedrop.gate.gate import Gate, GateState, Opening
from posedrop.line.line import Line

logger = Logger(child=True)

CHUNK = 256
"""Jobs for which times are reserved together. A run that dies wastes at most this many times."""
MOST_DUE = 20_000
"""The most jobs that one run puts back in line."""
MOST_DISPATCHED = 10_000
RESERVE_SECONDS = 10.0
"""No further chunk is begun if the function has fewer seconds left than this."""


@dataclass(frozen=True)
class Dispatched:
    """The result of one run.

    - sent: the number of dispatched jobs.
    - returned: the number of jobs put back in line.
    - closed: why the gate is closed, or None.
    - oldest_seconds: how long the oldest of the next jobs has waited.
    - idle_seconds: how long jobs have waited without any delivery, while the gate is open.
    """

    sent: int
    returned: int
    closed: Closed | None
    oldest_seconds: float = 0.0
    idle_seconds: float = 0.0


class Queue(Protocol):
    """The part of the submit queue that a dispatcher needs."""

    def send(self, messages: Sequence[tuple[SubmitMessage, float]]) -> None:
        """Send messages, each after its delay in seconds."""


class Dispatcher:
    """Dispatches jobs.

    `clock` and `key_changed_at` (when the API key was last changed) return seconds since the epoch. `parallel` is for
    tests and simulations.
    """

    def __init__(
        self,
        gate: Gate,
        line: Line,
        queue: Queue,
        *,
        clock: Callable[[], float],
        key_changed_at: Callable[[], float],
        parallel: Parallel = in_threads,
    ) -> None:
        self._gate = gate
        self._line = line
        self._queue = queue
        self._clock = clock
        self._key_changed_at = key_changed_at
        self._parallel = parallel

    def run(self, remaining: Callable[[], float]) -> Dispatched:
        """Dispatch the next jobs, and put due jobs back in line. `remaining` returns the function's seconds left."""
        now = self._clock()
        state = self._read_gate(now)
        opening = self._gate.opening(state, now)
        free = min(self._gate.free(state, opening, now), MOST_DISPATCHED)
        due = self._line.due(now, MOST_DUE)
        waiting = sorted([*due, *self._line.head(max(free, 1))], key=lambda entry: entry.line_place)
        sent = self._dispatch(waiting[: free + CHUNK], state, opening, remaining) if free else set()
        returned = self._put_in_line([entry for entry in due if entry.job_id not in sent], remaining)
        first = [entry.queued_at for entry in [*waiting[:1], *(due[:1] or self._line.next_due())]]
        oldest = max(0.0, now - min(first, default=now))
        idle = 0.0 if opening.closed else min(oldest, now - state.spending.delivered_at)
        logger.info("dispatched", sent=len(sent), returned=returned, free=free, closed=opening.closed)
        return Dispatched(len(sent), returned, opening.closed, oldest, idle)

    def _read_gate(self, now: float) -> GateState:
        """Read the gate. If it is paused because of a refused API key, and the key has changed since, end the pause."""
        state = self._gate.read(now)
        breaker = state.breaker
        if breaker.is_paused(now) and breaker.cause == Cause.KEY_REFUSED and self._key_changed_at() > breaker.opened_at:
            logger.info("the API key has been changed: the pause ends")
            self._gate.breaker.change(lambda state: (state.resumed(now), None))
            return self._gate.read(now)
        return state

    def _dispatch(
        self, waiting: Sequence[Entry], state: GateState, opening: Opening, remaining: Callable[[], float]
    ) -> set[str]:
        """Dispatch the first of these jobs, one for each free time. Return their ids."""
        sent: set[str] = set()
        times: list[float] = []
        while waiting and remaining() > RESERVE_SECONDS:
            chunk, waiting = waiting[:CHUNK], waiting[CHUNK:]
            ranks = [entry.rank for entry in chunk[len(times) :]]
            more, state = self._gate.reserve(state, opening, self._clock(), ranks)
            times += more
            if not times:
                break
            pairs = list(zip(chunk, times, strict=False))
            numbers = self._parallel(self._move, pairs)
            moved = [(entry, at, number) for (entry, at), number in zip(pairs, numbers, strict=True) if number]
            now = self._clock()
            self._queue.send(
                [(SubmitMessage(entry.job_id, number, opening.probe), at - now) for entry, at, number in moved]
            )
            sent |= {entry.job_id for entry, _, _ in moved}
            # If another run or a cancellation has moved a job, its time goes to the next job.
            times = [at for (_, at), number in zip(pairs, numbers, strict=True) if not number]
        return sent

    def _move(self, pair: tuple[Entry, float]) -> int | None:
        try:
            return self._line.dispatch(*pair)
        except (BotoCoreError, ClientError) as exc:
            # If the write was applied nevertheless, the job is due in ten minutes.
            logger.warning("a job could not be dispatched", job_id=pair[0].job_id, reason=str(exc))
            return None

    def _put_in_line(self, due: Sequence[Entry], remaining: Callable[[], float]) -> int:
        """Put due jobs back in line, and return how many."""
        returned = 0
        while due and remaining() > RESERVE_SECONDS:
            returned += sum(self._parallel(self._line.put_in_line, due[:CHUNK]))
            due = due[CHUNK:]
        return returned
