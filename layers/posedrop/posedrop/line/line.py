"""The line of queued jobs, in the ledger's index `line`: read it, and move jobs in it."""

from collections.abc import Iterator, Mapping

from posedrop.aws.items import Condition, Items, Value
from posedrop.aws.places import CLIENT_SECONDS, DUE, IN_LINE, LINE_INDEX, Entry, client_item, dispatched, in_line
from posedrop.contract.errors import WriteRefused
from posedrop.contract.times import rfc3339

TRIES = 8
REMOVED_IN_LINE = ("send_at",)
"""The attributes that are removed when a job is put back in line."""


class Line:
    """Reads the line and moves jobs in it. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def head(self, limit: int) -> list[Entry]:
        """Return the next jobs in line, in order, at most `limit`."""
        return self._entries(IN_LINE, None, limit)

    def due(self, now: float, limit: int) -> list[Entry]:
        """Return the jobs due at `now` (seconds since the epoch), the longest due first, at most `limit`."""
        return self._entries(DUE, rfc3339(now), limit)

    def next_due(self) -> list[Entry]:
        """Return the job that is due next, now or later, in a list, which is empty if no job is due at any time."""
        return self._entries(DUE, None, 1)

    def is_empty(self) -> bool:
        """Return whether no job is in line."""
        return not self.head(1)

    def before(self, place: str, limit: int = 1000) -> int:
        """Return the number of jobs in line before a place, at most `limit`."""
        return sum(1 for _ in self._items.query(LINE_INDEX, ("stands", IN_LINE), ("place", place), limit))

    def rank(self, character: str, highest: int, now: float) -> int:
        """Return the rank of a client's next job. `highest` is the highest rank dispatched so far.

        Each new job of a client gets the next rank, and a new client begins behind `highest`. So clients take turns,
        however many jobs each of them has.
        """
        key, used = client_item(character), {"expires_at": int(now + CLIENT_SECONDS)}
        for _ in range(TRIES):
            try:
                behind_own = [Condition("rank", ">=", highest)]
                return int(self._items.update(key, values=used, add={"rank": 1}, when=behind_own)["rank"])
            except WriteRefused:
                pass
            try:
                first = [Condition("rank", "<", highest, or_absent=True)]
                return int(self._items.update(key, values={**used, "rank": highest + 1}, when=first)["rank"])
            except WriteRefused:
                pass  # another job of this client got a rank meanwhile
        return highest + 1

    def dispatch(self, entry: Entry, at: float) -> int | None:
        """Move a job to a reserved time. Return its new dispatch number, or None if it is no longer at its place."""
        return self._move(entry, {**dispatched(at), "send_at": rfc3339(at)})

    def put_in_line(self, entry: Entry) -> bool:
        """Put a due job back in line at its old rank. Return False if it is no longer at its place."""
        return self._move(entry, in_line(entry.rank, entry.queued_at)) is not None

    def _move(self, entry: Entry, values: Mapping[str, Value]) -> int | None:
        here = [Condition("stands", "=", entry.stands), Condition("place", "=", entry.place)]
        remove = () if "send_at" in values else REMOVED_IN_LINE
        try:
            item = self._items.update(entry.job_id, values=values, add={"dispatch_number": 1}, remove=remove, when=here)
        except WriteRefused:
            return None
        return int(item["dispatch_number"])

    def _entries(self, stands: str, before: str | None, limit: int) -> list[Entry]:
        below = ("place", before) if before else None
        found: Iterator[Mapping[str, Value]] = self._items.query(LINE_INDEX, ("stands", stands), below, limit)
        return [Entry.of(dict(item)) for item in found]
