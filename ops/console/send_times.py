"""Estimates when each queued job will be sent. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from ops.inspect.situation import Situation
from posedrop.aws.places import IN_LINE
from posedrop.aws.record import AnyRecord, Status


def send_times(
    records: Iterable[AnyRecord], situation: Situation, line: Sequence[str] = (), *, whole: bool = True
) -> dict[str, float]:
    """Return when queued jobs will be sent (seconds since the epoch), by job id. Jobs without an estimate are left out.

    A dispatched job has its reserved time. Jobs in line get the gate's free times in their order, one interval apart. A
    deferred job returns to the line at the end of its deferral, and is sent then or later. `line` has the first places
    in line, in order; `whole` says that these are all.
    """
    queued = [record for record in records if record.status is Status.QUEUED]
    found = {record.job_id: record.send_at for record in queued if record.send_at}
    # The index is eventually consistent: add the places of new records.
    places = sorted({*line, *(str(record.place) for record in queued if record.stands == IN_LINE)} if whole else line)
    for record in queued:
        number = bisect_left(places, str(record.place))
        if record.stands == IN_LINE and number < len(places):
            send_at = situation.send_time_after(number)
            if send_at is not None:
                found[record.job_id] = send_at
    for record in queued:
        if record.stands != IN_LINE and not record.send_at and record.deferred_until:
            found[record.job_id] = max(record.deferred_until, situation.opening.at)
    return found
