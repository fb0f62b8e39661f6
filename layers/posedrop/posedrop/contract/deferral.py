"""A job that must wait."""

from posedrop.contract.errors import PosedropError
from posedrop.contract.reasons import ReasonCode


class Deferred(PosedropError):
    """The job is resumed after `seconds`, or, where the gate is closed, when its turn comes after that."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)
