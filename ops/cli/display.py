"""How it all looks on a terminal. Names and texts of others are shown as they are, never as markup or control codes."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from ops.act.actions import DeadLetters, Retry
from ops.act.cancelling import Outcome as Cancelled
from ops.act.uploading import Standing
from ops.formatting import many, printable, span, usd
from ops.inspect.costs import Costs
from ops.inspect.explain_record import missing
from ops.inspect.explanation import Explanation
from ops.inspect.health import Health
from ops.inspect.plan import Outcome, Plan, PlannedJob
from ops.inspect.reconcile import Reconciled, Side
from ops.inspect.records import Page
from ops.inspect.timeline import Timeline, TimelineEvent, waited
from posedrop.aws.record import Record, Status
from posedrop.contract.times import epoch
from posedrop.contract.upload_layout import UploadLayout

STYLES = {
    "WAITING": "yellow",
    "QUEUED": "cyan",
    "SUBMITTING": "cyan",
    "SUBMITTED": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    Outcome.NEW: "cyan",
    Outcome.KNOWN: "green",
    Outcome.WAITING: "yellow",
    Outcome.REFUSED: "red",
}
WORDS = {"SUBMITTED": "in the model"}
Part = Text | Table
"""A text, which is never broken, so that it can be copied; or a table."""

SHOWN = 20
"""Jobs that are named at most where their number is not bounded."""
PIPE_WIDTH = 240
"""Columns where the output is no terminal: nothing is cut off there."""


def console(*, stderr: bool = False) -> Console:
    """A console for results, or for what is said besides."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return (
        made
        if made.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)
    )


def text(content: str, style: str = "") -> Text:
    """A text of others, made harmless."""
    return Text(printable(content), style)


def word(status: str) -> str:
    """A status as people say it."""
    return WORDS.get(status, status.lower())


def show(where: Console, parts: Sequence[Part]) -> None:
    """Print parts below each other."""
    for part in parts:
        where.print(part, soft_wrap=isinstance(part, Text))


def _rows(rows: Sequence[tuple[str, Text | str]]) -> list[Part]:
    """Names and what there is to say of them."""
    width = max(len(name) for name, _ in rows)
    return [Text.assemble((f"  {name:{width}}   ", "dim"), content) for name, content in rows]


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("Job", "Status", "Changed", "Cost"))
    return table


# ---- status ----------------------------------------------------------------------------------------------------------


def health(found: Health) -> list[Part]:
    """A stack at a glance."""
    jobs = found.jobs
    counts = Text()
    for status in Status:
        count = jobs.by_status.get(status, 0)
        more = "+" if jobs.cut and status in (Status.SUCCEEDED, Status.FAILED) else ""
        counts.append(" · " if counts else "")
        counts.append(f"{count:,}{more} {word(status)}", STYLES[status] if count else "dim")
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
    rows: list[tuple[str, Text | str]] = [
        ("Jobs", counts),
        ("Line", oldest or Text("nobody waits", "dim")),
        ("To be read", f"{many(found.uploads, 'message')} on uploads"),
        ("Dead letters", Text(dead, "red" if found.dead_letters or found.undelivered_events else "")),
        (
            "Limit",
            f"{rate.requests_per_minute:g} {rate.counting} a minute; {rate.taken} taken of the coming minute, {free}",
        ),
        ("Submitting", _pause(found)),
        ("Alarms", _alarms(found)),
        ("Model", f"takes about {span(found.typical_seconds)}"),
        ("Spent (UTC)", _spent(found)),
        ("Credits", _credits(found)),
        ("Version", text(found.version or "unknown")),
    ]
    if jobs.failures:
        failures = ", ".join(f"{count:,} {name}" for name, count in jobs.failures.items())
        rows.insert(1, ("Failed", text(failures)))
    if jobs.refused:
        alone = "tried again later, behind the others, which go on"
        rows.insert(1, ("Refused", Text(f"{many(jobs.refused, 'queued job')}: {alone}", "yellow")))
    if jobs.not_notified:
        rows.insert(1, ("Being notified", f"{many(jobs.not_notified, 'job')} ended, the notification is on its way"))
    lines: list[Part] = [*_rows(rows), Text()]
    for problem in found.problems:
        lines.append(Text.assemble(("  ! ", "bold red"), printable(problem.what)))
        lines.append(Text.assemble(("    → ", "dim"), printable(problem.next_step)))
    return lines if found.problems else [*lines, Text("  All is well.", "green")]


