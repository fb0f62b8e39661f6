"""A DynamoDB table in memory with the interface of its client: expressions, indexes, capacity units and time.

Facts are from the Amazon DynamoDB developer guide. "Read and write operations": a write unit per KiB, half a read unit
per 4 KiB of an eventually consistent read; a write whose condition fails is charged for the item. "Using global
secondary indexes": a write to an index if its keys or projected attributes change, two if its keys change; the index
follows the table within a fraction of a second.
"""

import re
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any

from botocore.exceptions import ClientError

from bench.simulation.engine import Simulation
from bench.simulation.expressions import Item, changes_of, condition_of, size_of

WRITE_SECONDS = 0.010
READ_SECONDS = 0.005
QUERY_SECONDS = 0.010
"""Seconds of a page. DynamoDB promises "single-digit milliseconds"; a call from a function takes a little longer."""
INDEX_LAG = 0.1
"""Seconds until an index shows a write."""
WRITE_UNIT, READ_UNIT = 1024, 4096
PAGE_BYTES = 1024 * 1024
BUCKET = 512
"""The most entries of an index in one list."""


@dataclass(frozen=True)
class Index:
    """A global secondary index: its two keys, and the other projected attributes.

    read: whether the simulation reads it; of the others only the writes are counted. lag: its delay in seconds.
    """

    partition: str
    sort: str
    projected: tuple[str, ...] = ()
    read: bool = False
    lag: float = INDEX_LAG

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """Return the projected attributes, besides the table's key."""
        return (self.partition, self.sort, *self.projected)


@dataclass
class Meter:
    """The calls of one function by operation, failed conditions by kind of item, and capacity units."""

    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    write_units: float = 0.0
    read_units: float = 0.0

    @property
    def writes(self) -> int:
        """Return the number of writes, including those whose condition failed."""
        return sum(self.calls[name] for name in ("PutItem", "UpdateItem", "DeleteItem"))


class Ordered:
    """Keys in order; most removals are at the beginning."""

    def __init__(self) -> None:
        self._buckets: list[list[tuple[str, str]]] = []

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for bucket in self._buckets:
            yield from bucket

    def add(self, key: tuple[str, str]) -> None:
        """Add a key."""
        number = self._bucket_of(key)
        if number == len(self._buckets):
            if number and len(self._buckets[-1]) < BUCKET:
                self._buckets[-1].append(key)
            else:
                self._buckets.append([key])
            return
        bucket = self._buckets[number]
        insort(bucket, key)
        if len(bucket) > 2 * BUCKET:
            self._buckets[number : number + 1] = [bucket[:BUCKET], bucket[BUCKET:]]

    def remove(self, key: tuple[str, str]) -> None:
        """Remove an existing key."""
        number = self._bucket_of(key)
        bucket = self._buckets[number]
        del bucket[bisect_left(bucket, key)]
        if not bucket:
            del self._buckets[number]

    def _bucket_of(self, key: tuple[str, str]) -> int:
        """Return the number of the first bucket whose last key is not before `key`."""
        low, high = 0, len(self._buckets)
        while low < high:
            middle = (low + high) // 2
            if self._buckets[middle][-1] < key:
                low = middle + 1
            else:
                high = middle
        return low


