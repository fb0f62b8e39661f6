"""Keep what is left of the provider's credits: from results that say it, else from the documented call now and then.

Nothing depends on it but a number and an alarm. Unknown stays unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.errors import PosedropError, StatusUnavailable
from posedrop.gate.items import Condition, Item, Items, Refused

if TYPE_CHECKING:
    from posedrop.segmind import Segmind

logger = Logger(child=True)

ITEM = "credits"
ASK_EVERY = 600.0
"""Seconds between two calls at least."""


@dataclass(frozen=True)
class Credits:
    """What was left on the provider's account (USD), and since when that is known (seconds since the epoch)."""

    usd: float
    at: float

    @classmethod
    def of(cls, item: Item) -> "Credits | None":
        """Read the item; None if nothing is known."""
        return cls(float(item["usd"]), float(item["at"])) if "usd" in item and "at" in item else None

    def jobs(self, price: float) -> int:
        """How many jobs it pays for at a price (USD)."""
        return max(0, int(self.usd / price + 1e-9))


class CreditsStore:
    """The item that keeps the credits. No fault of it ends anything: what goes wrong is logged."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def read(self) -> Credits | None:
        """Read what is known. Errors of DynamoDB pass as botocore's ClientError."""
        return Credits.of(self._items.get(ITEM)[0])

    def note(self, usd: float | None, now: float) -> None:
        """Keep what a result said (USD); None says nothing. Then there is no need to ask for a while."""
        if usd is None:
            return
        try:
            self._items.update(ITEM, values={"usd": usd, "at": now, "asked_at": now})
        except (BotoCoreError, ClientError, PosedropError) as exc:
            logger.warning("the credits were not kept", reason=str(exc))

    def refresh(self, segmind: "Segmind", now: float, pause: Callable[[float | None], object]) -> None:
        """Ask the provider, unless somebody did within ASK_EVERY. `pause` is told the Retry-After of a 429."""
        due = Condition("asked_at", "<=", now - ASK_EVERY, or_absent=True)
        try:
            self._items.update(ITEM, values={"asked_at": now}, when=[due])
            usd = segmind.credits()
        except Refused:
            return
        except StatusUnavailable as exc:
            logger.warning("the credits are not known", reason=str(exc))
            if exc.status == 429:
                pause(exc.retry_after)
            return
        except (BotoCoreError, ClientError, PosedropError) as exc:
            logger.warning("the credits are not known", reason=str(exc))
            return
        self.note(usd, now)
