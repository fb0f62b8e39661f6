"""When the turn of each queued job comes. Pure."""

from collections.abc import Iterable

from ops.explain import Situation
from posedrop.clock import epoch
from posedrop.ledger import Record, Status
from posedrop.pacing import Slot, Turn


def turns(records: Iterable[Record], situation: Situation) -> dict[str, float]:
    """When queued jobs are sent (seconds since the epoch), by their ids; one that cannot be told is left out.

    The question that submit will ask for each of them, in the order in which their messages come back. A pause moves
    them once, when it begins: the grid goes on at its end. Its end itself changes nothing.
    """
    pacing, opens = situation.pacing, max(situation.pacing.paused_until, situation.breaker.open_until)
    found = {}
    for due, _, job_id, kept in _in_order(records, situation.now):
        pacing, taken = pacing.answered().take(max(due, opens), situation.limits, kept)
        slot = taken if isinstance(taken, Turn) else taken.slot
        # One that should have been taken up by now has no time that would hold.
        if slot and (due > situation.now or (kept and slot.at == kept.at)):
            found[job_id] = slot.at
    return found


def _in_order(records: Iterable[Record], now: float) -> list[tuple[float, str, str, Slot | None]]:
    """The queued jobs as their messages come back: when, since when they are there, their ids, and their slots."""
    return sorted(
        (
            max(now, epoch(record.deferred_until)) if record.deferred_until else now,
            record.created_at,
            record.job_id,
            Slot(**record.slot) if record.slot else None,
        )
        for record in records
        if record.status is Status.QUEUED
    )