class Table:
    """The items of one table and its indexes. Each function uses its own client."""

    def __init__(self, simulation: Simulation, key: str, indexes: Mapping[str, Index]) -> None:
        self.items: dict[str, Item] = {}
        self._simulation = simulation
        self.key = key
        self._indexes = indexes
        self._sizes: dict[str, int] = {}
        self._entries: dict[str, dict[str, Ordered]] = {name: {} for name in indexes}
        self._projections: dict[str, dict[tuple[str, str], Item]] = {name: {} for name in indexes}
        self._behind: deque[tuple[float, Callable[[], None]]] = deque()
        """Changes of indexes that are not visible yet, and when they will be."""

    def load(self, item: Item) -> None:
        """Store an old item, and show it in the indexes that are read."""
        self.items[item[self.key]["S"]] = item
        for name, index in self._indexes.items():
            if index.read:
                self._show(name, index, {}, _projection(index, self.key, item))

    def put(self, item: Item, changed: Sequence[str] = ()) -> float:
        """Store an item, replacing the one with its key; return the write units.

        `changed` names the attributes that differ from the old item, if that is known.
        """
        key = item[self.key]["S"]
        before, size = self.items.get(key), self.size(key)
        self.items[key] = item
        if before and changed:
            self._sizes[key] = size + size_of(item, changed) - size_of(before, changed)
        else:
            self._sizes[key] = size_of(item, item)
        units = max(1, ceil(max(size, self._sizes[key]) / WRITE_UNIT))
        return units + sum(self._index(name, index, before, item) for name, index in self._indexes.items())

    def delete(self, key: str) -> float:
        """Delete an item, if it exists; return the write units."""
        units = max(1, ceil(self.size(key) / WRITE_UNIT))
        before = self.items.pop(key, None)
        self._sizes.pop(key, None)
        return units + sum(self._index(name, index, before, None) for name, index in self._indexes.items())

    def size(self, key: str) -> int:
        """Return an item's bytes; 0 if there is none."""
        if key not in self._sizes and key in self.items:
            self._sizes[key] = size_of(self.items[key], self.items[key])
        return self._sizes.get(key, 0)

    def select(self, index: str, partition: str, below: str | None) -> Iterator[Item]:
        """Yield the items of a partition of an index, in order, below a sort key."""
        while self._behind and self._behind[0][0] <= self._simulation.now:
            self._behind.popleft()[1]()
        projections = self._projections[index]
        for place in self._entries[index].get(partition, Ordered()):
            if below is not None and place[0] >= below:
                return
            yield projections[place]

    def _index(self, name: str, index: Index, before: Item | None, after: Item | None) -> float:
        """Update an index after its lag; return the write units."""
        if before and after and all(before.get(part) is after.get(part) for part in index.shown):
            return 0
        old, new = _projection(index, self.key, before), _projection(index, self.key, after)
        if old == new:
            return 0
        same_place = bool(old and new) and all(old[part] == new[part] for part in (index.partition, index.sort))
        if index.read:
            self._behind.append((self._simulation.now + index.lag, lambda: self._show(name, index, old, new)))
        return 1 if same_place else bool(old) + bool(new)

    def _show(self, name: str, index: Index, old: Item, new: Item) -> None:
        entries, projections = self._entries[name], self._projections[name]
        if old:
            place = (old[index.sort]["S"], old[self.key]["S"])
            entries[old[index.partition]["S"]].remove(place)
            del projections[place]
        if new:
            place = (new[index.sort]["S"], new[self.key]["S"])
            entries.setdefault(new[index.partition]["S"], Ordered()).add(place)
            projections[place] = new


