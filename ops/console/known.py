"""What a page can be shown: the newest records of the table, read as a whole or as they change.

To read the whole takes long, so it is rare. In between the sparse indexes say which records stand elsewhere than
before. Those that are paid for stand where they are until they are notified: they are read each time. However many
records there are, some thousands are read at most; the page asks the indexes for the older ones.
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
"""Jobs of a watched character that are read, the newest."""
QUEUE_SECONDS = 5.0
"""Between two counts of the upload queue's messages."""
UNFINISHED = (*QUEUED, *SENT, *WAITING)


@dataclass(frozen=True)
class Known:
    """What was read, all of it at one time. `send_times` of queued jobs: seconds since the epoch.

    `aspects`: what of the cards may change by itself. `queue`: how many messages the upload queue has. `cut`: there are
    more records than were read. `unreadable`: the ids of those that this version cannot read. `counted`: how many there
    are in states of which not all were read. `forgotten`: ids that are not known any more, though they are there.
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
        """The card of a record."""
        return cards.card(record, self.situation, self.send_times.get(record.job_id))

    def summary(self) -> dict[str, Any]:
        """The summary of all of them."""
        return {
            **summary(self.records.values(), self.situation, self.queue, self.counted),
            "cut": len(self.records) if self.cut else None,
            "unreadable": sorted(self.unreadable),
        }


class TableReader:
    """Reads a stack's table. Its methods wait for AWS: they belong in a thread. AWS's errors pass."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._unreadable: set[str] = set()
        self._records = Records(stack, self._unreadable.add)
        self._counted: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(len(UNFINISHED), "read")
        self._queue, self._queue_due = 0, 0.0

    def page(self, wanted: Wanted, limit: int, cursor: str | None) -> Page:
        """One page of the records that are wanted, of all that there are. Raises ValueError if the cursor is none."""
        return self._records.page(wanted, limit, cursor)

    def whole(self, known: Known | None) -> Known:
        """Read the newest records, and what is unfinished."""
        unfinished = self._unfinished()  # before the records: what changes in between is seen by the next reading
        self._unreadable.clear()
        found, cut = self._records.recent()
        records = {record.job_id: record for record in found}
        records |= self._get(unfinished.keys() - records.keys())
        self._count(unfinished)
        forgotten: frozenset[str] = frozenset()
        if known and cut:
            # What was removed from the newest ones is gone; what is older is not known any more.
            oldest = found[WINDOW // 2 - 1].created_at if len(found) >= WINDOW // 2 else ALWAYS
            lost = {job_id for job_id in known.records if job_id not in records}
            forgotten = frozenset(job_id for job_id in lost if known.records[job_id].created_at < oldest)
            records |= self._get(lost - forgotten)
        return self._known(records, unfinished, cut, forgotten)

    def _count(self, unfinished: Mapping[str, str]) -> None:
        """Count what is too many to be read."""
        self._counted = {
            state: self._records.count(places)
            for state, places in (("queued", QUEUED), ("waiting", WAITING))
            if any(_number(unfinished, key) >= MOST_PLACES for _, _, key in places)
        }

    def changes(self, known: Known, characters: Mapping[str, float], expected: Iterable[str] = ()) -> Known:
        """Read what changed. `characters` are read beside the index, each since a time (seconds).

        `expected` are jobs that an upload will make: they are read by their ids.
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
                # This index may be behind the table.
                before = records.get(record.job_id)
                if record.updated_at >= since and (before is None or before.updated_at < record.updated_at):
                    records[record.job_id] = record
        return self._known(records, unfinished, known.cut)

    def _get(self, job_ids: Iterable[str]) -> dict[str, AnyRecord]:
        """Read records by their ids, a few batches at a time: hundreds may be in flight."""
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
    """Whether nothing more happens to a job by itself."""
    if record is None or record.status is Status.WAITING:
        return False
    return record.ended and record.notified_at is not None


def _number(unfinished: Mapping[str, str], key: str) -> int:
    """How many stand at a place."""
    return sum(place.startswith(f"{key} ") for place in unfinished.values())


def differences(before: Known, after: Known) -> tuple[list[AnyRecord], list[str]]:
    """The records whose cards are other ones now, the oldest change first, and the ids of those that are gone."""
    changed = [
        record
        for job_id, record in after.records.items()
        if ((known := before.records.get(job_id)) is not record and known != record)
        or before.aspects.get(job_id) != after.aspects.get(job_id)
    ]
    gone = [job_id for job_id in before.records if job_id not in after.records and job_id not in after.forgotten]
    return sorted(changed, key=lambda record: record.updated_at), gone
