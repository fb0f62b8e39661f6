"""Keep what is left of the provider's credits: from results that say it, else from the documented call now and then.

Nothing depends on it but a number and an alarm. Unknown stays unknown.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.items import Condition, Item, Items, Refused
from posedrop.contract.errors import PosedropError, StatusUnavailable
from posedrop.gate.price import OVERALL, PRICE_ITEM
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec

logger = Logger(child=True)

ITEM = "credits"
ASK_EVERY = 600.0
"""Seconds between two calls at least."""


class Account(Protocol):
    """What is needed of the provider's client."""

    def credits(self) -> float:
        """What is left, in USD. Raises StatusUnavailable."""


@dataclass(frozen=True)
class Credits:
    """What was left on the provider's account (USD), and since when that is known (seconds since the epoch).

    jobs: how many jobs that pays for, at the price learned over all of them.
    """

    usd: float
    at: float
    jobs: int

    @classmethod
    def of(cls, item: Item, price: Item, *, model: ModelSpec) -> "Credits | None":
        """Read it from the items of the credits and of the price; None if nothing is known."""
        if "usd" not in item or "at" not in item:
            return None
        usd = float(item["usd"])
        return cls(usd, float(item["at"]), int(usd / float(price.get(OVERALL, model.first_price)) + 1e-9))


class CreditsStore:
    """The item that keeps the credits. What goes wrong in keeping them is logged, and ends nothing."""

    def __init__(
        self, items: Items, clock: Callable[[], float] = time.time, model: ModelSpec = CONSISTENT_CHARACTER
    ) -> None:
        self._items = items
        self._clock = clock
        self._model = model
        self._tried_at = 0.0

    def read(self) -> Credits | None:
        """Read what is known. Errors of DynamoDB pass as botocore's ClientError."""
        return Credits.of(*self._items.get(ITEM, PRICE_ITEM), model=self._model)

    def note(self, usd: float | None) -> None:
        """Keep what a result said (USD); None says nothing. Then nobody needs to ask for a while."""
        if usd is None:
            return
        now = self._clock()
        try:
            self._items.update(ITEM, values={"usd": usd, "at": now, "asked_at": now})
        except (BotoCoreError, ClientError, PosedropError) as exc:
            logger.warning("the credits were not kept", reason=str(exc))

    def refresh(self, account: Account, pause: Callable[[float, float | None], object]) -> None:
        """Ask the provider, unless somebody did within ASK_EVERY.

        `pause` is called after a 429, with the time and its Retry-After.
        """
        now = self._clock()
        if now - self._tried_at < ASK_EVERY:
            return
        self._tried_at = now
        try:
            self._ask(account, pause, now)
        except Exception:  # they must not disturb what the function is for
            logger.exception("the credits are not known")

    def _ask(self, account: Account, pause: Callable[[float, float | None], object], now: float) -> None:
        due = Condition("asked_at", "<=", now - ASK_EVERY, or_absent=True)
        try:
            self._items.update(ITEM, values={"asked_at": now}, when=[due])
            self.note(account.credits())
        except Refused:
            logger.debug("the credits were asked for lately")
        except StatusUnavailable as exc:
            logger.warning("the credits are not known", reason=str(exc))
            if exc.status == 429:
                pause(now, exc.retry_after)