def _spent(found: Health) -> str:
    spend = found.spend
    day = f" of {usd(spend.daily_budget)}" if spend.daily_budget else ""
    month = f" of {usd(spend.monthly_budget)}" if spend.monthly_budget else ""
    return f"about {usd(spend.today)}{day} today, {usd(spend.month)}{month} in this month; {usd(spend.price)} a job"


def _credits(found: Health) -> Text:
    left = found.credits
    if left is None:
        return Text("not known", "dim")
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


# ---- jobs ------------------------------------------------------------------------------------------------------------


def jobs(page: Page, now: float) -> list[Part]:
    """A page of jobs."""
    if not page.records:
        return [Text("No jobs.", "dim")]
    table = _table("Job", "Status", "Changed", "")
    for record in page.records:
        changed = f"{span(now - epoch(record.updated_at))} ago"
        table.add_row(text(record.job_id), Text(word(record.status), STYLES[record.status]), changed, _detail(record))
    return [table]


def _detail(record: Record) -> Text:
    if record.error:
        return text(f"{record.error['type']}: {record.error['message']}", "dim")
    if record.status is Status.WAITING:
        hints = f" ({record.reason})" if record.missing and record.reason else record.reason or ""
        return text("missing: " + " and ".join(record.missing) + hints if record.missing else hints, "dim")
    if record.status is Status.SUCCEEDED:
        return text(f"{many(len(record.outputs), 'image')} after {span(record.metrics.get('total_seconds', 0))}", "dim")
    return text(record.reason or "", "dim")


def costs(found: Costs) -> list[Part]:
    """What was paid, and what is estimated."""
    if not found.groups:
        return [Text(f"Nothing was requested since {found.since}.", "dim")]
    table = _table(found.by.capitalize(), "Jobs", "Requests", "Known", "Estimated")
    for each in [*found.groups, found.total]:
        style = "bold" if each is found.total else ""
        estimated = f"{usd(each.estimated_usd)} for {each.estimated:,}" if each.estimated else "-"
        numbers = (f"{each.jobs:,}", f"{each.requests:,}", usd(each.known_usd), estimated)
        table.add_row(text(each.name, style), *numbers, style=style)
    return [table]


def reconciled(found: Reconciled, adopted: Sequence[str]) -> list[Part]:
    """Both sides, and how they differ."""
    parts: list[Part] = [text(f"From {found.since} to {found.until}", "dim")]
    parts += _rows([("Ledger", _side(found.ledger)), ("History", _side(found.history))])
    if found.differences:
        table = _table("Difference", "Job", "Cost", "")
        for each in found.differences:
            cost = "-" if each.usd is None else usd(each.usd)
            what = text(f"{each.what} ({', '.join(each.request_ids)})", "dim")
            table.add_row(text(each.kind, "yellow"), text(each.job_id or "-"), cost, what)
        parts += [Text(), table]
    parts += [text(f"Adopted: {job_id}", "green") for job_id in adopted]
    return parts if found.differences else [*parts, Text("The two sides agree.", "green")]


def _side(side: Side) -> str:
    unknown = f", the cost of {side.unknown:,} is not known" if side.unknown else ""
    return f"{many(side.requests, 'request')}, {usd(side.usd)}{unknown}"


# ---- explain, show ---------------------------------------------------------------------------------------------------


def explanation(found: Explanation) -> list[Part]:
    """The sentence and the next step."""
    parts = [text(f"  {part.sentence}", "dim") for part in found.parts]
    return [text(found.sentence), *parts, Text.assemble(("Next  ", "dim"), printable(found.next_step))]


