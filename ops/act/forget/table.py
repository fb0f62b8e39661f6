"""Find and delete a character's items in the table, except those that other characters use too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.places import client_item
from posedrop.aws.read_images import item_key
from posedrop.aws.record import AnyRecord, Record, Status
from posedrop.aws.record_reader import BATCH
from posedrop.aws.record_table import attempts_id
from posedrop.gate.breaker import Breaker


@dataclass
class Jobs:
    """What a character's records say: the items to delete with them, and the data outside the stack.

    under_way: the jobs that have not ended or are not notified, by their ids. executions: the names of all that may
    have been started. sent_at: when the last request was sent (seconds since the epoch), 0 if none was.
    """

    ids: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    poses: set[str] = field(default_factory=set)
    under_way: dict[str, Record] = field(default_factory=dict)
    hashes: set[str] = field(default_factory=set)
    versions: dict[tuple[str, str, str], str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    sent_at: float = 0.0

    def add(self, record: AnyRecord) -> None:
        """Add one record."""
        if record.status is Status.WAITING:
            self.waiting.append(record.job_id)
            return
        self.ids.append(record.job_id)
        self.attempts[record.job_id] = record.attempt
        self.poses.add(record.pose)
        if not record.ended or not record.notified_at:
            self.under_way[record.job_id] = record
        for read in record.inputs.values():
            if read.get("sha256"):
                self.hashes.add(read["sha256"])
                if read.get("version_id"):
                    self.versions[read["bucket"], read["key"], read["version_id"]] = read["sha256"]
        self.requests += [request.request_id for request in record.requests if request.request_id]
        self.sent_at = max([self.sent_at, *(request.sent_at for request in record.requests)])


@dataclass
class Shared:
    """What others use too: whether the client has other characters, and the hashes of their images."""

    client: bool = False
    hashes: set[str] = field(default_factory=set)


class Table:
    """The table of a stack. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._items = stack.items
        self._reader = stack.reader()
        self._unread: list[str] = []
        self._records = Records(stack, unreadable=self._unread.append)

    def jobs(self, character: str) -> Jobs:
        """Return what the character's records say, including records that cannot be parsed."""
        found = Jobs()
        ids = self._records.ids_of(character)
        while batch := list(islice(ids, BATCH)):
            for record in self._records.get(batch).values():
                found.add(record)
            found.ids += self._unread
            self._unread.clear()
        highest = self._existing(map(attempts_id, found.ids))
        for job_id in found.ids:
            number = int(highest.get(attempts_id(job_id), {}).get("highest", 0))
            found.attempts[job_id] = max(found.attempts.get(job_id, 0), number)
        return found

    def shared(self, character: str, hashes: set[str]) -> Shared:
        """Return what other characters use of this one's items.

        Scans the whole table, because no index leads from a hash to records.
        """
        found, client = Shared(), character.partition("/")[0]
        for other in self._reader.every_plain(("job_id", "status", "character", "inputs")):
            name = str(other.get("character"))
            if name == character:
                continue
            found.client = found.client or name.partition("/")[0] == client
            inputs = other.get("inputs") or {}
            found.hashes |= {read["sha256"] for read in inputs.values() if read.get("sha256") in hashes}
        return found

    def remembered(self, versions: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
        """Return the cached hashes of some versions. A version is its bucket, key and version id."""
        found: dict[tuple[str, str, str], str] = {}
        left = iter(versions)
        while batch := list(islice(left, BATCH)):
            items = self._items.get(*(item_key(*version) for version in batch))
            found |= {version: str(item["sha256"]) for version, item in zip(batch, items, strict=True) if item}
        return found

    def attempt_items(self, job_ids: Iterable[str]) -> list[str]:
        """Return the keys of the items with the attempt numbers of these jobs; they contain no names."""
        return list(self._existing(map(attempts_id, job_ids)))

    def delete(self, keys: Iterable[str]) -> int:
        """Delete items by their keys, and return how many of them existed."""
        deleted, left = 0, iter(keys)
        while batch := list(islice(left, BATCH)):
            there = list(self._existing(batch))
            self._reader.delete(there)
            deleted += len(there)
        return deleted

    def delete_remembered(self, versions: Iterable[tuple[str, str, str]]) -> int:
        """Delete the cached reads of some versions; return how many were cached."""
        return self.delete(item_key(*version) for version in versions)

    def delete_requests(self, request_ids: Iterable[str]) -> int:
        """Delete the items with the owners of request ids; return how many there were."""
        return self.delete(f"request/{request_id}" for request_id in request_ids)

    def delete_rank(self, character: str) -> int:
        """Delete the rank of a character's client; return the number of deleted items."""
        return self.delete([client_item(character)])

    def clear_breaker(self, job_ids: Sequence[str]) -> None:
        """Remove these job ids from the breaker, which stores the jobs whose last requests got a 5xx."""
        gone = set(job_ids)

        def change(breaker: Breaker) -> tuple[Breaker, None]:
            return replace(breaker, faulted_jobs=[job for job in breaker.faulted_jobs if job not in gone]), None

        self._stack.gate.breaker.change(change)

    def _existing(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of some items that exist."""
        left = iter(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        while batch := list(islice(left, BATCH)):
            found |= {key: item for key, item in zip(batch, self._items.get(*batch), strict=True) if item}
        return found
