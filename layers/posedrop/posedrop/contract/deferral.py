"""The exception that defers a job or a message, and the growing wait between tries."""

from posedrop.contract.errors import PosedropError
from posedrop.contract.reasons import ReasonCode

LONGEST_BACKOFF = 900.0


class Deferred(PosedropError):
    """The job must wait `seconds`. If `code` says that the gate is closed, it also waits for its turn in line."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)


def backoff(tries: int) -> float:
    """Return the seconds until the next try: 15, doubled with each try, up to LONGEST_BACKOFF."""
    return min(15.0 * 2.0 ** min(tries - 1, 10), LONGEST_BACKOFF)
