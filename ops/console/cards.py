"""Cards: a job as the page shows it, and which jobs a page of cards has. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ops.console.steps import step_of
from ops.formatting import span
from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Explanation, Reason
from ops.inspect.records import ALWAYS, Wanted, is_refused, newest
from ops.inspect.situation import Situation
from ops.inspect.timeline import seconds_to_result
from posedrop.aws.record import AnyRecord, Record, Status, WaitingRecord
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import epoch, rfc3339
from posedrop.segmind.requests import RequestStatus, cost_of

STATES = ("waiting", "queued", "submitting", "running", "delivering", "done", "failed")
_STATUSES = {
    "waiting": Status.WAITING,
    "queued": Status.QUEUED,
    "submitting": Status.SUBMITTING,
    "running": Status.SUBMITTED,
    "delivering": Status.SUCCEEDED,
    "done": Status.SUCCEEDED,
    "failed": Status.FAILED,
}
ETA_STEP = 10
"""Seconds. A card is sent again only if its expected send time moves by about this much."""

_FAILURES = {
    "InvalidInput": "refused before sending",
    "Rejected": "refused by the provider",
    "InferenceFailed": "failed in the model",
    "SubmitOutcomeUnknown": "outcome unknown",
    "TimedOut": "took too long",
    "ResultExpired": "result expired",
    "OutputInvalid": "no usable image",
}
_DEFERRALS: dict[str | None, str] = {
    ReasonCode.REFUSED: "refused for now",
    ReasonCode.SERVER_FAULT: "the provider failed",
    ReasonCode.EARLIER_REQUEST: "looked up before it is paid",
    ReasonCode.UNAVAILABLE: "the provider cannot be reached",
    ReasonCode.AWS: "AWS is unavailable",
}
"""The headline of a job that is deferred alone, by its reason code."""


# ---- one card --------------------------------------------------------------------------------------------------------


def state(record: AnyRecord) -> str:
    """Return a record's state, one of STATES. A job that succeeded is `delivering` until it is notified."""
    match record.status:
        case Status.SUBMITTED:
            return "running"
        case Status.SUCCEEDED:
            return "done" if record.notified_at else "delivering"
        case status:
            return status.lower()


def can_retry(record: AnyRecord) -> bool:
    """Return whether the page offers a retry. A retry that cannot work is refused later, with the reason."""
    return record.status is Status.FAILED


def card(record: AnyRecord, situation: Situation, send_at: float | None = None) -> dict[str, Any]:
    """Return all that a card shows. `send_at` is when a queued job will be sent (seconds since the epoch), if known.

    The typical duration and a pause change all cards at once. Therefore they are in the summary, not in the cards.
    """
    why = _explained(record, situation)
    found: dict[str, Any] = {
        "job_id": record.job_id,
        "attempt": record.attempt,
        "character": record.character,
        "pose": record.pose,
        "state": state(record),
        "headline": _headline(record, situation, send_at),
        "created_at": _text_of(record.created_at),
        "updated_at": _text_of(record.updated_at),
        "eta": _text_of(send_at),
        "can_retry": can_retry(record),
        **(_of_waiting(record) if record.status is Status.WAITING else _of_job(record)),
    }
    found["version"] = _digest({**found, "eta": _step(send_at)})
    found["sentence"] = why.sentence if why else None
    found["step"] = step_of(record, why) if why else None
    return found


def _explained(record: AnyRecord, situation: Situation) -> Explanation | None:
    """Why a job waits or failed; None where the card says enough."""
    # A card of a queued job has no sentence, because that would query its place in line. The job's view has it.
    if record.status is Status.SUCCEEDED or (record.status is Status.QUEUED and not is_refused(record)):
        return None
    why = explain_record(record, replace(situation, subject="It"))
    if why.reason is Reason.RUNNING or (record.status is Status.QUEUED and why.reason is not Reason.REFUSED):
        return None
    return why


def _of_waiting(waiting: WaitingRecord) -> dict[str, Any]:
    """Return the part of a card that only waiting uploads have, with a new job's values for the rest."""
    unknown = ("submitted_at", "completed_at", "width", "height", "prompt", "seed", "seconds", "error", "metrics")
    return {
        **dict.fromkeys(unknown),
        "missing": waiting.missing,
        "outputs": 0,
        "prepared": {},
        "stack": f"{waiting.character}/{waiting.pose}",
        "cost_usd": cost_of(()),
    }


def _of_job(record: Record) -> dict[str, Any]:
    """Return the part of a card that only a job has."""
    first = record.outputs[0] if record.outputs else {}
    return {
        "missing": [],
        "submitted_at": _text_of(record.submitted_at),
        "completed_at": _text_of(record.completed_at),
        "outputs": len(record.outputs),
        "width": first.get("width"),
        "height": first.get("height"),
        "prompt": record.parameters.get("prompt"),
        "seed": record.parameters.get("seed"),
        "prepared": prepared(record),
        "stack": stack_of(record),
        "seconds": seconds_to_result(record),
        "error": {name: record.error.get(name) for name in ("type", "message")} if record.error else None,
        "metrics": record.metrics or None,
        "cost_usd": record.cost_usd,
    }


