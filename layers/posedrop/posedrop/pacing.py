"""The governor: one shared schedule for all calls that count against the plan's limit, and the circuit breaker.

`Pacing` is its state, a value with pure transitions; `Governor` keeps it in one item of the table and changes it by
compare-and-swap, so that all functions share it.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.errors import PosedropError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ITEM = "pacing"
USE_OF_LIMIT = 0.97
"""Slots lie evenly at this share of the limit: a window that slides punishes exactly all of it."""
RATE_LIMIT_PAUSE = 10.0
"""Seconds to pause after a 429 that does not say how long."""
LONGEST_PAUSE = 3600.0
PROBE_SECONDS = 60.0
"""How long one probe has before another may be made."""
UNKNOWN_STREAK = 2
"""So many unknown outcomes in a row open the breaker."""


@dataclass(frozen=True)
class Turn:
    """When a request may be sent (seconds since the epoch). `probe`: submitting had paused, this one tries again."""

    at: float
    probe: bool = False


@dataclass(frozen=True)
class Held:
    """No request may be sent before `until` (seconds since the epoch), for `reason`."""

    until: float
    reason: str


@dataclass(frozen=True)
class Pacing:
    """The state. Times are seconds since the epoch.

    next_at: the next free slot; paused_until: no call before it (429); open_until, open_reason, openings: the breaker
    of submits, and how often in a row it has opened; probe_until: a probe is under way; unknowns: unknown outcomes in a
    row.
    """

    next_at: float = 0.0
    paused_until: float = 0.0
    open_until: float = 0.0
    open_reason: str = ""
    openings: int = 0
    probe_until: float = 0.0
    unknowns: int = 0

    def take(self, now: float, interval: float) -> tuple["Pacing", Turn | Held]:
        """Take the next slot for a submit; `interval` is the seconds between two slots."""
        if self.paused_until > now:
            return self, Held(self.paused_until, "rate limit: the provider answered 429")
        if not self.open_reason:
            at = max(now, self.next_at)
            return replace(self, next_at=at + interval), Turn(at)
        if self.open_until > now:
            return self, Held(self.open_until, self.open_reason)
        if self.probe_until > now:
            return self, Held(self.probe_until, f"{self.open_reason}; a probe is under way")
        at = max(now, self.next_at)
        return replace(self, next_at=at + interval, probe_until=at + PROBE_SECONDS), Turn(at, probe=True)

    def held(self, now: float) -> Held | None:
        """Whether a slot that was taken before may not be used now."""
        if self.paused_until > now:
            return Held(self.paused_until, "rate limit: the provider answered 429")
        if self.open_reason:
            return Held(max(self.open_until, now + 1), self.open_reason)
        return None

    def rate_limited(self, now: float, retry_after: float | None) -> "Pacing":
        """After a 429: pause all calls."""
        pause = RATE_LIMIT_PAUSE if retry_after is None else max(retry_after, 1.0)
        until = max(self.paused_until, now + pause)
        return replace(self, paused_until=until, next_at=max(self.next_at, until), probe_until=0.0)

    def account_refused(self, now: float, reason: str, pause: float) -> "Pacing":
        """After 401, 403, 404, 406: open the breaker, for longer each time in a row, up to an hour."""
        if self.open_until > now:
            return self
        seconds = min(pause * 2**self.openings, LONGEST_PAUSE)
        return replace(
            self, open_until=now + seconds, open_reason=reason, openings=min(self.openings + 1, 20), probe_until=0.0
        )

    def outcome_unknown(self, now: float, pause: float) -> "Pacing":
        """After an unknown outcome: the second in a row opens the breaker."""
        counted = replace(self, unknowns=min(self.unknowns + 1, 1000), probe_until=0.0)
        if counted.unknowns < UNKNOWN_STREAK:
            return counted
        return counted.account_refused(now, "the outcome of the last requests is unknown", pause)

    def not_taken(self) -> "Pacing":
        """After any other answer that took nothing: a probe that ends so leaves the breaker for the next one."""
        return replace(self, probe_until=0.0)

    def answered(self) -> "Pacing":
        """After a submit that the provider took, or refused for its content: all is well, the breaker closes."""
        return replace(self, open_until=0.0, open_reason="", openings=0, probe_until=0.0, unknowns=0)


class Governor:
    """The shared state in the table. `requests_per_minute` is the plan's limit.

    Errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, requests_per_minute: float) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self.interval = 60 / (requests_per_minute * USE_OF_LIMIT)

    def read(self) -> Pacing:
        """The state now."""
        return self._read()[0]

    def take(self, now: float) -> Turn | Held:
        """Take the next slot for a submit, or learn why there is none."""
        outcome: list[Turn | Held] = []

        def change(pacing: Pacing) -> Pacing:
            changed, taken = pacing.take(now, self.interval)
            outcome[:] = [taken]
            return changed

        self.change(change)
        return outcome[0]

    def rate_limited(self, now: float, retry_after: float | None) -> Pacing:
        """Pause all calls after a 429; `retry_after` is in seconds or None."""
        return self.change(lambda pacing: pacing.rate_limited(now, retry_after))

    def change(self, change: Callable[[Pacing], Pacing]) -> Pacing:
        """Replace the state by `change` of it. Writes nothing if it stays as it is."""
        for attempt in range(40):
            pacing, version = self._read()
            changed = change(pacing)
            if changed == pacing:
                return pacing
            if self._swap(changed, version):
                return changed
            # Full jitter: with many functions at once each try lets about one through.
            time.sleep(random.uniform(0, 0.01 * (attempt + 1)))
        raise PacingBusy("the shared schedule is changed by too many functions at once")

    def _read(self) -> tuple[Pacing, int]:
        answer = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": ITEM}}, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        if not item:
            return Pacing(), 0
        known: dict[str, Any] = json.loads(item["state"]["S"])
        return Pacing(**{key: value for key, value in known.items() if key in Pacing.__dataclass_fields__}), int(
            item["version"]["N"]
        )

    def _swap(self, pacing: Pacing, version: int) -> bool:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(job_id)"}
        if version:
            condition = {
                "ConditionExpression": "version = :version",
                "ExpressionAttributeValues": {":version": {"N": str(version)}},
            }
        item = {"job_id": {"S": ITEM}, "state": {"S": json.dumps(asdict(pacing))}, "version": {"N": str(version + 1)}}
        try:
            self._dynamodb.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True


class PacingBusy(PosedropError):
    """The shared state could not be changed: too many functions at once."""
