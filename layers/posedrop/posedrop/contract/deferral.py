"""Defer a job or a message."""

from posedrop.contract.errors import PosedropError
from posedrop.contract.reasons import ReasonCode

LONGEST_BACKOFF = 900.0


class Deferred(PosedropError):
    """The job must wait `seconds`. If the gate is closed, it also waits in line for its turn."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)


def backoff(tries: int) -> float:
    """Return the seconds until the next try. They double with each try."""
    return min(15.0 * 2.0 ** min(tries - 1, 10), LONGEST_BACKOFF)
