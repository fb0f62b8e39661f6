"""Measure the memory of a process and all that it started. Linux only: elsewhere it is not measured."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 3.0


class Sampling:
    """Calls `sample` at an interval in seconds, in a thread, while the context lasts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.sample()

    def sample(self) -> None:
        """Measure once."""
        raise NotImplementedError


class MemoryWatch(Sampling):
    """Measures this process and all that it started. `peak` is the maximum so far, in bytes; 0 if unknown."""

    def __init__(self) -> None:
        super().__init__(INTERVAL_SECONDS)
        self.peak = 0
        self.most_processes = 0

    def sample(self) -> None:
        """See Sampling."""
        pids = family(os.getpid())
        self.peak = max(self.peak, sum(map(memory, pids)))
        self.most_processes = max(self.most_processes, len(pids))


def family(root: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            # The name, in parentheses, may contain anything; the parent is the second field after it.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def memory(pid: int) -> int:
    """Return the bytes of a process, with its share of shared memory (PSS); 0 if it is gone or this is not Linux."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
