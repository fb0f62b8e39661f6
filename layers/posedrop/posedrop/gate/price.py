"""Estimate the price of a job from the costs of earlier jobs, by number and size of the images. Pure.

The provider does not document whether more or larger images cost more. So each class of jobs has its own price, learned
from the first paid job of the class. Until then its price is estimated in proportion to a known class. The estimate is
meant to be too high rather than too low, and the real cost later replaces the charge.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from posedrop.segmind.model import ModelSpec

LEARNING = 0.2
"""The weight of the latest cost in a learned price."""
DIGITS = 6
"""The decimals of all amounts, so that sums stay exact."""
LEAST = 1e-6
"""The lowest price (USD). With a price of zero no budget would ever be used up."""
PRICE_ITEM = "price"
OVERALL = "usd"
"""The attribute with the average price over all classes."""
SIZES = range(-4, 5)
"""Sizes as log2 of megapixels (1,048,576 pixels), rounded up. The model allows 64 x 64 to 4096 x 4096."""
_CLASS = re.compile(r"usd_(\d+)_(?:p(-?\d+)|input)")


@dataclass(frozen=True)
class PriceClass:
    """Jobs of the same price: with the same samples and size. `size` None means as large as the pose image."""

    samples: int = 1
    size: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any], model: ModelSpec) -> "PriceClass":
        """Return the class of a job with these parameters. Missing ones have the model's defaults."""
        samples, size = model.images_made(parameters), model.size_made(parameters)
        if size is None:
            return cls(samples)
        return cls(samples, min(max(math.ceil(size), SIZES[0]), SIZES[-1]))

    @property
    def attribute(self) -> str:
        """The attribute of the price item with this class's price."""
        return f"usd_{self.samples}_" + ("input" if self.size is None else f"p{self.size}")

    def factor(self, other: "PriceClass") -> float:
        """Return how many times the price of `other` this class costs at most, if prices are at most proportional."""
        size, known = self.size or 0, other.size or 0
        return max(1.0, self.samples / other.samples) * max(1.0, math.ldexp(1.0, size - known))


def price_of(item: Mapping[str, Any], parameters: Mapping[str, Any], model: ModelSpec) -> float:
    """Return the expected cost of a job (USD) from the price item, which may be empty."""
    wanted = PriceClass.of(parameters, model)
    if wanted.attribute in item:
        return float(item[wanted.attribute])
    bounds = [usd * wanted.factor(known) for known, usd in _known(item)]
    if OVERALL in item:  # the average price, if no class is known
        bounds = bounds or [float(item[OVERALL]) * wanted.factor(PriceClass())]
    return round(min(bounds, default=model.first_price), DIGITS)


def learned(item: Mapping[str, Any], parameters: Mapping[str, Any], cost: float, model: ModelSpec) -> dict[str, float]:
    """Return the attributes of the price item that change after a job with these parameters cost `cost` (USD)."""
    return {name: _mixed(item, name, cost) for name in (OVERALL, PriceClass.of(parameters, model).attribute)}


def _mixed(item: Mapping[str, Any], name: str, cost: float) -> float:
    known = float(item[name]) if name in item else cost
    return max(round(known + LEARNING * (cost - known), DIGITS), LEAST)


def _known(item: Mapping[str, Any]) -> Iterator[tuple[PriceClass, float]]:
    for name, usd in item.items():
        if found := _CLASS.fullmatch(name):
            yield PriceClass(int(found[1]), None if found[2] is None else int(found[2])), float(usd)
