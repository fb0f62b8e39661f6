"""The commands that read: nothing is changed, but that `reconcile --adopt` fetches what is paid."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import click

from ops.act import actions
from ops.cli.options import Duration, since_option
from ops.cli.screen import Part
from ops.cli.shell import Shell, common, pass_shell
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
from ops.inspect.timeline import life
from posedrop.aws.record import Status
from posedrop.contract.times import rfc3339


@click.command()
@click.option("--check", is_flag=True, help="End with exit code 5 if something needs attention.")
@common
@pass_shell
def status(shell: Shell, check: bool) -> None:
    """See whether the stack is well.

    Jobs, the line, dead letters, use of the limit, pauses, what was spent, and the upload bucket's settings.
    """
    found = health(shell.stack)
    shell.show(found, lambda: stack_status.health(found))
    if found.jobs.cut:
        shell.say(f"At least so many jobs have ended: they were counted among {WINDOW:,} records, the newest.", "dim")
    if check and found.problems:
        raise NeedsAttention(f"{many(len(found.problems), 'problem')}: {found.problems[0].what}")


@click.command()
@click.option("--character", default="", help="Only this character's.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Words(list(Status), case_sensitive=False),
    help="Only these; may be given several times.",
)
@click.option("--newer-than", type=Duration(), metavar="AGE", help="Changed within 90s, 30m, 12h, 7d.")
@click.option("--older-than", type=Duration(), metavar="AGE", help="Not changed since.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="So many a page.")
@click.option("--page", "cursor", metavar="CURSOR", help="The next page, as the last one named it.")
@click.option("--watch", "watched", is_flag=True, help="Draw it again every two seconds, until Ctrl-C.")
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

    A page reads 2,000 records at most. If few of them fit it says how far back it has looked, and --page goes on.
    """

    def wanted(now: float) -> Wanted:
        since = ALWAYS if newer_than is None else rfc3339(now - newer_than)
        until = NEVER if older_than is None else rfc3339(now - older_than)
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
    shell.show(found, lambda: job_list(found, now))
    if found.cursor and not shell.json:
        shell.say(f"There are more: --page {found.cursor}", "dim")
    if found.back_to:
        shell.say(f"So far jobs were looked through that were made since {found.back_to}.", "dim")


@click.command()
@click.argument("key_or_job")
@common
@pass_shell
def explain(shell: Shell, key_or_job: str) -> None:
    """Say why an upload did nothing.

    For a key of the upload bucket (incoming/... or s3://...) or a job id.
    """
    found = Explainer(shell.stack).explain(key_or_job)
    shell.show(found, lambda: job.explanation(found))


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--notification", is_flag=True, help="Print what was told, too.")
@common
@pass_shell
def show(shell: Shell, job_id: str, notification: bool) -> None:
    """Show one job's life.

    Its times, request, parameters, images, execution and, with --notification, what was told of it.
    """
    found = life(shell.stack, job_id)
    shell.show(found, lambda: job.life(found, with_notification=notification))


@click.command("costs")
@click.option("--by", type=Words(list(GROUPS)), default="day", show_default=True, help="Sum by this.")
@since_option
@click.option("--csv", "as_table", is_flag=True, help="Print a table for a spreadsheet.")
@common
@pass_shell
def show_costs(shell: Shell, by: str, since: Callable[[float], float], as_table: bool) -> None:
    """Sum what jobs cost.

    What the provider said apart from what is estimated; a client is the first part of a character's name. The whole
    table is read.
    """
    found = costs(shell.stack, by, since(shell.stack.clock()))
    if as_table:
        click.echo(as_csv(found), nl=False)
    else:
        shell.show(found, lambda: stack_status.costs(found))


@click.command("reconcile")
@since_option
@click.option(
    "--adopt", "adopts", is_flag=True, help="Fetch what turned up of requests of unknown outcome. Buys nothing."
)
@common
@pass_shell
def show_reconciled(shell: Shell, since: Callable[[float], float], adopts: bool) -> None:
    """Compare the ledger with what the provider's history has billed.

    Billed without a record, twice for one attempt, not in the history, or known by now; a request counts once, whatever
    it made. Ends with exit code 5 if the sides differ. Nothing is changed without --adopt.
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
