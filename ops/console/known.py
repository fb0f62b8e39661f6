"""What the console knows of the table: the newest records, read as a whole or only what changed.

A whole reading takes long, so it is rare. Between two of them, the sparse indexes show which records changed their
place. A record that is paid for keeps its place until it is notified; such records are read every time. At most a few
thousand records are kept, whatever the table's size. The page reads older ones from the indexes.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ops.console import cards
from ops.console.send_times import send_times
from ops.console.summary import summary
from ops.inspect.health import depth
from ops.inspect.records import ALWAYS, MOST_PLACES, QUEUED, SENT, WAITING, WINDOW, Page, Records, Wanted
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.places import IN_LINE
from posedrop.aws.record import ENDED, AnyRecord, Status
from posedrop.aws.record_reader import BATCH
from posedrop.aws.record_table import PAID

WATCHED = 100
"""How many jobs of a watched character are read, the newest first."""
QUEUE_SECONDS = 5.0
"""From one count of the upload queue's messages to the next."""
UNFINISHED = (*QUEUED, *SENT, *WAITING)


@dataclass(frozen=True)
class Known:
    """The result of one reading.

    - `records`: the records that were read, by job id.
    - `unfinished`: the places of unfinished jobs in the sparse indexes, by job id.
    - `send_times`: when queued jobs will be sent, in seconds since the epoch.
    - `aspects`: the part of each card that changes while its record does not.
    - `queue`: the number of messages on the upload queue.
    - `cut`: whether the table has more records than were read.
    - `unreadable`: the ids of records that this version cannot read.
    - `counted`: the number of jobs in each state that was not read completely.
    - `forgotten`: ids of records that exist but are too old to be kept here.
    """

    situation: Situation
    records: Mapping[str, AnyRecord] = field(default_factory=dict)
    unfinished: Mapping[str, str] = field(default_factory=dict)
    send_times: Mapping[str, float] = field(default_factory=dict)
    aspects: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    queue: int = 0
    cut: bool = False
    unreadable: frozenset[str] = frozenset()
    counted: Mapping[str, int] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()

    def card(self, record: AnyRecord) -> dict[str, Any]:
        """Return the card of a record."""
        return cards.card(record, self.situation, self.send_times.get(record.job_id))

    def summary(self) -> dict[str, Any]:
        """Return the summary of all records."""
        return {
            **summary(self.records.values(), self.situation, self.queue, self.counted),
            "cut": len(self.records) if self.cut else None,
            "unreadable": sorted(self.unreadable),
        }


