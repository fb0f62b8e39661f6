"""The commands that only read. `reconcile --adopt` also lets the sweep fetch paid images."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import click

from ops.act import actions
from ops.cli.options import Duration, since_option
from ops.cli.screen import Part
from ops.cli.shell import Shell, common, pass_shell, with_texts
from ops.cli.views import job
from ops.cli.views import status as stack_status
from ops.cli.views.jobs import jobs as job_list
from ops.cli.watching import rows_that_fit, watch
from ops.errors import NeedsAttention
from ops.formatting import many
from ops.inspect.costs import GROUPS, as_csv, costs
from ops.inspect.explain import Explainer
from ops.inspect.health import health
from ops.inspect.reconcile import adopt, reconcile
from ops.inspect.records import ALWAYS, NEVER, WINDOW, Records, Wanted
from ops.inspect.suggestions import Words
from ops.inspect.timeline import timeline
from posedrop.aws.record import AnyRecord, Record, Status, WaitingRecord


@click.command()
@click.option("--check", is_flag=True, help="End with exit code 5 if something needs attention.")
@common
@pass_shell
def status(shell: Shell, check: bool) -> None:
    """Show whether the stack is healthy.

    Shows jobs, the line, dead letters, the use of the request limit, pauses, the spend, and problems of the upload
    bucket.
    """
    found = health(shell.stack)
    shell.show(found, lambda: stack_status.health(found))
    if found.jobs.cut:
        shell.say(f"Ended jobs are counted among the newest {WINDOW:,} records: there may be more.", "dim")
    if check and found.problems:
        raise NeedsAttention(f"{many(len(found.problems), 'problem')}: {found.problems[0].what}")


@click.command()
@click.option("--character", default="", help="Only jobs of this character.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Words(list(Status), case_sensitive=False),
    help="Only jobs with this status; may be repeated.",
)
@click.option(
    "--newer-than", type=Duration(), metavar="AGE", help="Only jobs that changed within this time (90s, 30m, 12h, 7d)."
)
@click.option("--older-than", type=Duration(), metavar="AGE", help="Only jobs that have not changed for this time.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="The jobs on a page.")
@click.option("--page", "cursor", metavar="CURSOR", help="Show the page with the cursor that the last page printed.")
@click.option("--watch", "watched", is_flag=True, help="Update the list every two seconds, until Ctrl-C.")
@common
@pass_shell
def jobs(
    shell: Shell,
    character: str,
    statuses: Sequence[str],
    newer_than: float | None,
    older_than: float | None,
    limit: int,
    cursor: str | None,
    watched: bool,
) -> None:
    """List jobs, the newest first.

    On a terminal a job has two lines, in a pipe one. A page reads at most 2,000 records. If few of them match, the
    command prints how far back it has read, and a cursor for --page to continue.
    """

    def wanted(now: float) -> Wanted:
        since = ALWAYS if newer_than is None else now - newer_than
        until = NEVER if older_than is None else now - older_than
        return Wanted(character, [Status(status.upper()) for status in statuses], since, until)

    if watched:
        if shell.json or not shell.out.is_terminal or cursor:
            raise click.UsageError("--watch needs a terminal, and goes with neither --json nor --page.")
        stack, most = shell.stack, min(limit, rows_that_fit(shell.out))

        def read() -> Sequence[Part]:
            now = stack.clock()
            return job_list(Records(stack).page(wanted(now), most), now)

        watch(shell.out, stack, read)
        return
    now = shell.stack.clock()
    try:
        found = Records(shell.stack).page(wanted(now), limit, cursor)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--page") from exc
    shell.show({**vars(found), "records": [_whole(each) for each in found.records]}, lambda: job_list(found, now))
    if found.cursor and not shell.json:
        shell.say(f"There are more: --page {found.cursor}", "dim")
    if found.back_to:
        shell.say(f"So far only jobs created since {found.back_to} were read.", "dim")
    elif not found.records and not shell.json:
        shell.say(f"What became of an upload: {shell.stack.command('explain', 'KEY')}", "dim")


@click.command()
@click.argument("key_or_job")
@common
@pass_shell
def explain(shell: Shell, key_or_job: str) -> None:
    """Say what happened to an upload, and why.

    KEY_OR_JOB is a key of the upload bucket (including the prefix, or as s3://...) or a job id.
    """
    found = Explainer(shell.stack).explain(key_or_job)
    shell.show(found, lambda: job.explanation(found))


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--notification", is_flag=True, help="Print the notification as well.")
@common
@pass_shell
def show(shell: Shell, job_id: str, notification: bool) -> None:
    """Show everything about one job.

    Shows its times, request, parameters, images, cost and execution.
    """
    found = timeline(shell.stack, job_id)
    whole = {**vars(found), "record": _whole(found.record)}
    shell.show(whole, lambda: job.timeline(found, with_notification=notification))


def _whole(record: AnyRecord) -> dict[str, Any]:
    """Return a record for JSON with the attributes of both kinds, so that all records have the same ones."""
    blank = vars(Record("", Status.QUEUED, "", "")) | vars(WaitingRecord("", Status.WAITING, "", ""))
    return with_texts([*(blank | vars(record)).items()])


@click.command("costs")
@click.option("--by", type=Words(list(GROUPS)), default="day", show_default=True, help="The groups.")
@since_option
@click.option("--csv", "as_table", is_flag=True, help="Print a table for a spreadsheet.")
@common
@pass_shell
def show_costs(shell: Shell, by: str, since: Callable[[float], float], as_table: bool) -> None:
    """Sum what jobs cost.

    Costs that the provider reported are shown apart from estimated ones. A client is the first segment of a character's
    name. The command reads the whole table.
    """
    found = costs(shell.stack, by, since(shell.stack.clock()))
    if as_table:
        click.echo(as_csv(found), nl=False)
    else:
        shell.show(found, lambda: stack_status.costs(found))


@click.command("reconcile")
@since_option
@click.option(
    "--adopt",
    "adopts",
    is_flag=True,
    help="Fetch the images of requests with an unknown outcome that were found. Costs nothing.",
)
@common
@pass_shell
def show_reconciled(shell: Shell, since: Callable[[float], float], adopts: bool) -> None:
    """Compare the ledger with the provider's history.

    Finds requests that were billed without a record or twice for one attempt, that are not in the history, or whose
    unknown outcome is known now. Each request counts once, however many images it made. Ends with exit code 5 if the
    two differ. Without --adopt nothing is changed.
    """
    found, adoptable = reconcile(shell.stack, since(shell.stack.clock()))
    adopted = adopt(shell.stack, adoptable) if adopts else []
    if adopted:
        actions.sweep(shell.stack, older_than=0)
    shell.show({**asdict(found), "adopted": adopted}, lambda: stack_status.reconciled(found, adopted))
    if adoptable and not adopts:
        shell.say(f"{many(len(adoptable), 'request')} can be adopted: {shell.stack.command('reconcile', '--adopt')}")
    if found.differences:
        raise NeedsAttention(f"{many(len(found.differences), 'difference')}: {found.differences[0].what}")
