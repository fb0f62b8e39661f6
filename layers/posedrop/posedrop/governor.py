"""The shared rate limit and breaker: pure states in two items of the table, which all functions change."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from posedrop.gate.breaker import Breaker
from posedrop.gate.reasons import ReasonCode
from posedrop.gate.shared_item import SharedItem
from posedrop.pacing import Held, Limits, Pacing, Slot, Turn

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PACING_ITEM = "pacing"
BREAKER_ITEM = "breaker"
PROBE_CHECK = 10.0
"""Seconds after which a job that waits for a probe checks how it went."""


class Governor:
    """The shared state in the table.

    Errors of DynamoDB pass as botocore's ClientError. Raises TransientFault where too many functions change the state.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, limits: Limits) -> None:
        self._pacing = SharedItem(dynamodb, table, PACING_ITEM, Pacing)
        self._breaker = SharedItem(dynamodb, table, BREAKER_ITEM, Breaker)
        self._limits = limits

    def read(self) -> Pacing:
        """The rate limit's state now."""
        return self._pacing.read()

    def read_breaker(self) -> Breaker:
        """The breaker's state now."""
        return self._breaker.read()

    def take(self, now: float, kept: Slot | None) -> Turn | Held:
        """Take a slot for a submit, or use the one that was `kept`, or learn why there is none, and until when.

        While the breaker is open the caller has the probe if it gets a turn.
        """
        breaker = self._breaker.read()
        pause = None
        if breaker.is_paused(now):
            pause = Held(breaker.open_until, ReasonCode.PAUSED, breaker.reason, pause_ends=breaker.open_until)
        elif breaker.is_open and breaker.probe_until > now:
            reason = f"{breaker.reason}; a probe is under way"
            return Held(min(breaker.probe_until, now + PROBE_CHECK), ReasonCode.PAUSED, reason, kept)
        taken = self._pacing.change(lambda pacing: pacing.take(now, self._limits, kept, pause))
        if isinstance(taken, Turn) and breaker.is_open and not self._breaker.change(lambda b: b.begin_probe(now)):
            self.change(Pacing.not_accepted)  # and not more: the probe is another function's
            return Held(now + PROBE_CHECK, ReasonCode.PAUSED, f"{breaker.reason}; a probe is under way")
        return taken

    def stopped(self, now: float) -> bool:
        """Whether a 429 or the breaker forbids to use a slot that was taken before."""
        return self._pacing.read().stopped(now) or self._breaker.read().is_paused(now)

    def take_poll(self, now: float, due: float) -> float:
        """Take a slot for a poll that is due at `due`, and return its time (both in seconds since the epoch)."""
        return self._pacing.change(lambda pacing: pacing.take_poll(now, due, self._limits))

    def accepted(self, now: float, due: float) -> float:
        """After an accepted submit: close the breaker, and take a slot for the first poll, as `take_poll` does."""
        self._breaker.change(lambda breaker: (breaker.accepted(now), None))
        return self._pacing.change(lambda pacing: pacing.answered().take_poll(now, due, self._limits))

    def rejected(self) -> None:
        """After a submit that was refused for its content: the account is sound."""
        self._breaker.change(lambda breaker: (breaker.rejected(), None))
        self.change(Pacing.answered)

    def not_accepted(self) -> None:
        """Give a permit back that was not used, or whose request was not accepted: a probe and a job of the day."""
        self.change(Pacing.not_accepted)
        self._breaker.change(lambda breaker: (breaker.end_probe(), None))

    def rate_limited(self, now: float, retry_after: float | None) -> Pacing:
        """Pause all calls after a 429; `retry_after` is in seconds or None."""
        return self.change(lambda pacing: pacing.rate_limited(now, retry_after, self._limits))

    def change(self, change: Callable[[Pacing], Pacing]) -> Pacing:
        """Replace the rate limit's state by `change` of it, and return it."""
        return self._pacing.change(lambda pacing: (changed := change(pacing), changed))

    def trip(self, change: Callable[[Breaker], Breaker]) -> Breaker:
        """Change the breaker after a refusal or a fault, and return it. Slots after a new pause are given out again."""

        def changed(breaker: Breaker) -> tuple[Breaker, tuple[bool, Breaker]]:
            after = change(breaker)
            return after, (after.openings != breaker.openings or after.open_until != breaker.open_until, after)

        opened, breaker = self._breaker.change(changed)
        if opened:
            self.change(lambda pacing: pacing.submits_paused(breaker.open_until))
        return breaker
