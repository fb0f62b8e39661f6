"""When each queued job is probably sent. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from ops.inspect.situation import Situation
from posedrop.aws.places import IN_LINE
from posedrop.aws.record import AnyRecord, Status


def send_times(
    records: Iterable[AnyRecord], situation: Situation, line: Sequence[str] = (), *, whole: bool = True
) -> dict[str, float]:
    """When queued jobs are sent (seconds since the epoch), by their ids; one of which that is not known is left out.

    `line` are the first places in line, in their order; `whole`: there are no others. A dispatched job has its time.
    The jobs in line follow in their order, one interval after the other, from where the gate has a free time. A
    deferred job stands in line again at its time, and goes then or later.
    """
    queued = [record for record in records if record.status is Status.QUEUED]
    found = {record.job_id: record.send_at for record in queued if record.send_at}
    # A job may have come that the index does not show yet.
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