def life(found: Timeline, *, with_notification: bool) -> list[Part]:
    """One job's life."""
    record = found.record
    rows: list[tuple[str, Text | str]] = [
        ("Job", text(record.job_id)),
        ("Of", text(f"{record.character} / {record.pose}, attempt {record.attempt}")),
        ("Status", Text(word(record.status), STYLES[record.status])),
    ]
    if record.parameters:
        others = {name: value for name, value in record.parameters.items() if name != "prompt"}
        rows.append(("Prompt", text(str(record.parameters.get("prompt", "")))))
        rows.append(("Parameters", text(", ".join(f"{name} {json.dumps(value)}" for name, value in others.items()))))
    if record.context is not None:
        rows.append(("Context", text(json.dumps(record.context, ensure_ascii=False))))
    if record.request_id:
        rows.append(("Request", text(record.request_id)))
    if record.ended:
        rows.append(("Cost", "not known" if found.cost_usd is None else usd(found.cost_usd)))
    for name, uri in found.inputs.items():
        rows.append((name.capitalize(), text(uri)))
        if told := record.inputs[name].get("prepared"):
            rows.append(("Sent", text(f"{told['key']} ({', '.join(told['what'])})")))
    rows += [("Image", text(uri)) for uri in found.outputs]
    if found.execution:
        status = found.execution.status or "not started, or forgotten"
        rows.append(("Execution", text(f"{found.execution.url or found.execution.arn} ({status})")))
    unread = [text(f"  Not known: {what}", "dim") for what in found.unread]
    parts: list[Part] = [
        *_rows(rows),
        Text(),
        *_moments(found.moments),
        *unread,
        Text(),
        *explanation(found.explanation),
    ]
    if with_notification:
        told = json.dumps(found.notification, indent=2, ensure_ascii=False) if found.notification else "Not told yet."
        parts += [Text(), text(told)]
    return parts


def _moments(moments: Sequence[TimelineEvent]) -> list[Part]:
    """A line for each moment, with the time that passed since the one before it."""
    lines: list[Part] = []
    width = max(len(moment.what) for moment in moments)
    for index, moment in enumerate(moments):
        gap = f"+{span(waited(moments, index))}" if index else ""
        before = (f"  {moment.at}  ", (f"{gap:>8}  ", "dim"), f"{moment.what:{width}}  ")
        lines.append(Text.assemble(*before, (printable(moment.detail), "dim")))
    return lines


# ---- plans -----------------------------------------------------------------------------------------------------------


def plan(found: Plan, layout: UploadLayout) -> list[Part]:
    """What would be sent, and what it would cost."""
    if not found.jobs:
        return [Text("No poses: nothing would be sent.", "dim")]
    table = _table("Pose", "Outcome", "Cost", "")
    for job in found.jobs:
        cost = usd(job.usd) if job.usd else "-"
        table.add_row(text(job.pose), Text(job.outcome, STYLES[job.outcome]), cost, text(_planned(job, layout), "dim"))
    parts: list[Part] = [table]
    for job in found.jobs:
        if job.outcome is Outcome.NEW and job.request:
            request = json.dumps(job.request, indent=2, ensure_ascii=False)
            parts += [Text(), text(f"{job.pose}: POST {found.url}", "dim"), text(request)]
    new = sum(job.outcome is Outcome.NEW for job in found.jobs)
    return [*parts, Text(), Text(f"{many(new, 'new job')}, about {usd(found.usd)}. Nothing was sent.")]


