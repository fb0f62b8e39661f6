"""Store how many credits are left on the provider's account.

Some results contain the number. Otherwise it is read from time to time with the documented call. It is only used for a
metric, an alarm and the operator's commands, so it may be unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.items import Condition, Item, Items
from posedrop.contract.errors import PosedropError, StatusUnavailable, WriteRefused
from posedrop.gate.price import OVERALL, PRICE_ITEM
from posedrop.segmind.model import ModelSpec

logger = Logger(child=True)

ITEM = "credits"
ASK_EVERY = 600.0
"""The least seconds between two calls."""


class Account(Protocol):
    """The part of the provider's client that is needed here."""

    def credits(self) -> float:
        """Return the credits left, in USD. Raises StatusUnavailable."""


@dataclass(frozen=True)
class Credits:
    """The credits on the provider's account (`usd`), and when they were read (`at`, seconds since the epoch).

    jobs: how many jobs they can pay for, at the average price.
    """

    usd: float
    at: float
    jobs: int

    @classmethod
    def of(cls, item: Item, price: Item, *, model: ModelSpec) -> "Credits | None":
        """Return the credits from their item and the price item, or None if they are unknown."""
        if "usd" not in item or "at" not in item:
            return None
        usd = float(item["usd"])
        return cls(usd, float(item["at"]), int(usd / float(price.get(OVERALL, model.first_price)) + 1e-9))


class CreditsStore:
    """The item with the credits. Errors when writing it are only logged."""

    def __init__(self, items: Items, model: ModelSpec) -> None:
        self._items = items
        self._model = model
        self._tried_at = 0.0

    def read(self) -> Credits | None:
        """Read the credits, or None if they are unknown. Errors of DynamoDB pass as botocore's ClientError."""
        return Credits.of(*self._items.get(ITEM, PRICE_ITEM), model=self._model)

    def note(self, usd: float | None, now: float) -> None:
        """Store the credits (USD) from a result, and delay the next call. None is ignored."""
        if usd is None:
            return
        try:
            self._items.update(ITEM, values={"usd": usd, "at": now, "asked_at": now})
        except (BotoCoreError, ClientError, PosedropError) as exc:
            logger.warning("the credits were not stored", reason=str(exc))

    def refresh(self, account: Account, pause: Callable[[float, float | None], object], now: float) -> None:
        """Read the credits from the provider, unless that was done within ASK_EVERY seconds before `now`.

        `pause` is called after a 429 with the time now and the seconds of its Retry-After or None.
        """
        if now - self._tried_at < ASK_EVERY:
            return
        self._tried_at = now
        try:
            self._ask(account, pause, now)
        except Exception:  # the credits are less important than the function's task
            logger.exception("the credits are unknown")

    def _ask(self, account: Account, pause: Callable[[float, float | None], object], now: float) -> None:
        due = Condition("asked_at", "<=", now - ASK_EVERY, or_absent=True)
        try:
            self._items.update(ITEM, values={"asked_at": now}, when=[due])
            self.note(account.credits(), now)
        except WriteRefused:
            logger.debug("the credits were read recently")
        except StatusUnavailable as exc:
            logger.warning("the credits are unknown", reason=str(exc))
            if exc.status == 429:
                pause(now, exc.retry_after)
