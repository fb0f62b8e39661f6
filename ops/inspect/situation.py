"""What a job's explanation needs besides its record: the gate, the line, and how long jobs take."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ops.formatting import command
from ops.stack import Stack
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.credits import Credits
from posedrop.gate.gate import GateState, Opening
from posedrop.gate.poll_schedule import Latency
from posedrop.gate.rate_limit import RateLimit

MOST_COUNTED = 1000
"""The most jobs in line that are counted before a job."""


@dataclass(frozen=True)
class Situation:
    """The state that a job's explanation depends on, besides its record. `now` is in seconds since the epoch.

    - gate: the gate's state.
    - opening: when the next jobs may be sent.
    - command: builds a command line for the same stack.
    - before: counts the jobs in line before a place, up to MOST_COUNTED.
    - credits: the provider's remaining credits, or None if they are unknown.
    - layout: where uploads are.
    - subject: how a sentence calls the job, if not by its id.
    """

    gate: GateState
    opening: Opening
    limit: RateLimit
    latency: Latency
    job_timeout_seconds: float
    submit_timeout_seconds: float
    now: float
    command: Callable[..., str] = command
    before: Callable[[str], int] = lambda place: 0
    credits: Credits | None = None
    subject: str = ""
    layout: UploadLayout = field(default_factory=UploadLayout)

    @classmethod
    def of(cls, stack: Stack) -> "Situation":
        """Return the situation of a stack now."""
        now = stack.clock()
        gate = stack.gate.read(now)
        return cls(
            gate,
            stack.gate.opening(gate, now),
            stack.limit,
            stack.latency(),
            stack.seconds("JobTimeoutSeconds"),
            stack.seconds("SubmitTimeoutSeconds"),
            now,
            stack.command,
            lambda place: stack.line.before(place, MOST_COUNTED),
            stack.gate.credits.read(),
            layout=stack.layout,
        )

    def send_time_after(self, jobs: int) -> float | None:
        """Return when a job with this many jobs before it is sent, or None if the budget does not pay for so many."""
        if jobs >= self.opening.most:
            return None
        return max(self.gate.until, self.opening.at) + jobs * self.opening.interval

    @property
    def typical_seconds(self) -> float:
        """Return the median duration of recent jobs."""
        return sorted(self.latency.tenths)[len(self.latency.tenths) // 2] / 10
