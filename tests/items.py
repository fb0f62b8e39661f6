"""The items of a table in memory: replaces posedrop.aws.items.Items in fast tests and in simulations."""

import operator
from collections.abc import Iterator, Mapping, Sequence

from posedrop.aws.items import KEY, Condition, Item, Items, Value
from posedrop.contract.errors import WriteRefused

COMPARISONS = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class MemoryItems(Items):
    """A table in one process. `writes` and `refused` count its conditional writes."""

    def __init__(self) -> None:
        self.table: dict[str, Item] = {}
        self.writes = 0
        self.refused = 0

    def get(self, *keys: str) -> list[Item]:
        """As Items.get."""
        return [dict(self.table.get(key, {})) for key in keys]

    def update(
        self,
        key: str,
        *,
        values: Mapping[str, Value] | None = None,
        add: Mapping[str, float] | None = None,
        remove: Sequence[str] = (),
        when: Sequence[Condition] = (),
    ) -> Item:
        """As Items.update."""
        item = self.table.get(key, {})
        self.writes += 1
        if not all(_holds(item, condition) for condition in when):
            self.refused += 1
            raise WriteRefused(key, dict(item))
        added = {name: float(item.get(name, 0)) + value for name, value in (add or {}).items()}
        changed: Item = {**(values or {}), **added}
        kept = {name: value for name, value in item.items() if name not in remove}
        self.table[key] = {KEY: key, **kept, **changed}
        return changed

    def query(
        self, index: str, partition: tuple[str, str], below: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Item]:
        """Do what Items.query does, for an index whose sort key is `place`."""
        found = [item for item in self.table.values() if item.get(partition[0]) == partition[1] and "place" in item]
        found.sort(key=lambda item: str(item["place"]))
        matching = [item for item in found if below is None or str(item[below[0]]) < below[1]]
        yield from (dict(item) for item in matching[:limit])


def _holds(item: Item, condition: Condition) -> bool:
    if condition.attribute not in item:
        return condition.or_absent
    value = item[condition.attribute]
    if isinstance(value, str) != isinstance(condition.value, str):
        return False  # DynamoDB compares values of one type only
    return bool(COMPARISONS[condition.comparison](value, condition.value))
