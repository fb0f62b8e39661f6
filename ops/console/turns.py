"""When the turn of each queued job comes. Pure."""

from collections.abc import Iterable

from ops.explain import Situation
from posedrop.clock import epoch
from posedrop.ledger import Record, Status
from posedrop.line.places import IN_LINE


def turns(records: Iterable[Record], situation: Situation) -> dict[str, float]:
    """When queued jobs are sent (seconds since the epoch), by their ids; one that cannot be told is left out.

    A dispatched job has its time. The jobs in line follow in their order, one interval after the other, from where the
    gate has a free time. A deferred job stands in line again at its time, and goes then or later.
    """
    queued = [record for record in records if record.status is Status.QUEUED]
    found = {record.job_id: record.send_at for record in queued if record.send_at is not None}
    in_line = sorted((str(record.place), record.job_id) for record in queued if record.stands == IN_LINE)
    for number, (_, job_id) in enumerate(in_line):
        turn = situation.turn_after(number)
        if turn is not None:
            found[job_id] = turn
    for record in queued:
        if record.stands != IN_LINE and record.send_at is None and record.deferred_until:
            found[record.job_id] = max(epoch(record.deferred_until), situation.opening.at)
    return found
