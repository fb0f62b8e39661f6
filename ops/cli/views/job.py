"""Show one job: its explanation and its timeline."""

import json
from collections.abc import Sequence

from rich.text import Text

from ops.cli.screen import STYLES, Beside, Part, prose, rows, step, text, word
from ops.formatting import span, usd
from ops.inspect.explanation import Explanation
from ops.inspect.timeline import Timeline, TimelineEvent, seconds_to_result, waited
from posedrop.aws.record import Record, Status

EVENT_WIDTH = 28
"""Columns of a time with its indentation."""


def explanation(found: Explanation) -> list[Part]:
    """Return the sentence and the next step."""
    parts = [prose(part.sentence, "dim", indent=2) for part in found.parts]
    return [prose(found.sentence), *parts, step("Next  ", found.next_step)]


def timeline(found: Timeline, *, with_notification: bool) -> list[Part]:
    """Return the timeline of a job, or of waiting uploads."""
    record = found.record
    facts: list[tuple[str, Text | str]] = [
        ("Job", text(record.job_id)),
        ("Of", text(f"{record.character} / {record.pose}, attempt {record.attempt}")),
        ("Status", Text(word(record.status), STYLES[record.status])),
    ]
    if record.status is not Status.WAITING:
        facts += _facts(record, found)
    unread = [prose(f"Unknown: {what}", "dim", indent=2) for what in found.unread]
    parts: list[Part] = [
        *rows(facts),
        Text(),
        *_events(found.events),
        *unread,
        Text(),
        *explanation(found.explanation),
    ]
    if with_notification:
        sentence = (
            json.dumps(found.notification, indent=2, ensure_ascii=False) if found.notification else "Not notified yet."
        )
        parts += [Text(), text(sentence)]
    return parts


def _facts(record: Record, found: Timeline) -> list[tuple[str, Text | str]]:
    """Return what is known of a job: its parameters, request, cost, images and execution."""
    facts: list[tuple[str, Text | str]] = []
    if record.parameters:
        others = {name: value for name, value in record.parameters.items() if name != "prompt"}
        facts.append(("Prompt", text(str(record.parameters.get("prompt", "")))))
        facts.append(("Parameters", text(", ".join(f"{name} {json.dumps(value)}" for name, value in others.items()))))
    if record.context is not None:
        facts.append(("Context", text(json.dumps(record.context, ensure_ascii=False))))
    if record.request_id:
        facts.append(("Request", text(record.request_id)))
    if record.ended:
        facts.append(("Cost", "unknown" if found.cost_usd is None else usd(found.cost_usd)))
    if (seconds := seconds_to_result(record)) is not None:
        facts.append(("Duration", f"{span(seconds)} from upload to result"))
    for name, uri in found.inputs.items():
        facts.append((name.capitalize(), text(uri)))
        if prepared := record.inputs[name].get("prepared"):
            facts.append(("Sent", text(f"{prepared['key']} ({', '.join(prepared['what'])})")))
    facts += [("Image", text(uri)) for uri in found.outputs]
    if found.execution:
        status = found.execution.status or "not started, or expired"
        facts += [("Execution", status), ("", text(found.execution.url or found.execution.arn))]
    return facts


def _events(events: Sequence[TimelineEvent]) -> list[Part]:
    """Return a line for each event, with the time since the previous event."""
    lines: list[Part] = []
    width = max(len(event.what) for event in events)
    for index, event in enumerate(events):
        gap = f"+{span(waited(events, index))}" if index else ""
        heading = Text.assemble(f"  {event.at}  ", (f"{gap:>8}  ", "dim"), f"{event.what:{width}}  ")
        lines.append(Beside(heading, text(event.detail, "dim"), EVENT_WIDTH))
    return lines
