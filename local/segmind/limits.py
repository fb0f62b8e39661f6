"""The plan's limit: a number of requests in any 60 seconds (source: provider's documentation)."""

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0


class RateLimiter:
    """A sliding window of 60 seconds. Refused calls are not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[float] = deque()

    def retry_after(self, limit: int) -> int:
        """Return 0 if a call is allowed now, else the whole seconds until one is. `limit` 0 means no limit."""
        now = self._clock()
        while self._calls and now - self._calls[0] >= WINDOW_SECONDS:
            self._calls.popleft()
        if not limit or len(self._calls) < limit:
            return 0
        return max(1, math.ceil(self._calls[-limit] + WINDOW_SECONDS - now))

    def take(self) -> None:
        """Count an allowed call."""
        self._calls.append(self._clock())
