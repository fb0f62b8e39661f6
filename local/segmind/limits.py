"""The plan's limit: so many requests in any 60 seconds (source: provider's documentation)."""

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0


class RateLimiter:
    """A sliding window of 60 seconds. A refused call takes no place in it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[float] = deque()

    def retry_after(self, limit: int) -> int:
        """0 if a call may pass now; else the whole seconds after which one passes. `limit` 0 is no limit."""
        now = self._clock()
        while self._calls and now - self._calls[0] >= WINDOW_SECONDS:
            self._calls.popleft()
        if not limit or len(self._calls) < limit:
            return 0
        return max(1, math.ceil(self._calls[-limit] + WINDOW_SECONDS - now))

    def take(self) -> None:
        """Count a call that was let through."""
        self._calls.append(self._clock())
