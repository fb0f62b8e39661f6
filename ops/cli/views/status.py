"""Show the state of a stack, and costs."""

from collections.abc import Sequence

from rich.text import Text

from ops.cli.screen import STYLES, TOGETHER, Grid, Part, Wrapped, prose, rows, step, text, word
from ops.formatting import many, printable, span, usd
from ops.inspect.costs import Costs
from ops.inspect.health import Health
from ops.inspect.reconcile import Reconciled, Side
from posedrop.aws.record import Status
from posedrop.contract.times import epoch


def health(found: Health) -> list[Part]:
    """Return the state of a whole stack."""
    jobs = found.jobs
    counts = Text()
    for status in Status:
        count = jobs.by_status.get(status, 0)
        more = "+" if jobs.cut and status in (Status.SUCCEEDED, Status.FAILED) else ""
        counts.append(" · " if counts else "")
        counts.append(f"{count:,}{more} {word(status)}".replace(" ", TOGETHER), STYLES[status] if count else "dim")
    rate = found.rate
    free = f"the next is free in {span(rate.next_free_seconds)}" if rate.next_free_seconds else "the next is free now"
    oldest = (
        ""
        if found.oldest_queued_seconds is None
        else f"the next job has waited for {span(found.oldest_queued_seconds)}"
    )
    dead = many(found.dead_letters, "message")
    if found.undelivered_events is not None:
        dead += f", {many(found.undelivered_events, 'undelivered event')}"
    facts: list[tuple[str, Text | str]] = [
        ("Jobs", counts),
        ("Line", oldest or Text("empty", "dim")),
        ("Uploads to read", many(found.uploads, "message")),
        ("Dead letters", Text(dead, "red" if found.dead_letters or found.undelivered_events else "")),
        (
            "Limit",
            f"{rate.requests_per_minute:g} {rate.counting} a minute; {rate.taken} reserved of the next minute, {free}",
        ),
        ("Submitting", _pause(found)),
        ("Alarms", _alarms(found)),
        ("Model", f"about {span(found.typical_seconds)} per job"),
        ("Spent (UTC)", _spent(found)),
        ("Credits", _credits(found)),
        ("Version", text(found.version or "unknown")),
    ]
    if jobs.failures:
        failures = ", ".join(f"{count:,} {name}" for name, count in jobs.failures.items())
        facts.insert(1, ("Failed", text(failures)))
    if jobs.refused:
        alone = "deferred, and retried behind the others, which continue"
        facts.insert(1, ("Refused", Text(f"{many(jobs.refused, 'queued job')}: {alone}", "yellow")))
    if jobs.not_notified:
        facts.insert(1, ("Being notified", f"{many(jobs.not_notified, 'job')} ended, not notified yet"))
    lines: list[Part] = [*rows(facts), Text()]
    for problem in found.problems:
        lines.append(Wrapped(Text.assemble(("  ! ", "bold red"), printable(problem.what)), 4))
        lines.append(step("    → ", problem.next_step))
    return lines if found.problems else [*lines, Text("  All is well.", "green")]


def _spent(found: Health) -> str:
    spend = found.spend
    day = f" of {usd(spend.daily_budget)}" if spend.daily_budget else ""
    month = f" of {usd(spend.monthly_budget)}" if spend.monthly_budget else ""
    return f"about {usd(spend.today)}{day} today, {usd(spend.month)}{month} this month; {usd(spend.price)} per job"


def _credits(found: Health) -> Text:
    left = found.credits
    if left is None:
        return Text("unknown", "dim")
    known = span(epoch(found.at) - epoch(left.known_at))
    style = "" if left.jobs else "red"
    return Text(f"{usd(left.usd)} left {known} ago, enough for about {many(left.jobs, 'job')}", style)


def _alarms(found: Health) -> Text:
    if found.alarms is None:
        return Text("cannot be read", "dim")
    return text(", ".join(found.alarms), "red") if found.alarms else Text("none is on", "green")


def _pause(found: Health) -> Text:
    if found.pause is None:
        return Text("open", "green")
    left = epoch(found.pause.until) - epoch(found.at)
    how = f"paused for another {span(left)}" if left > 0 else "one request at a time, until one is accepted"
    whom = "the account, so all jobs" if found.pause.cause else "all jobs"
    return text(f"{how} ({whom}): {found.pause.reason}", "red" if found.pause.cause else "yellow")


NUMBERS = ("Jobs", "Requests", "Known", "Estimated")


def costs(found: Costs) -> list[Part]:
    """Return known and estimated costs."""
    if not found.groups:
        return [Text(f"There were no requests since {found.since}.", "dim")]
    table = Grid(found.by.capitalize(), *NUMBERS, right=NUMBERS)
    for each in [*found.groups, found.total]:
        style = "bold" if each is found.total else ""
        estimated = f"{usd(each.estimated_usd)} for {each.estimated:,}" if each.estimated else "-"
        numbers = (f"{each.jobs:,}", f"{each.requests:,}", usd(each.known_usd), estimated)
        table.add(text(each.name, style), *(Text(number, style) for number in numbers))
    return [table]


def reconciled(found: Reconciled, adopted: Sequence[str]) -> list[Part]:
    """Return both sides, and the differences."""
    parts: list[Part] = [text(f"From {found.since} to {found.until}", "dim")]
    parts += rows([("Ledger", _side(found.ledger)), ("History", _side(found.history))])
    if found.differences:
        for each in found.differences:
            cost = "" if each.usd is None else f", {usd(each.usd)}"
            job = printable(each.job_id or "")
            parts += [
                Text(),
                Text.assemble(
                    (printable(each.kind), "yellow"),
                    f"{cost}  ",
                    job,
                ),
            ]
            parts.append(prose(f"{each.what} ({', '.join(each.request_ids)})", "dim", indent=2))
        parts.append(Text())
    parts += [text(f"Adopted: {job_id}", "green") for job_id in adopted]
    return parts if found.differences else [*parts, Text("The two sides agree.", "green")]


def _side(side: Side) -> str:
    unknown = f", the cost of {side.unknown:,} is unknown" if side.unknown else ""
    return f"{many(side.requests, 'request')}, {usd(side.usd)}{unknown}"
