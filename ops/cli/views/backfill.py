"""Show the report of `backfill`, on a terminal and as JSON."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from ops.act.backfill.finding import WHY, Finder, Found, Outcome
from ops.act.backfill.sending import Spool
from ops.cli.screen import SHOWN, Part, Wrapped, prose, step, text
from ops.formatting import many, usd

HEADINGS = {
    Outcome.TO_SEND: "to send",
    Outcome.HAS_OUTPUTS: "not sent",
    Outcome.TOO_OLD: "not sent",
    Outcome.INCOMPLETE: "not sent",
    Outcome.REFUSED: "not sent",
}


def with_list(head: Mapping[str, Any], name: str, items: Iterator[str]) -> Iterator[str]:
    """Yield a JSON object in pieces, with one long list of JSON texts at its end. Pure."""
    yield json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}") + f',\n  "{name}": ['
    first = next(items, None)
    if first is not None:
        yield "\n    " + first
        yield from (f",\n    {item}" for item in items)
    yield "\n  ]\n}\n"


def backfill_head(prefix: str, finder: Finder, spool: Spool, sent: int) -> dict[str, Any]:
    """Return the part of `backfill --json` before the list of uploads."""
    seen, summary = finder.seen, spool.summary
    return {
        "prefix": prefix,
        "keys": seen.keys,
        "outside_contract": seen.outside_contract,
        "with_jobs": seen.known,
        "counts": {str(outcome): summary.counts[outcome] for outcome in Outcome},
        "usd": summary.usd,
        "sent": sent,
    }


def backfill(finder: Finder, spool: Spool) -> list[Part]:
    """Return the findings: the number of uploads with each outcome, and the first of them."""
    seen, summary = finder.seen, spool.summary
    outside_contract = f", {seen.outside_contract:,} of them outside the contract" if seen.outside_contract else ""
    parts: list[Part] = [
        text(f"{many(seen.keys, 'file')}{outside_contract}; {many(seen.known, 'pose')} with a job.", "dim"),
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
    """Return what was sent; `follow` is the command that shows the jobs."""
    if sent:
        return [Text(), step("", f"{many(sent, 'upload')} sent. Follow: {follow}")]
    if spool.summary.to_send:
        count, cost = many(spool.summary.to_send, "upload"), usd(spool.summary.usd)
        return [Text(), prose(f"{count} would be sent, their jobs cost at most {cost}. Nothing was sent.")]
    return [Text(), text("There is nothing to send.", "green")]


def _outcome(outcome: Outcome, some: list[Found], count: int) -> Iterator[Part]:
    """Yield how many uploads have an outcome, why they are sent or not, and the first of them."""
    style = "cyan" if outcome is Outcome.TO_SEND else "yellow"
    yield Wrapped(Text.assemble((f"{many(count, 'upload')} {HEADINGS[outcome]}: ", style), f"each {WHY[outcome]}"))
    for found in some:
        about = found.detail or (usd(found.usd) if found.usd else "")
        yield Text.assemble("  ", text(found.key), *([(f"  {text(about).plain}", "dim")] if about else []))
    if count > len(some):
        yield text(f"  and {count - len(some):,} more: --report FILE lists all", "dim")
