"""Say where a queued job stands: in line by its rank, or due at a time. Pure.

A record with status QUEUED has the two attributes of the sparse index `line`: `stands` and `place`. Its claim removes
them. In line, `place` sorts by rank, then by age. Due, it is a time: a job that was dispatched is due when its message
must have been lost, a deferred one when it is to be tried again. Each move gives the job a new `dispatch_number`, and
only the message with that number counts.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from posedrop.aws.items import Item
from posedrop.contract.times import epoch, rfc3339

LINE_INDEX = "line"
IN_LINE, DUE = "in line", "due"
LOST_AFTER = 600.0
"""Seconds after its time at which a dispatched job counts as lost, and is put back in line."""
CLIENT_SECONDS = 90 * 86400
"""Seconds after its last job for which a client's rank is remembered."""


@dataclass(frozen=True)
class Entry:
    """A queued job as the index shows it; `stands` and `place` are its index keys."""

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
        """The job's place when it stands in line."""
        return in_line(self.rank, self.queued_at)["place"]


def in_line(rank: int, queued_at: float) -> dict[str, str]:
    """Return the attributes of a job that stands in line, queued since a time (seconds since the epoch)."""
    return {"stands": IN_LINE, "place": f"{rank:010d} {rfc3339(queued_at)}"}


def due(at: float) -> dict[str, str]:
    """Return the attributes of a job that is put in line again at a time (seconds since the epoch)."""
    return {"stands": DUE, "place": rfc3339(at)}


def dispatched(at: float) -> dict[str, Any]:
    """Return the attributes of a job whose message is sent so that it arrives at a time (seconds since the epoch)."""
    return {**due(at + LOST_AFTER), "send_at": at}


def client_item(character: str) -> str:
    """Return the key of a client's item. The client is the first segment of the character."""
    client = character.partition("/")[0]
    return f"client/{hashlib.sha256(client.encode()).hexdigest()}"
