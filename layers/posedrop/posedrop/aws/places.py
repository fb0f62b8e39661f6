"""The place of a queued job: in line by its rank, or due at a time. Pure.

A QUEUED record has the two keys of the sparse index `line`: `stands` and `place`. A claim removes them. `stands` is
"in line" or "due". For a job in line, `place` sorts by rank, then by age. For a due job, `place` is a time: for a
dispatched job, when its message must have been lost; for a deferred job, when to try again. Each move gives the job a
new `dispatch_number`, and only a message with that number is valid.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from posedrop.aws.items import Item
from posedrop.contract.times import DAY, epoch, rfc3339

LINE_INDEX = "line"
IN_LINE, DUE = "in line", "due"
LOST_AFTER = 600.0
"""Seconds after its reserved time at which a dispatched job counts as lost, and is put back in line."""
CLIENT_SECONDS = 90 * DAY
"""Seconds for which a client's rank is remembered after its last job."""


@dataclass(frozen=True)
class Entry:
    """A queued job as read from the index. `stands` and `place` are its keys there."""

    job_id: str
    stands: str
    place: str
    rank: int
    queued_at: float
    dispatch_number: int

    @classmethod
    def of(cls, item: Item) -> "Entry":
        """Read an entry from an item of the index."""
        return cls(
            job_id=str(item["job_id"]),
            stands=str(item["stands"]),
            place=str(item["place"]),
            rank=int(item.get("rank", 0)),
            queued_at=epoch(str(item["queued_at"])),
            dispatch_number=int(item.get("dispatch_number", 0)),
        )

    @property
    def line_place(self) -> str:
        """The job's place while it is in line."""
        return in_line(self.rank, self.queued_at)["place"]


def in_line(rank: int, queued_at: float) -> dict[str, str]:
    """Return the attributes of a job in line. `queued_at` is since when it is queued (seconds since the epoch)."""
    return {"stands": IN_LINE, "place": f"{rank:010d} {rfc3339(queued_at)}"}


def due(at: float) -> dict[str, str]:
    """Return the attributes of a job that goes back in line at a time (seconds since the epoch)."""
    return {"stands": DUE, "place": rfc3339(at)}


def dispatched(at: float) -> dict[str, Any]:
    """Return the attributes of a dispatched job. Its message should arrive at a time (seconds since the epoch)."""
    return {**due(at + LOST_AFTER), "send_at": at}


def client_item(character: str) -> str:
    """Return the key of a client's item. The client is the first segment of the character."""
    client = character.partition("/")[0]
    return f"client/{hashlib.sha256(client.encode()).hexdigest()}"