class TableReader:
    """Reads a stack's table. Its methods block, so call them in a thread. They raise botocore's errors."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._unreadable: set[str] = set()
        self._records = Records(stack, self._unreadable.add)
        self._counted: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(len(UNFINISHED), "read")
        self._queue, self._queue_due = 0, 0.0

    def page(self, wanted: Wanted, limit: int, cursor: str | None) -> Page:
        """Return one page of the wanted records from the indexes. Raises ValueError if the cursor is malformed."""
        return self._records.page(wanted, limit, cursor)

    def whole(self, known: Known | None) -> Known:
        """Read the newest records and all unfinished ones."""
        unfinished = self._unfinished()  # before the records, so that the next reading sees what changes in between
        self._unreadable.clear()
        found, cut = self._records.recent()
        records = {record.job_id: record for record in found}
        records |= self._get(unfinished.keys() - records.keys())
        self._count(unfinished)
        forgotten: frozenset[str] = frozenset()
        if known and cut:
            # A record that is missing was deleted, or is older than the newest ones and only forgotten.
            oldest = found[WINDOW // 2 - 1].created_at if len(found) >= WINDOW // 2 else ALWAYS
            lost = {job_id for job_id in known.records if job_id not in records}
            forgotten = frozenset(job_id for job_id in lost if known.records[job_id].created_at < oldest)
            records |= self._get(lost - forgotten)
        return self._known(records, unfinished, cut, forgotten)

    def _count(self, unfinished: Mapping[str, str]) -> None:
        """Count the queued and the waiting jobs, where they are too many to be read."""
        self._counted = {
            state: self._records.count(places)
            for state, places in (("queued", QUEUED), ("waiting", WAITING))
            if any(_number(unfinished, key) >= MOST_PLACES for _, _, key in places)
        }

    def changes(self, known: Known, characters: Mapping[str, float], expected: Iterable[str] = ()) -> Known:
        """Read only what changed.

        `characters` are watched: their jobs that changed since the given time (seconds since the epoch) are read, too.
        `expected` are the ids of jobs that an upload will make; they are read by their ids.
        """
        unfinished = self._unfinished()
        changed = {
            job_id
            for job_id in unfinished.keys() | known.unfinished.keys()
            if unfinished.get(job_id) != known.unfinished.get(job_id) or unfinished[job_id].startswith(PAID)
        }
        changed |= {job_id for job_id in expected if not _is_over(known.records.get(job_id))}
        read = self._get(changed)
        records = {job_id: record for job_id, record in known.records.items() if job_id not in changed} | read
        for character, since in characters.items():
            for record in self._records.page(Wanted(character), WATCHED).records:
                # This index is eventually consistent: it may have an older version of the record.
                before = records.get(record.job_id)
                if record.updated_at >= since and (before is None or before.updated_at < record.updated_at):
                    records[record.job_id] = record
        return self._known(records, unfinished, known.cut)

    def _get(self, job_ids: Iterable[str]) -> dict[str, AnyRecord]:
        """Read records by their ids, a few batches at a time, because there may be hundreds."""
        ids = list(job_ids)
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        return {
            job_id: record for found in self._pool.map(self._records.get, batches) for job_id, record in found.items()
        }

    def _unfinished(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for (_, _, key), places in zip(
            UNFINISHED, self._pool.map(lambda place: self._records.places(*place), UNFINISHED), strict=True
        ):
            found |= {job_id: f"{key} {place}" for job_id, place in places.items()}
        return found

    def _known(
        self,
        records: Mapping[str, AnyRecord],
        unfinished: Mapping[str, str],
        cut: bool,
        forgotten: frozenset[str] = frozenset(),
    ) -> Known:
        situation = Situation.of(self._stack)
        if situation.now >= self._queue_due:
            self._queue = depth(self._stack, self._stack.output("UploadQueueUrl"))
            self._queue_due = situation.now + QUEUE_SECONDS
        moving = [record for record in records.values() if record.status not in ENDED]
        line = [place.removeprefix(f"{IN_LINE} ") for place in unfinished.values() if place.startswith(f"{IN_LINE} ")]
        times = send_times(moving, situation, line, whole=len(line) < MOST_PLACES)
        aspects = {record.job_id: cards.aspect(record, situation, times.get(record.job_id)) for record in moving}
        unreadable = frozenset(self._unreadable)
        return Known(
            situation,
            records,
            unfinished,
            times,
            aspects,
            self._queue,
            cut,
            unreadable,
            self._counted,
            forgotten,
        )


def _is_over(record: AnyRecord | None) -> bool:
    """Return whether a job has ended and is notified."""
    if record is None or record.status is Status.WAITING:
        return False
    return record.ended and record.notified_at is not None


def _number(unfinished: Mapping[str, str], key: str) -> int:
    """Return how many jobs an index key has."""
    return sum(place.startswith(f"{key} ") for place in unfinished.values())


def differences(before: Known, after: Known) -> tuple[list[AnyRecord], list[str]]:
    """Return the records whose cards changed, the oldest change first, and the ids of the deleted records."""
    changed = [
        record
        for job_id, record in after.records.items()
        if ((known := before.records.get(job_id)) is not record and known != record)
        or before.aspects.get(job_id) != after.aspects.get(job_id)
    ]
    gone = [job_id for job_id in before.records if job_id not in after.records and job_id not in after.forgotten]
    return sorted(changed, key=lambda record: record.updated_at), gone