class Client:
    """A DynamoDB client of one function, with the calls that the project makes. Each takes time, unless not `timed`.

    processor: the processor seconds of a call; concurrent calls share the processor.
    """

    def __init__(
        self, simulation: Simulation, table: Table, meter: Meter, *, timed: bool = True, processor: float = 0.0
    ) -> None:
        self._table = table
        self._meter = meter
        self._key = table.key
        self._simulation = simulation
        self._timed = timed
        self._processor = processor
        self._processed_until = simulation.now

    def get_item(self, **request: Any) -> dict[str, Any]:
        """Do what DynamoDB's GetItem does."""
        key = request["Key"][self._key]["S"]
        self._read("GetItem", [key], consistent=request.get("ConsistentRead", False))
        item = self._table.items.get(key)
        return {"Item": dict(item)} if item else {}

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        """Do what DynamoDB's BatchGetItem does, for one table."""
        ((name, wanted),) = request["RequestItems"].items()
        keys = [key[self._key]["S"] for key in wanted["Keys"]]
        self._read("BatchGetItem", keys, consistent=wanted.get("ConsistentRead", False))
        return {"Responses": {name: [dict(self._table.items[key]) for key in keys if key in self._table.items]}}

    def put_item(self, **request: Any) -> dict[str, Any]:
        """Do what DynamoDB's PutItem does."""
        self._begin_write("PutItem", request, request["Item"][self._key]["S"])
        self._meter.write_units += self._table.put(dict(request["Item"]))
        return {}

    def delete_item(self, **request: Any) -> dict[str, Any]:
        """Do what DynamoDB's DeleteItem does."""
        key = request["Key"][self._key]["S"]
        self._begin_write("DeleteItem", request, key)
        self._meter.write_units += self._table.delete(key)
        return {}

    def update_item(self, **request: Any) -> dict[str, Any]:
        """Do what DynamoDB's UpdateItem does."""
        key = request["Key"][self._key]["S"]
        self._begin_write("UpdateItem", request, key)
        names = tuple(request.get("ExpressionAttributeNames", {}).items())
        item = dict(self._table.items.get(key) or request["Key"])
        values = request.get("ExpressionAttributeValues", {})
        changed = [change(item, values) for change in changes_of(request["UpdateExpression"], names)]
        self._meter.write_units += self._table.put(item, changed)
        if request.get("ReturnValues") == "ALL_NEW":
            return {"Attributes": dict(item)}
        return {"Attributes": {name: item[name] for name in changed if name in item}}

    def get_paginator(self, operation: str) -> "_Queries":
        """Return a paginator for queries, as botocore does."""
        if operation != "query":
            raise NotImplementedError(operation)
        return _Queries(self._query)

    def _sleep(self, seconds: float) -> None:
        if self._timed:
            now = self._simulation.now
            self._processed_until = max(now, self._processed_until) + self._processor
            self._simulation.sleep(self._processed_until - now + seconds)

    def _read(self, operation: str, keys: list[str], *, consistent: bool) -> None:
        self._meter.calls[operation] += 1
        self._sleep(READ_SECONDS)
        units = sum(max(1, ceil(self._table.size(key) / READ_UNIT)) for key in keys)
        self._meter.read_units += units if consistent else units / 2

    def _begin_write(self, operation: str, request: Mapping[str, Any], key: str) -> None:
        """Wait, and raise if the condition fails."""
        self._meter.calls[operation] += 1
        self._sleep(WRITE_SECONDS)
        condition = request.get("ConditionExpression")
        if not condition:
            return
        item = self._table.items.get(key, {})
        names = tuple(request.get("ExpressionAttributeNames", {}).items())
        if condition_of(condition, names)(item, request.get("ExpressionAttributeValues", {})):
            return
        self._meter.refused[key.partition("/")[0] if "status" not in item else "job"] += 1
        self._meter.write_units += max(1, ceil(self._table.size(key) / WRITE_UNIT))
        response: dict[str, Any] = {"Error": {"Code": "ConditionalCheckFailedException", "Message": condition}}
        if item and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            response["Item"] = dict(item)
        raise ClientError(response, operation)  # type: ignore[arg-type]

    def _query(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        limits = request.get("PaginationConfig", {})
        most, size = limits.get("MaxItems"), limits.get("PageSize", 1_000_000)
        partition, below = _query_bounds(request)
        found = self._table.select(request["IndexName"], partition, below)
        number = 0
        while True:
            self._meter.calls["Query"] += 1
            self._sleep(QUERY_SECONDS)
            page: list[Item] = []
            used = 0
            for item in found:
                page.append(item)
                used += size_of(item, item)
                number += 1
                if number == most or len(page) == size or used > PAGE_BYTES:
                    break
            else:
                self._meter.read_units += max(1, ceil(used / READ_UNIT)) / 2
                yield {"Items": page}
                return
            self._meter.read_units += max(1, ceil(used / READ_UNIT)) / 2
            yield {"Items": page}
            if number == most:
                return


@dataclass(frozen=True)
class _Queries:
    """A paginator as in botocore."""

    query: Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a query."""
        return self.query(request)


def _query_bounds(request: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the partition of a query, and the sort key below which all its items are."""
    values = request["ExpressionAttributeValues"]
    found = re.fullmatch(r"\S+ = (:\w+)(?: AND \S+ <=? (:\w+))?", request["KeyConditionExpression"])
    if not found:
        raise NotImplementedError(request["KeyConditionExpression"])
    return values[found[1]]["S"], values[found[2]]["S"] if found[2] else None


def _projection(index: Index, key: str, item: Item | None) -> Item:
    """Return the projection of an item in an index; empty if the item lacks one of the keys."""
    if item is None or index.partition not in item or index.sort not in item:
        return {}
    return {name: item[name] for name in (key, index.partition, index.sort, *index.projected) if name in item}
