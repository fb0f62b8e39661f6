"""What an execution of the state machine knows of its job: `submit` begins it, `poll` goes on, `deliver` ends it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from posedrop.contract.times import epoch, rfc3339

FAULTS = ("poll_fault", "deliver_fault")
TIMES = ("submitted_at", "not_found_at")


@dataclass(frozen=True)
class TaskFault:
    """What Step Functions says of a task whose retries are used up (Amazon States Language, Catch)."""

    error: str = ""
    cause: str = ""


@dataclass(frozen=True)
class ExecutionState:
    """What is carried from task to task. Times are seconds since the epoch, and RFC 3339 texts in
    the state machine.

    faults: GETs without a response, in a row; not_found_at: when the provider first did not know the request id;
    tenths: the latency as it was when the job was submitted; completed: only a slot for the result is waited for;
    look_wait_seconds: the wait before the poll that found that; elapsed_seconds: how long after the submission the end
    was seen; cost_usd: what a failed job cost, where the provider says it. poll_fault, deliver_fault: why a task was
    given up. Of a job that ended before it was sent, only its id and attempt are known.
    """

    job_id: str
    attempt: int
    character: str = ""
    pose: str = ""
    request_id: str | None = None
    submitted_at: float = 0.0
    polls: int = 0
    wait_seconds: int = 1
    finished: bool = False
    faults: int = 0
    not_found_at: float | None = None
    error: dict[str, str] | None = None
    tenths: tuple[int, ...] = ()
    completed: bool = False
    look_wait_seconds: int = 1
    elapsed_seconds: float | None = None
    cost_usd: float | None = None
    poll_fault: TaskFault | None = None
    deliver_fault: TaskFault | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """Read the state in a function's event. What is no part of it is left out."""
        values = {key: event[key] for key in cls.__dataclass_fields__ if key in event}
        for key in FAULTS:
            if values.get(key):
                values[key] = TaskFault(**values[key])
        values |= {key: epoch(values[key]) if values.get(key) else getattr(cls, key) for key in TIMES}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as the state machine carries it on, which adds the faults itself."""
        values = {key: value for key, value in asdict(self).items() if value is not None or key not in FAULTS}
        return values | {key: rfc3339(values[key]) if values[key] else None for key in TIMES}
