"""Show what a command would change, and what it changed."""

from collections.abc import Sequence

from rich.text import Text

from ops.act.actions import DeadLetters, Retry
from ops.act.cancelling import Outcome as Cancelled
from ops.act.dead_letters import DeadLetter
from ops.act.forget.forgetting import Found as Character
from ops.act.forget.report import Report
from ops.cli.screen import SHOWN, STYLES, Part, Wrapped, prose, text, word
from ops.formatting import many


def retries(found: Sequence[Retry]) -> list[Part]:
    """Return the attempts that would begin."""
    lines: list[Part] = []
    for wanted in found:
        why = f"{wanted.error_type}: {wanted.error_message}"
        if wanted.makes != wanted.job_id:
            why = f"its files have changed: it becomes {wanted.makes}; {why}"
        lines += [text(f"{wanted.job_id}  attempt {wanted.attempt}"), prose(why, "dim", indent=2)]
    return lines


def cancelled(found: Cancelled) -> list[Part]:
    """Return the outcome of cancelling."""
    lines: list[Part] = [text(f"{many(found.cancelled, 'job')} cancelled.")]
    if found.left_alone:
        lines.append(text(f"{many(len(found.left_alone), 'job')} not cancelled, because of the status:"))
        shown = list(found.left_alone.items())[:SHOWN]
        lines += [text(f"  {job_id}: {word(became)}", "dim") for job_id, became in shown]
        if len(found.left_alone) > SHOWN:
            lines.append(text(f"  and {len(found.left_alone) - SHOWN:,} more", "dim"))
    return lines


def dead(found: DeadLetters) -> list[Part]:
    """Return what is in the dead-letter queue."""
    lines: list[Part] = []
    for message in found.some:
        lines.append(text(message["body"][:100]))
        lines.append(prose(message["reason"] or "received too often", "dim", indent=2))
    return lines


# ---- forget ----------------------------------------------------------------------------------------------------------

GONE = {
    "uploads": ("version of uploads", "versions of uploads"),
    "delete_markers": ("delete marker", "delete markers"),
    "unfinished_uploads": ("unfinished upload", "unfinished uploads"),
    "prepared": ("prepared image", "prepared images"),
    "outputs": ("output", "outputs"),
    "records": ("record of a job", "records of jobs"),
    "waiting": ("record of incomplete uploads", "records of incomplete uploads"),
    "remembered": ("cached read of an upload", "cached reads of uploads"),
    "requests": ("owner of a request id", "owners of request ids"),
    "messages": ("message", "messages"),
    "client_rank": ("place in line of its client", "places in line of its client"),
}


def character(found: Character) -> list[Part]:
    """Return the findings on a character, before they are deleted."""
    if found.nothing:
        return [text(f"There are no uploads, outputs or records of {found.character}.", "dim")]
    counts = (
        (len(found.uploads), "version and delete marker of uploads", "versions and delete markers of uploads"),
        (len(found.jobs.ids), "job", "jobs"),
        (len(found.jobs.waiting), "incomplete upload", "incomplete uploads"),
        (len(found.outputs), "output", "outputs"),
    )
    lines: list[Part] = [text(f"{found.character} has:")]
    lines += [text(f"  {count:>7,}  {one if count == 1 else more}") for count, one, more in counts if count]
    lines += [
        text(f"  {job_id} has not ended: {record.status}", STYLES[record.status])
        for job_id, record in list(found.jobs.under_way.items())[:SHOWN]
    ]
    return lines


def forgotten(found: Report) -> list[Part]:
    """Return what was deleted, and what stays."""
    gone = {name: count for name, count in vars(found.gone).items() if count}
    lines: list[Part] = [text(f"Deleted of {found.character}:" if gone else f"There was nothing of {found.character}.")]
    lines += [text(f"  {count:>7,}  {GONE[name][count > 1]}") for name, count in gone.items()]
    lines += [Text(), text("Not deleted:")]
    for stay in found.stays:
        until = f", until {stay.until[:10]}" if stay.until else ""
        count = f" ({len(stay.items):,})" if stay.items else ""
        lines.append(Wrapped(Text.assemble(("  ! ", "yellow"), text(f"{stay.what}{count}{until}")), 4))
    return lines


# ---- dead letters ----------------------------------------------------------------------------------------------------

ID_SHOWN = 8
"""Characters of an id that distinguish it from others."""


def dead_letters(letters: Sequence[DeadLetter], command: str) -> list[Part]:
    """Return each dead letter with its reason; `command` is the command line that listed them."""
    if not letters:
        return [Text("There are no dead letters.", "green")]
    lines: list[Part] = []
    for letter in letters:
        lines.append(Wrapped(Text.assemble((letter.message_id[:ID_SHOWN], "bold"), "  ", text(letter.what)), 10))
        lines.append(prose(letter.reason or "received too often", "dim" if letter.helps else "yellow", indent=10))
    return [*lines, Text(), text(f"{command} --redrive ID, or --discard ID", "dim")]
