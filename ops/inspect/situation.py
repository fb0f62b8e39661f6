"""What explains a record besides itself: the gate, the line, how long jobs take."""

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
"""Jobs in line that are counted, to say how many are before one."""


@dataclass(frozen=True)
class Situation:
    """What a job's state depends on besides its record. `now` is in seconds since the epoch.

    `gate` is the gate's state, `opening` when it lets jobs through next. `command` makes the next step, a command on
    the same stack. `before` counts the jobs in line before a place, up to MOST_COUNTED. `credits`: what is left on the
    provider's account, None where that is not known. `layout`: where uploads lie. `subject` begins
    the sentences on a job instead of its id, where that stands beside them.
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
        """The situation of a stack now."""
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
            stack.credits.read(),
            layout=stack.layout,
        )

    def send_time_after(self, jobs: int) -> float | None:
        """When the job is sent that has so many before it in line; None where the budget does not pay for so many."""
        if jobs >= self.opening.most:
            return None
        return max(self.gate.until, self.opening.at) + jobs * self.opening.interval

    @property
    def typical_seconds(self) -> float:
        """How long a job took lately: the median."""
        return sorted(self.latency.tenths)[len(self.latency.tenths) // 2] / 10
