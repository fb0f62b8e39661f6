"""A record as the page shows it, and which of them it asks for. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ops.explain import Explanation, Reason, Situation, explain_record
from ops.records import ALWAYS, cursor_after, newest, parse_cursor
from ops.words import span
from posedrop.clock import epoch, rfc3339
from posedrop.ledger import Record, Status
from posedrop.pacing import Held, Slot

STATES = ("waiting", "queued", "submitting", "running", "delivering", "done", "failed")
ETA_STEP = 10
"""Seconds: an expected time that moves by less makes no new version of a card."""

_HEADLINES = {
    Reason.PAUSED: "paused",
    Reason.WAITING_LIMIT: "waits for its turn",
    Reason.HELD: "held back",
    Reason.QUEUED: "next to be sent",
    Reason.STUCK: "overdue",
}
_FAILURES = {
    "InvalidInput": "refused before sending",
    "Rejected": "refused by the provider",
    "InferenceFailed": "failed in the model",
    "SubmitOutcomeUnknown": "outcome unknown",
    "TimedOut": "took too long",
    "ResultExpired": "result expired",
    "OutputInvalid": "no usable image",
}


# ---- one card --------------------------------------------------------------------------------------------------------


def state(record: Record) -> str:
    """Where a job stands, one of STATES. One that succeeded is delivering until it is told."""
    match record.status:
        case Status.SUBMITTED:
            return "running"
        case Status.SUCCEEDED:
            return "done" if record.notified_at else "delivering"
        case status:
            return status.lower()


def can_retry(record: Record) -> bool:
    """Whether a new attempt may bring something: the same input outside the contract would fail again."""
    return record.status is Status.FAILED and bool(record.inputs) and (record.error or {}).get("type") != "InvalidInput"


def card(record: Record, situation: Situation) -> dict[str, Any]:
    """All that a card shows. Its version changes with it, but not with a sentence that only tells the time."""
    explanation = explain_record(record, situation)
    told = explanation.reason not in (Reason.RUNNING, Reason.DONE)
    first = record.outputs[0] if record.outputs else {}
    found: dict[str, Any] = {
        "job_id": record.job_id,
        "attempt": record.attempt,
        "character": record.character,
        "pose": record.pose,
        "state": state(record),
        "status": str(record.status),
        "headline": _headline(record, explanation),
        "missing": record.missing,
        "created_at": record.created_at or None,
        "updated_at": record.updated_at or None,
        "submitted_at": record.submitted_at,
        "completed_at": record.completed_at,
        "eta": _eta(record, situation),
        "typical_seconds": situation.typical_seconds,
        "outputs": len(record.outputs),
        "width": first.get("width"),
        "height": first.get("height"),
        "prompt": record.parameters.get("prompt"),
        "seed": record.parameters.get("seed"),
        "error": {name: record.error.get(name) for name in ("type", "message")} if record.error else None,
        "metrics": record.metrics or None,
        "can_retry": can_retry(record),
    }
    eta = found["eta"] and epoch(found["eta"]) // ETA_STEP
    found["version"] = _digest({**found, "eta": eta, "reason": explanation.reason})
    found["sentence"] = explanation.sentence if told else None
    found["step"] = explanation.next_step if told else None
    return found


def _headline(record: Record, explanation: Explanation) -> str:
    match state(record):
        case "waiting":
            return f"waits for {' and '.join(f'a {what}' for what in record.missing)}" if record.missing else "held up"
        case "submitting":
            return "being sent" if record.unknown_at is None else "no answer yet"
        case "running":
            return _HEADLINES.get(explanation.reason, "in the model")
        case "delivering":
            return "being told"
        case "done":
            ended, began = record.completed_at, record.submitted_at
            return f"done in {span(epoch(ended) - epoch(began))}" if ended and began else "done"
        case "failed":
            return _FAILURES.get((record.error or {}).get("type", ""), "failed inside the stack")
    return _HEADLINES.get(explanation.reason, "queued")


def _eta(record: Record, situation: Situation) -> str | None:
    """When a queued job is sent, or a running one ends, as far as can be told."""
    if record.status is Status.SUBMITTED and record.submitted_at:
        return rfc3339(epoch(record.submitted_at) + situation.typical_seconds)
    if record.status is not Status.QUEUED:
        return None
    slot = Slot(**record.slot) if record.slot else None
    _, taken = situation.pacing.take(situation.now, situation.limits, slot)
    if isinstance(taken, Held):
        return rfc3339(taken.slot.at if taken.slot else taken.until)
    return record.hold_until if record.hold_until and epoch(record.hold_until) > situation.now else None


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=9).hexdigest()


# ---- which cards -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """Which jobs are asked for; what is empty does not matter. `since` is RFC 3339, of the last change."""

    character: str = ""
    states: frozenset[str] = field(default_factory=frozenset)
    text: str = ""
    since: str = ALWAYS

    def fits(self, record: Record) -> bool:
        """Whether a job is asked for."""
        return (
            record.updated_at >= self.since
            and (not self.character or record.character == self.character)
            and (not self.states or state(record) in self.states)
            and (not self.text or self.text.casefold() in _text(record))
        )


def _text(record: Record) -> str:
    words = (record.job_id, record.character, record.pose, record.parameters.get("prompt", ""))
    return "\n".join([*map(str, words), *map(str, (record.error or {}).values())]).casefold()


def page(
    records: Iterable[Record], wanted: Filter, limit: int, cursor: str | None = None
) -> tuple[list[Record], str | None, int]:
    """One page of the records that are asked for, the newest first, the next page's cursor, and how many fit in all.

    Raises ValueError if the cursor is none.
    """
    before = parse_cursor(cursor) if cursor else None
    fitting = sorted((record for record in records if wanted.fits(record)), key=newest, reverse=True)
    rest = [record for record in fitting if before is None or newest(record) < before]
    return rest[:limit], cursor_after(rest[limit - 1]) if len(rest) > limit else None, len(fitting)


def characters(records: Iterable[Record]) -> list[dict[str, Any]]:
    """All characters by their names, and how many jobs each has."""
    counts = Counter(record.character for record in records)
    return [{"name": name, "jobs": counts[name]} for name in sorted(counts, key=str.casefold)]
