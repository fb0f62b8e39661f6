"""A job that must wait: its message is sent again after some seconds."""

from posedrop.errors import PosedropError
from posedrop.gate.reasons import ReasonCode
from posedrop.pacing import Slot


class Deferred(PosedropError):
    """The job is resumed after `seconds`. `slot` is kept for it."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float, slot: Slot | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)
        self.slot = slot
