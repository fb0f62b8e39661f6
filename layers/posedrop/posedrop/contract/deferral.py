"""The exception that defers a job."""

from posedrop.contract.errors import PosedropError
from posedrop.contract.reasons import ReasonCode


class Deferred(PosedropError):
    """The job must wait `seconds`. If the gate is closed, the job goes back into the line instead."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)
