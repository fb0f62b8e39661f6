"""What can be set in the emulator, at the start or while it runs."""

import math
import random
from dataclasses import dataclass, field

DEFAULT_API_KEY = "SG_0123456789abcdef"
RPM_COUNTS = ("submits", "all")
COST_PER = ("request", "sample")
COST_USD = 0.0294
"""What a request costs on average (source: provider's documentation)."""
WEEK = 7 * 86_400.0


@dataclass(frozen=True)
class Latency:
    """How long a job runs: `median` seconds, lognormal with `sigma` (0: always the median)."""

    median: float = 3.0
    sigma: float = 0.0

    @classmethod
    def parse(cls, text: str | float) -> "Latency":
        """Read "SECONDS" or "MEDIAN:SIGMA". Raises ValueError."""
        median, _, sigma = str(text).partition(":")
        latency = cls(float(median), float(sigma or 0))
        if not (0 <= latency.median < math.inf and 0 <= latency.sigma < math.inf):
            raise ValueError(f"not a latency: {text}")
        return latency

    def draw(self, generator: random.Random) -> float:
        """Seconds for the next job."""
        return self.median * math.exp(generator.gauss(0, self.sigma)) if self.sigma else self.median


@dataclass
class Settings:
    """The emulator's settings; `rpm` 0 and `credits` None mean without end.

    `retention` is for how many seconds after its submission a result is kept, `media_retention` for how many its images
    and its row in the history are. To let the provider's week pass in minutes, make both shorter by the same factor.

    `cost` is what a request costs (USD), or each of its samples, as `cost_per` says: then the metrics of a result have
    `cost` and `remaining_credits`. With None they do not say it, as in the provider's documentation of this model, and
    a request costs COST_USD.

    `history_lag` is how many seconds a request takes to appear in the history, `history_others` how many requests a day
    other users of the account make: they fill the history, and take no part in anything else.
    """

    latency: Latency = field(default_factory=Latency)
    rpm: int = 0
    rpm_counts: str = "submits"
    retention: float = 3600.0
    media_retention: float = WEEK
    cost_per: str = "request"
    credits: int | None = None
    api_key: str = DEFAULT_API_KEY
    seed: int = 0
    history_lag: float = 0.0
    history_others: int = 0
    cost: float | None = None

    @property
    def price(self) -> float:
        """What a request costs, or each of its samples, in USD."""
        return COST_USD if self.cost is None else self.cost

    def change(self, changes: dict[str, object]) -> None:
        """Set several at once, by name. Raises ValueError that names what is wrong; then none is changed."""
        checked = {name: _checked(name, value) for name, value in changes.items()}
        for name, value in checked.items():
            setattr(self, name, value)


def _checked(name: str, value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name == "latency" and isinstance(value, Latency):
        return value
    if name == "latency" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return Latency.parse(value)
    if (name in ("rpm", "seed", "history_others") and whole) or (name == "credits" and (whole or value is None)):
        return value
    if (name == "rpm_counts" and value in RPM_COUNTS) or (name == "cost_per" and value in COST_PER):
        return value
    seconds = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if name in ("retention", "media_retention", "history_lag") and seconds:
        return value
    if name == "cost" and (seconds or value is None):
        return value
    if name == "api_key" and isinstance(value, str) and value:
        return value
    if name not in Settings.__dataclass_fields__:
        raise ValueError(f"{name} is not a setting")
    raise ValueError(f"{name} cannot be {value!r}" if name != "api_key" else "api_key must be text")
