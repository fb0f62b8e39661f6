"""Learn what a job costs, by its samples and its size, from what earlier jobs cost. Pure.

The provider does not document whether a request of more or larger images costs more. So each class of jobs has a price
of its own once one of them was paid. A class without one is taken to cost at most in proportion to a class that is
known: a budget is charged too much rather than too little, and settled with the real cost.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec

LEARNING = 0.2
"""Weight of the latest cost in a learned price."""
DIGITS = 6
"""Decimals of all amounts: the sums stay exact."""
LEAST = 1e-6
"""A price of zero would make every budget endless."""
PRICE_ITEM = "price"
OVERALL = "usd"
"""The attribute of the price over all classes."""
SIZES = range(-4, 5)
"""Sizes as powers of two of a megapixel (1,048,576 pixels), rounded up; the model's range is 64 x 64 to 4096 x 4096."""
_CLASS = re.compile(r"usd_(\d+)_(?:p(-?\d+)|input)")


@dataclass(frozen=True)
class PriceClass:
    """Jobs that are taken to cost the same: by samples, and by size. `size` None: as large as the pose image is."""

    samples: int = 1
    size: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any], model: ModelSpec = CONSISTENT_CHARACTER) -> "PriceClass":
        """Return the class of a job with these parameters; what is missing has the model's default."""
        samples, size = model.images_made(parameters), model.size_made(parameters)
        if size is None:
            return cls(samples)
        return cls(samples, min(max(math.ceil(round(size, 9)), SIZES[0]), SIZES[-1]))

    @property
    def attribute(self) -> str:
        """The attribute of the price item that holds this class's price."""
        return f"usd_{self.samples}_" + ("input" if self.size is None else f"p{self.size}")

    def factor(self, other: "PriceClass") -> float:
        """Return how many times as much as `other` this class costs at most, if cost is at most in proportion."""
        size, known = self.size or 0, other.size or 0
        return max(1.0, self.samples / other.samples) * max(1.0, math.ldexp(1.0, size - known))


def price_of(item: Mapping[str, Any], parameters: Mapping[str, Any], model: ModelSpec = CONSISTENT_CHARACTER) -> float:
    """Return what a job with these parameters is expected to cost (USD), by the price item, which may be empty."""
    wanted = PriceClass.of(parameters, model)
    if wanted.attribute in item:
        return float(item[wanted.attribute])
    bounds = [usd * wanted.factor(known) for known, usd in _known(item)]
    if OVERALL in item:  # learned before there were classes
        bounds = bounds or [float(item[OVERALL]) * wanted.factor(PriceClass())]
    return round(min(bounds, default=model.first_price), DIGITS)


def learned(
    item: Mapping[str, Any], parameters: Mapping[str, Any], cost: float, model: ModelSpec = CONSISTENT_CHARACTER
) -> dict[str, float]:
    """Return the price item's attributes that change after a job with these parameters has cost so much (USD)."""
    return {name: _mixed(item, name, cost) for name in (OVERALL, PriceClass.of(parameters, model).attribute)}


def _mixed(item: Mapping[str, Any], name: str, cost: float) -> float:
    known = float(item[name]) if name in item else cost
    return max(round(known + LEARNING * (cost - known), DIGITS), LEAST)


def _known(item: Mapping[str, Any]) -> Iterator[tuple[PriceClass, float]]:
    for name, usd in item.items():
        if found := _CLASS.fullmatch(name):
            yield PriceClass(int(found[1]), None if found[2] is None else int(found[2])), float(usd)
