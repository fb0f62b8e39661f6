"""The state that an execution of the state machine carries. `submit` creates it, `poll` and `deliver` change it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from posedrop.contract.naming import execution_name
from posedrop.contract.times import epoch, rfc3339

FAULTS = ("poll_fault", "deliver_fault")
TIMES = ("submitted_at", "not_found_at")


@dataclass(frozen=True)
class TaskFault:
    """The error of a task whose retries are used up, as Step Functions reports it (Amazon States Language, Catch)."""

    error: str = ""
    cause: str = ""


@dataclass(frozen=True)
class ExecutionState:
    """The state that goes from task to task. Times are seconds since the epoch here, and RFC 3339 in the state machine.

    A job that ended before it was sent has only an id and an attempt.

    - wait_seconds: the seconds until the next task.
    - finished: whether `deliver` is next.
    - faults: failed GETs in a row.
    - not_found_at: when the provider first did not know the request id.
    - tenths: the latency (gate/poll_schedule.py) when the job was submitted.
    - completed: the provider has finished, and the job only waits to fetch the result.
    - poll_wait_seconds: the wait before the poll that found the job completed.
    - elapsed_seconds: the time from submission until the end was seen.
    - cost_usd: the cost of a failed job, or None if it is unknown.
    - poll_fault, deliver_fault: the error after which Step Functions stopped retrying the task.
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
    poll_wait_seconds: int = 1
    elapsed_seconds: float | None = None
    cost_usd: float | None = None
    poll_fault: TaskFault | None = None
    deliver_fault: TaskFault | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """Read the state from a function's event. Other keys of the event are ignored."""
        values = {key: event[key] for key in cls.__dataclass_fields__ if key in event}
        for key in FAULTS:
            if values.get(key):
                values[key] = TaskFault(**values[key])
        values |= {key: epoch(values[key]) if values.get(key) else getattr(cls, key) for key in TIMES}
        return cls(**values)

    @property
    def execution_name(self) -> str:
        """The execution's name."""
        return execution_name(self.job_id, self.attempt)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON for the state machine. Faults that are None are left out: Catch adds them."""
        values = {key: value for key, value in asdict(self).items() if value is not None or key not in FAULTS}
        return values | {key: rfc3339(values[key]) if values[key] else None for key in TIMES}
