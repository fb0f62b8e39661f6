"""How the reports of `backfill`, `forget` and `dead-letters` look, on a terminal and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from ops.act.backfill.finding import WHY, Finder, Found, Outcome
from ops.act.backfill.sending import Spool
from ops.act.dead_letters import DeadLetter
from ops.act.forget.forgetting import Found as Character
from ops.act.forget.report import Report
from ops.cli.display import SHOWN, STYLES, Part, text
from ops.formatting import many, usd

HEADINGS = {
    Outcome.TO_SEND: "to send",
    Outcome.HAS_OUTPUTS: "not sent",
    Outcome.TOO_OLD: "not sent",
    Outcome.INCOMPLETE: "not sent",
    Outcome.REFUSED: "not sent",
}


def with_list(head: Mapping[str, Any], name: str, items: Iterator[str]) -> Iterator[str]:
    """Write a JSON object with one long list of JSON texts at its end, piece by piece. Pure."""
    yield json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}") + f',\n  "{name}": ['
    first = next(items, None)
    if first is not None:
        yield "\n    " + first
        yield from (f",\n    {item}" for item in items)
    yield "\n  ]\n}\n"


def backfill_head(prefix: str, finder: Finder, spool: Spool, sent: int) -> dict[str, Any]:
    """What `backfill --json` says before the list of uploads."""
    seen, summary = finder.seen, spool.summary
    return {
        "prefix": prefix,
        "keys": seen.keys,
        "outside_contract": seen.strangers,
        "with_jobs": seen.known,
        "counts": {str(outcome): summary.counts[outcome] for outcome in Outcome},
        "usd": summary.usd,
        "sent": sent,
    }


def backfill(finder: Finder, spool: Spool) -> list[Part]:
    """What was found: of each outcome how many, and the first of them."""
    seen, summary = finder.seen, spool.summary
    strangers = f", {seen.strangers:,} of them outside the contract" if seen.strangers else ""
    parts: list[Part] = [
        text(f"{many(seen.keys, 'file')}{strangers}; {many(seen.known, 'pose')} with a job.", "dim"),
    ]
    firsts: dict[Outcome, list[Found]] = {outcome: [] for outcome in Outcome}
    for found in spool:
        if len(firsts[found.outcome]) < SHOWN:
            firsts[found.outcome].append(found)
        elif all(len(firsts[outcome]) == min(SHOWN, summary.counts[outcome]) for outcome in Outcome):
            break
    for outcome, some in firsts.items():
        if some:
            parts += [Text(), *_outcome(outcome, some, summary.counts[outcome])]
    return parts


def backfilled(spool: Spool, sent: int, follow: str) -> list[Part]:
    """What was sent; `follow` is the command that shows what becomes of it."""
    if sent:
        return [Text(), text(f"{many(sent, 'upload')} sent. Follow: {follow}")]
    if spool.summary.to_send:
        count, cost = many(spool.summary.to_send, "upload"), usd(spool.summary.usd)
        return [Text(), text(f"{count} would be sent, their jobs cost at most {cost}. Nothing was sent.")]
    return [Text(), text("Nothing is to be sent.", "green")]


def _outcome(outcome: Outcome, some: list[Found], count: int) -> Iterator[Part]:
    """How many uploads have an outcome, why they are sent or not, and the first of them."""
    style = "cyan" if outcome is Outcome.TO_SEND else "yellow"
    yield Text.assemble((f"{many(count, 'upload')} {HEADINGS[outcome]}: ", style), f"each {WHY[outcome]}")
    for found in some:
        about = found.detail or (usd(found.usd) if found.usd else "")
        yield Text.assemble("  ", text(found.key), *([(f"  {text(about).plain}", "dim")] if about else []))
    if count > len(some):
        yield text(f"  and {count - len(some):,} more: --report FILE lists all", "dim")


# ---- forget ----------------------------------------------------------------------------------------------------------

GONE = {
    "uploads": ("version of uploads", "versions of uploads"),
    "delete_markers": ("delete marker", "delete markers"),
    "unfinished_uploads": ("upload that never ended", "uploads that never ended"),
    "prepared": ("prepared image", "prepared images"),
    "outputs": ("output", "outputs"),
    "records": ("record of a job", "records of jobs"),
    "waiting": ("record of incomplete uploads", "records of incomplete uploads"),
    "remembered": ("note on what was read of an upload", "notes on what was read of an upload"),
    "requests": ("note on whose a request is", "notes on whose a request is"),
    "messages": ("message", "messages"),
    "client_rank": ("place in line of its client", "places in line of its client"),
}


def character(found: Character) -> list[Part]:
    """What there is of a character, before it is removed."""
    if found.nothing:
        return [text(f"There are no uploads, outputs and records of {found.character}.", "dim")]
    counts = (
        (len(found.uploads), "version and delete marker of uploads", "versions and delete markers of uploads"),
        (len(found.jobs.ids), "job", "jobs"),
        (len(found.jobs.waiting), "incomplete upload", "incomplete uploads"),
        (len(found.outputs), "output", "outputs"),
    )
    lines: list[Part] = [text(f"{found.character} has:")]
    lines += [text(f"  {count:>7,}  {one if count == 1 else more}") for count, one, more in counts if count]
    lines += [
        text(f"  {job_id} is under way: {record.status}", STYLES[record.status])
        for job_id, record in list(found.jobs.under_way.items())[:SHOWN]
    ]
    return lines


def forgotten(found: Report) -> list[Part]:
    """What is gone, and what stays."""
    gone = {name: count for name, count in vars(found.gone).items() if count}
    lines: list[Part] = [text(f"Gone of {found.character}:" if gone else f"Nothing was left of {found.character}.")]
    lines += [text(f"  {count:>7,}  {GONE[name][count > 1]}") for name, count in gone.items()]
    lines += [Text(), text("Not gone:")]
    for stay in found.stays:
        until = f", until {stay.until[:10]}" if stay.until else ""
        count = f" ({len(stay.items):,})" if stay.items else ""
        lines.append(Text.assemble(("  ! ", "yellow"), text(f"{stay.what}{count}{until}")))
    return lines


# ---- dead letters ----------------------------------------------------------------------------------------------------

ID_SHOWN = 8
"""Letters of an id that tell it from others."""


def dead_letters(letters: Sequence[DeadLetter], command: str) -> list[Part]:
    """Each dead letter, with why it is one; `command` is how this was asked for."""
    if not letters:
        return [Text("There are no dead letters.", "green")]
    lines: list[Part] = []
    for letter in letters:
        lines.append(Text.assemble((letter.message_id[:ID_SHOWN], "bold"), "  ", text(letter.what)))
        lines.append(text(f"          {letter.reason or 'received too often'}", "dim" if letter.helps else "yellow"))
    return [*lines, Text(), text(f"{command} --redrive ID, or --discard ID", "dim")]
