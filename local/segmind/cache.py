"""Cache values, with a limit in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """Keeps the values that were used last, up to `capacity` bytes. Larger values are not kept. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def get(self, key: Hashable) -> Value | None:
        """Return the value, or None if it is not in the cache."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes."""
        with self._lock:
            if key in self._entries or size > self._capacity:
                return
            self._entries[key] = (value, size)
            self.size += size
            while self.size > self._capacity:
                _, (_, dropped) = self._entries.popitem(last=False)
                self.size -= dropped
