"""Why a job waits or is refused: codes for programs, beside the sentences for people."""

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """What a deferred job waits for."""

    RATE_LIMIT = "RATE_LIMIT"
    """The plan's request limit, or the end of the pause after a 429."""
    DAILY_BUDGET = "DAILY_BUDGET"
    MONTHLY_BUDGET = "MONTHLY_BUDGET"
    PAUSED = "PAUSED"
    """The breaker is open: the account is refused, or responses are not to be trusted."""
    REFUSED = "REFUSED"
    """The provider refused this job (403, 404, 406); others go on."""
    SERVER_FAULT = "SERVER_FAULT"
    """The provider answered 5xx: the request may exist, so its history is asked before the job is sent again."""
    UNAVAILABLE = "UNAVAILABLE"
    """There was no connection to the provider."""
    EARLIER_REQUEST = "EARLIER_REQUEST"
    """An earlier request of the job may exist: it is looked up before another one is paid."""
    AWS = "AWS"
    """An AWS service could not answer just now."""
    BUSY = "BUSY"
    """Another function works on the job, or this one had too little time left."""


class InputFault(StrEnum):
    """What is wrong with a job's inputs. Of several faults the first one here stands for all."""

    NAME = "NAME"
    """The names of character and pose are too long."""
    GONE = "GONE"
    """A file was replaced or deleted before the job was sent."""
    IMAGE = "IMAGE"
    """The face or the pose is no picture that can be sent."""
    PARAMETERS = "PARAMETERS"
    """A job file or the pose's metadata breaks the contract."""
    CANCELLED = "CANCELLED"
    """Somebody cancelled the job."""
    OTHER = "OTHER"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a job's inputs. `file` is the key of the file, empty where it is none's."""

    text: str
    code: InputFault = InputFault.OTHER
    file: str = ""

    def __str__(self) -> str:
        """The problem in words that name the file."""
        return f"{self.file}: {self.text}" if self.file else self.text


BUDGETS = frozenset({ReasonCode.DAILY_BUDGET, ReasonCode.MONTHLY_BUDGET})
AT_THE_GATE = frozenset({ReasonCode.RATE_LIMIT, ReasonCode.PAUSED, *BUDGETS})
"""What closes the gate for all jobs: such a job stands in line until the gate opens."""


@dataclass(frozen=True)
class Closed:
    """The gate is closed until a time (seconds since the epoch), for a reason in words."""

    until: float
    code: ReasonCode
    reason: str
