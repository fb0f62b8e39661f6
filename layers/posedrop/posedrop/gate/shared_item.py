"""An item of the table that all functions share. It is changed by compare-and-swap."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from posedrop.aws.items import Condition, Item, Items
from posedrop.contract.errors import TransientFault, WriteRefused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
R = TypeVar("R")

TRIES = 40


class SharedItem(Generic[T]):
    """A frozen dataclass of type `kind`, stored as JSON in the item `key`. Before the first write it has its defaults.

    Errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, items: Items, key: str, kind: type[T]) -> None:
        self._items = items
        self.key = key
        self._kind = kind

    def read(self) -> T:
        """Read the state. The read is consistent."""
        return self.of(self._items.get(self.key)[0])

    def of(self, item: Item) -> T:
        """Return the state in an item, which may be empty."""
        known: dict[str, Any] = json.loads(str(item.get("state", "{}")))
        return self._kind(**{key: value for key, value in known.items() if key in self._kind.__dataclass_fields__})

    def change(self, change: Callable[[T], tuple[T, R]]) -> R:
        """Change the state. `change` gets the state and returns the new state and a result, which is returned.

        Nothing is written if the state is the same. Raises TransientFault if too many functions change it at once.
        """
        for attempt in range(TRIES):
            item = self._items.get(self.key)[0]
            state, version = self.of(item), item.get("version", 0)
            changed, result = change(state)
            if changed == state:
                return result
            values = {"state": json.dumps(asdict(changed))}
            unchanged = Condition("version", "=", version, or_absent=not version)
            try:
                self._items.update(self.key, values=values, add={"version": 1}, when=[unchanged])
            except WriteRefused:
                # Full jitter: with many functions at once, about one succeeds at each try.
                time.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # nosec B311 # jitter need not be unpredictable
            else:
                return result
        raise TransientFault(f"too many functions change the item {self.key} at once")