def _planned(job: PlannedJob, layout: UploadLayout) -> str:
    if job.outcome is Outcome.REFUSED:
        return job.error or ""
    if job.outcome is Outcome.WAITING:
        return missing(layout.folder(job.character), job.pose, job.missing).sentence
    if job.outcome is Outcome.KNOWN:
        return f"{job.job_id}: {word(job.status or '')}" + (f": {job.error}" if job.error else "")
    done = "; ".join(f"the {name} is {_listed(what)} first" for name, what in job.changes.items())
    shares = "" if job.asked else " (was not asked for, but shares the face)"
    return (job.job_id or "") + shares + (f" ({done})" if done else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def retries(found: Sequence[Retry]) -> list[Part]:
    """The attempts that would begin."""
    table = _table("Job", "Attempt", "")
    for wanted in found:
        why = f"{wanted.error_type}: {wanted.error_message}"
        if wanted.makes != wanted.job_id:
            why = f"its files have changed: it becomes {wanted.makes}; {why}"
        table.add_row(text(wanted.job_id), str(wanted.attempt), text(why, "dim"))
    return [table]


def cancelled(found: Cancelled) -> list[Part]:
    """What became of the jobs that were to be cancelled."""
    lines: list[Part] = [text(f"{many(found.cancelled, 'job')} cancelled.")]
    if found.left_alone:
        lines.append(text(f"{many(len(found.left_alone), 'job')} left alone, since it went on before:"))
        shown = list(found.left_alone.items())[:SHOWN]
        lines += [text(f"  {job_id}: {word(became)}", "dim") for job_id, became in shown]
        if len(found.left_alone) > SHOWN:
            lines.append(text(f"  and {len(found.left_alone) - SHOWN:,} more", "dim"))
    return lines


def dead(found: DeadLetters) -> list[Part]:
    """What is in the dead-letter queue."""
    table = _table("Message", "Reason")
    for message in found.some:
        table.add_row(text(message["body"][:100]), text(message["reason"] or "received too often", "dim"))
    return [table]


# ---- following -------------------------------------------------------------------------------------------------------


class _State(ProgressColumn):
    """How a job stands."""

    def render(self, task: Task) -> Text:
        """The state in its colour."""
        state = str(task.fields["state"])
        return text(f" {state} ", STYLES.get(state.upper(), ""))


class _Elapsed(ProgressColumn):
    """How long a job is followed, or was until its end."""

    def render(self, task: Task) -> Text:
        """The seconds."""
        return Text(span((task.finished_time if task.finished else task.elapsed) or 0.0), "dim")


def follow(shown: Console, names: Mapping[str, str], looks: Iterator[list[Standing]]) -> list[Standing]:
    """Show how jobs fare until their ends: bars on a terminal, elsewhere a line for each change. Return how they stand.

    `names` are what to call the jobs.
    """
    if not shown.is_terminal:
        return _follow_in_lines(shown, names, looks)
    last: list[Standing] = []
    columns = (
        SpinnerColumn(style="cyan", finished_text=" "),
        TextColumn("{task.description} ", markup=False),
        BarColumn(bar_width=28, complete_style="cyan", finished_style="dim"),
        _State(),
        _Elapsed(),
    )
    with Progress(*columns, console=shown) as progress:
        tasks = {job_id: progress.add_task(printable(name), total=1.0, state="") for job_id, name in names.items()}
        for last in looks:
            for standing in last:
                progress.update(tasks[standing.job_id], completed=standing.share, state=standing.state)
    return last


def _follow_in_lines(shown: Console, names: Mapping[str, str], looks: Iterator[list[Standing]]) -> list[Standing]:
    started = time.monotonic()
    states: dict[str, str] = {}
    last: list[Standing] = []
    for last in looks:
        for standing in last:
            if states.get(standing.job_id) != standing.state:
                states[standing.job_id] = standing.state
                line = f"{time.monotonic() - started:6.1f} s  {names[standing.job_id]}: {standing.state}"
                shown.print(text(line), soft_wrap=True)
    return last


def results(
    standings: Sequence[Standing], explanations: Mapping[str, Explanation], paths: Mapping[str, list[str]]
) -> list[Part]:
    """What came of the jobs that were followed. `paths` are the images of each."""
    lines: list[Part] = []
    for standing in standings:
        if standing.record and standing.record.status is Status.SUCCEEDED:
            lines += [text(path) for path in paths[standing.job_id]]
        elif standing.job_id in explanations:
            lines += explanation(explanations[standing.job_id])
        else:
            lines.append(text(f"{standing.job_id} is not in the ledger yet."))
    return lines
