"""Codes for why a job waits or is refused, and how long it waits. Programs read the codes, people the messages."""

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why a job is deferred."""

    RATE_LIMIT = "RATE_LIMIT"
    """The plan's request limit is reached, or the pause after a 429 is not over."""
    DAILY_BUDGET = "DAILY_BUDGET"
    MONTHLY_BUDGET = "MONTHLY_BUDGET"
    PAUSED = "PAUSED"
    """The breaker is open: the provider refuses the account, or its responses cannot be trusted."""
    REFUSED = "REFUSED"
    """The provider refused this job (403, 404, 406). Other jobs continue."""
    SERVER_FAULT = "SERVER_FAULT"
    """The provider answered 5xx. The request may exist, so the history is searched before the job is sent again."""
    UNAVAILABLE = "UNAVAILABLE"
    """There was no connection to the provider."""
    EARLIER_REQUEST = "EARLIER_REQUEST"
    """An earlier request of the job may exist. The history is searched before another one is paid."""
    AWS = "AWS"
    """An AWS service failed for now."""
    BUSY = "BUSY"
    """Another function is working on the job, or this one had too little time left."""


class InputFault(StrEnum):
    """What is wrong with a job's inputs. If there are several faults, the first in this order is reported."""

    NAME = "NAME"
    """The names of character and pose are too long."""
    GONE = "GONE"
    """A file was replaced or deleted before the job was sent."""
    IMAGE = "IMAGE"
    """The face or the pose is not a picture that can be sent."""
    PARAMETERS = "PARAMETERS"
    """A job file or the pose's metadata breaks the contract."""
    CANCELLED = "CANCELLED"
    """Somebody cancelled the job."""
    OTHER = "OTHER"


@dataclass(frozen=True)
class Problem:
    """One fault of a job's inputs. `file` is the key of the file, or empty if no file is at fault."""

    text: str
    code: InputFault = InputFault.OTHER
    file: str = ""

    def __str__(self) -> str:
        """Return the problem as text, with the file's key if there is one."""
        return f"{self.file}: {self.text}" if self.file else self.text


BUDGETS = frozenset({ReasonCode.DAILY_BUDGET, ReasonCode.MONTHLY_BUDGET})
AT_THE_GATE = frozenset({ReasonCode.RATE_LIMIT, ReasonCode.PAUSED, *BUDGETS})
"""The reasons that close the gate for all jobs. A job that waits for one of them is in line until the gate opens."""


@dataclass(frozen=True)
class Closed:
    """A closed gate: until when (seconds since the epoch), and why (as a code and as text)."""

    until: float
    code: ReasonCode
    reason: str


LONGEST_BACKOFF = 900.0


def backoff(tries: int) -> float:
    """Return the seconds until the next try. They double with each try."""
    return min(15.0 * 2.0 ** min(tries - 1, 10), LONGEST_BACKOFF)