def prepared(record: Record) -> dict[str, list[str]]:
    """Return what `prepare` changed in a job's images, by "face" and "pose". Unchanged images are left out."""
    found = {name: stored.get("prepared") for name, stored in record.inputs.items()}
    return {name: list(prepared["what"]) for name, prepared in found.items() if prepared}


def stack_of(record: Record) -> str:
    """Return the key under which the page stacks variants: character and the SHA-256 or else the name of the pose."""
    pose = record.inputs.get("pose", {}).get("sha256")
    seed = record.parameters.get("seed")
    return f"{record.character}/{pose or record.pose.removesuffix(f'-{seed}')}"


def _text_of(time: float | None) -> str | None:
    return rfc3339(time) if time else None


def aspect(record: AnyRecord, situation: Situation, send_at: float | None = None) -> tuple[str, int | None]:
    """Return the part of a card that changes while its record does not. If it differs, the card is sent again."""
    return _headline(record, situation, send_at), _step(send_at)


def _step(send_at: float | None) -> int | None:
    return int(send_at // ETA_STEP) if send_at else None


def _headline(record: AnyRecord, situation: Situation, send_at: float | None) -> str:
    if record.status is Status.WAITING:
        return f"waits for {' and '.join(f'a {what}' for what in record.missing)}" if record.missing else "deferred"
    match state(record):
        case "queued":
            deferred = record.deferred_until is not None and record.deferred_until > situation.now
            if deferred and record.reason_code in _DEFERRALS and not situation.gate.breaker.is_open:
                return _DEFERRALS[record.reason_code]
            if send_at:
                return "waits for its turn"
            return "deferred" if record.reason and deferred else "in line"
        case "submitting":
            unknown = record.requests and record.requests[-1].status is RequestStatus.UNKNOWN
            return "no response yet" if unknown else "being sent"
        case "running":
            return "overdue" if explain_record(record, situation).reason is Reason.STUCK else "in the model"
        case "delivering":
            return "being notified"
        case "done":
            seconds = seconds_to_result(record)
            return f"done in {span(seconds)}" if seconds is not None else "done"
    if record.cancelled:
        return "cancelled"
    return _FAILURES.get((record.error or {}).get("type", ""), "failed inside the stack")


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=9).hexdigest()


# ---- which cards -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """Which jobs a page shows. Empty fields do not filter.

    `since`: the earliest time of the last change, in seconds since the epoch.
    """

    character: str = ""
    states: frozenset[str] = field(default_factory=frozenset)
    text: str = ""
    since: float = ALWAYS

    def wanted(self) -> Wanted:
        """Return the query to the table's indexes, used when not all records are known."""
        statuses = [status for name, status in _STATUSES.items() if name in self.states]
        unfinished = bool(self.states) and not self.states & {"done", "failed"}
        also = self.fits if self.states or self.text else None
        return Wanted(self.character, statuses, self.since, unfinished=unfinished, also=also)

    def fits(self, record: AnyRecord) -> bool:
        """Return whether a job passes the filter."""
        return (
            record.updated_at >= self.since
            and (not self.character or record.character == self.character)
            and (not self.states or state(record) in self.states)
            and (not self.text or self.text.casefold() in _text(record))
        )


def _text(record: AnyRecord) -> str:
    words = [record.job_id, record.character, record.pose]
    if record.status is not Status.WAITING:
        words += [record.parameters.get("prompt", ""), *(record.error or {}).values()]
    return "\n".join(map(str, words)).casefold()


def page(
    records: Iterable[AnyRecord], wanted: Filter, limit: int, cursor: str | None = None
) -> tuple[list[AnyRecord], str | None, int]:
    """Return one page of the records that pass the filter, the next page's cursor, and how many pass in all.

    The newest records come first. Raises ValueError if the cursor is malformed.
    """
    before = parse_cursor(cursor) if cursor else None
    passing = sorted((record for record in records if wanted.fits(record)), key=newest, reverse=True)
    rest = [record for record in passing if before is None or newest(record) < before]
    return rest[:limit], cursor_after(rest[limit - 1]) if len(rest) > limit else None, len(passing)


def cursor_after(record: AnyRecord) -> str:
    """Return the cursor of the page that begins after a record."""
    return f"{rfc3339(record.updated_at)}/{record.job_id}"


def parse_cursor(cursor: str) -> tuple[float, str]:
    """Return the time and the id in a cursor: of the record that the page begins after. Raises ValueError."""
    updated_at, slash, job_id = cursor.partition("/")
    if not slash or not updated_at or not job_id:
        raise ValueError(f"no page begins at {cursor}")
    return epoch(updated_at), job_id


def characters(records: Iterable[AnyRecord]) -> list[dict[str, Any]]:
    """Return all characters, sorted by name, with their numbers of jobs."""
    counts = Counter(record.character for record in records)
    return [{"name": name, "jobs": counts[name]} for name in sorted(counts, key=str.casefold)]
