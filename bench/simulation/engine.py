"""Simulated time: code that blocks runs unchanged, in as many concurrent processes as a stack has functions.

Each process is a greenlet. It runs until it sleeps; then the next event in time continues. So the project's code needs
no change: its clock and its sleep are the simulation's, and between two AWS calls other functions run.
"""

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

Event = tuple[float, int, Callable[[], object]]


class Simulation:
    """Events in order of time. The same `seed` gives the same run. `start` is in seconds since the epoch."""

    def __init__(self, seed: int, start: float) -> None:
        self.now = start
        self.random = random.Random(seed)  # nosec B311 # a simulation's
        self._events: list[Event] = []
        self._numbers = count()
        self._end = start
        self._hub = getcurrent()

    def clock(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.now

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Run an action at a time. It must not sleep; use `spawn` for that."""
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Run an action after some seconds. It must not sleep."""
        self.at(self.now + seconds, action)

    def spawn(self, process: Callable[[], object], delay: float = 0.0) -> None:
        """Begin a process, which may sleep, after some seconds."""
        self.after(delay, greenlet(process, self._hub).switch)

    def sleep(self, seconds: float) -> None:
        """Let the current process wait."""
        wakes = self.now + seconds
        if wakes <= self._end and (not self._events or wakes < self._events[0][0]):
            self.now = wakes  # no other process has anything to do until then
            return
        self.at(wakes, getcurrent().switch)
        self._hub.switch()

    def run(self, until: float) -> None:
        """Run until a time (seconds since the epoch), or until there is no event."""
        self._end = until
        self._hub = getcurrent()
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def close(self) -> None:
        """End all processes. Python cannot see that they are unused: their frames would stay for ever."""
        self._events.clear()

    def parallel(self, workers: int) -> Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]:
        """Return a function that calls another one with many values, several at the same time, and waits for all."""

        def call_all(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
            if len(values) < 2:
                return [function(value) for value in values]
            results: list[Any] = [None] * len(values)
            left = min(workers, len(values))
            waiting, work = getcurrent(), iter(enumerate(values))

            def worker() -> None:
                nonlocal left
                _work_off(work, function, results)
                left -= 1
                if not left:
                    self.at(self.now, waiting.switch)

            for _ in range(left):
                self.spawn(worker)
            self._hub.switch()
            return results

        return call_all


def _work_off(work: Iterator[tuple[int, Any]], function: Callable[[Any], Any], results: list[Any]) -> None:
    for number, value in work:
        results[number] = function(value)
