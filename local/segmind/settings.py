"""The emulator's settings, at the start or while it runs."""

import math
import random
from dataclasses import dataclass, field

DEFAULT_API_KEY = "SG_0123456789abcdef"
RPM_COUNTS = ("submits", "all")
COST_PER = ("request", "sample")
COST_USD = 0.0294
"""The average cost of a request (source: provider's documentation)."""
WEEK = 7 * 86_400.0


@dataclass(frozen=True)
class Latency:
    """The duration of a job: `median` seconds, lognormal with `sigma` (0: always the median)."""

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
        """Return the duration of the next job in seconds."""
        return self.median * math.exp(generator.gauss(0, self.sigma)) if self.sigma else self.median


@dataclass
class Settings:
    """The emulator's settings; `rpm` 0 and `credits` None mean unlimited.

    `retention` is the number of seconds after submission for which a result is kept; `media_retention` is that of its
    images and its row in the history. To let the provider's week pass in minutes, divide both by the same factor.

    `cost` is the cost of a request (USD), or of each sample, as `cost_per` says; then the metrics of a result have
    `cost` and `remaining_credits`. With None they do not have it, as in the provider's documentation of this model, and
    a request costs COST_USD.

    `history_lag` is the number of seconds until a request appears in the history. `history_others` is the number of
    requests a day by other users of the account: they only fill the history.
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
        """Return the cost of a request, or of each sample, in USD."""
        return COST_USD if self.cost is None else self.cost

    def change(self, changes: dict[str, object]) -> None:
        """Set several settings by name. Raises ValueError that names the wrong one; then none is changed."""
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
