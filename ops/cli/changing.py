"""The commands that change jobs, messages and characters."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import click

from ops.act import actions, cancelling
from ops.act.backfill.finding import Finder
from ops.act.backfill.sending import Spool, send
from ops.act.dead_letters import DeadLetter, discard_letters, list_letters, redrive_letters
from ops.act.forget.forgetting import Forgetting, character_of
from ops.act.forget.report import report
from ops.cli import screen
from ops.cli.following import follow_jobs
from ops.cli.options import Duration, output_option, timeout_option, wait_option, yes_option
from ops.cli.shell import Shell, common, pass_shell
from ops.cli.views import backfill as backfilling
from ops.cli.views import changes
from ops.errors import NotFound, Refused, TooLate
from ops.formatting import many, usd
from ops.inspect.suggestions import Words, did_you_mean
from posedrop.aws.record import Status


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@click.option(
    "--buy-again",
    is_flag=True,
    help="Pay again even if an earlier request may have been accepted and the provider's history cannot say.",
)
@yes_option
@wait_option
@timeout_option
@output_option
@common
@pass_shell
def retry(
    shell: Shell, job_ids: Sequence[str], buy_again: bool, yes: bool, wait: bool, timeout: float, output: Path | None
) -> None:
    """Retry failed jobs.

    Each gets a new attempt. A result that the provider still has is not paid for again. If a job failed before it was
    sent, the current files of its folder are used.
    """
    planned = actions.plan_retries(shell.stack, job_ids)
    most = sum(wanted.usd for wanted in planned)
    if not shell.json:
        screen.show(shell.err, changes.retries(planned))
    twice = " An earlier request may have been accepted and billed: then the job is paid twice." if buy_again else ""
    shell.confirm(f"{many(len(planned), 'new attempt')}, at most {usd(most)}.{twice} Begin?", yes=yes)
    actions.retry(shell.stack, planned, buy_again=buy_again)
    if wait:
        attempts = {wanted.makes: wanted.attempt for wanted in planned}
        follow_jobs(shell, attempts, {job_id: job_id for job_id in attempts}, timeout, output)
    else:
        shell.show(
            planned,
            lambda: [screen.text(f"The new attempts begin. Follow: {shell.stack.command('show', planned[0].makes)}")],
        )


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1)
@click.option("--character", default="", help="All waiting jobs of this character.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Words([Status.QUEUED, Status.WAITING], case_sensitive=False),
    help="QUEUED: all queued jobs. WAITING: uploads that are not a job yet.",
)
@yes_option
@click.option(
    "--timeout", type=Duration(), default="5m", show_default=True, help="How long to wait until all are decided."
)
@common
@pass_shell
def cancel(
    shell: Shell, job_ids: Sequence[str], character: str, statuses: Sequence[str], yes: bool, timeout: float
) -> None:
    """Cancel jobs that were not sent.

    Each ends as FAILED (InvalidInput, "cancelled"), is notified, and costs nothing. Jobs that are sent meanwhile are
    not cancelled. `retry` starts a new attempt of a cancelled job.
    """
    if bool(job_ids) == bool(character or statuses):
        raise click.UsageError("Say which: either JOB..., or --character or --status.")
    wanted = [Status(status.upper()) for status in statuses]
    chosen = cancelling.choose(shell.stack, job_ids, character, wanted)
    if not len(chosen):
        nothing = cancelling.Outcome(0, {}, [])
        shell.show(nothing, lambda: [screen.text("No job is waiting: there is nothing to cancel.", "dim")])
        return
    kinds = ((len(chosen.attempts), "job"), (len(chosen.uploads), "incomplete upload"))
    what = " and ".join(many(count, kind) for count, kind in kinds if count)
    more = f" There are more: at most {cancelling.MOST:,} are cancelled at once." if chosen.more else ""
    shell.confirm(f"Cancel {what}?{more} Each ends as FAILED and is notified.", yes=yes)
    cancelling.cancel(shell.stack, chosen)
    if not shell.json:
        shell.say(f"{many(len(chosen), 'message')} sent.", "dim")
    found = cancelling.outcome(shell.stack, chosen, timeout)
    shell.show(found, lambda: changes.cancelled(found))
    if found.open:
        raise TooLate(f"{many(len(found.open), 'job')} not decided in time; the messages will still be handled")


@click.command()
@yes_option
@common
@pass_shell
def redrive(shell: Shell, yes: bool) -> None:
    """Redrive dead letters and undelivered events.

    The command first shows some of the messages with their reasons, and asks. `dead-letters` shows which messages
    redriving does not help.
    """
    found, undelivered = actions.dead_letters(shell.stack), actions.undelivered(shell.stack)
    if not found.count and not undelivered:
        shell.show(
            {**asdict(found), "undelivered": 0}, lambda: [screen.text("The dead-letter queues are empty.", "dim")]
        )
        return
    if found.count and not shell.json:
        screen.show(shell.err, changes.dead(found))
        shell.say(f"To see which ones redriving does not help: {shell.stack.command('dead-letters')}", "dim")
    letters, events = many(found.count, "message"), many(undelivered, "undelivered event")
    wanted = [f"Send {letters} back to the queues?"] if found.count else []
    wanted += [f"Handle {events}?"] if undelivered else []
    shell.confirm(f"{' '.join(wanted)} Jobs that result are paid for.", yes=yes)
    moved = actions.redrive(shell.stack) if found.count else 0
    handled = actions.redrive_events(shell.stack) if undelivered else 0
    lines = [f"{letters}: {moved} moved."] if found.count else []
    lines += [f"{events}: {handled} handled."] if undelivered else []
    shell.show({**asdict(found), "moved": moved, "undelivered": handled}, lambda: [screen.text(line) for line in lines])


@click.command("dead-letters")
@click.option("--redrive", "redriven", multiple=True, metavar="ID", help="Send this message back to its queue.")
@click.option("--discard", "discarded", multiple=True, metavar="ID", help="Delete this message permanently.")
@yes_option
@common
@pass_shell
def list_dead_letters(shell: Shell, redriven: Sequence[str], discarded: Sequence[str], yes: bool) -> None:
    """List dead letters; redrive or discard them one by one.

    Shows for each message the job, the reason, and whether redriving helps. The beginning of an ID is enough.
    """
    stack, letters = shell.stack, list_letters(shell.stack)
    if not redriven and not discarded:
        shell.show(letters, lambda: changes.dead_letters(letters, stack.command("dead-letters")))
        return
    send, drop = [_letter(letters, wanted) for wanted in redriven], [_letter(letters, wanted) for wanted in discarded]
    for verb, some in (("Redrive", send), ("Discard", drop)):
        for letter in some:
            shell.say(f"{verb}: {letter.what}: {letter.reason or 'received too often'}")
    shell.confirm("Discarded messages are deleted; jobs that result from the others are paid for. Continue?", yes=yes)
    done = {
        "discarded": discard_letters(stack, {letter.message_id for letter in drop}),
        "redriven": redrive_letters(stack, {letter.message_id for letter in send}),
    }
    shell.show(done, lambda: [screen.text(f"{done['redriven']:,} redriven, {done['discarded']:,} discarded.")])


def _letter(letters: Sequence[DeadLetter], wanted: str) -> DeadLetter:
    """Return the dead letter whose id begins with a text. Raises NotFound if there is none, or several."""
    found = [letter for letter in letters if letter.message_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{wanted!r} is the beginning of {len(found)} ids: type more of the id")
    meant = did_you_mean(wanted, [letter.message_id for letter in letters])
    raise NotFound(f"there is no dead letter {wanted}{'.' if meant else ''}{meant}")


@click.command()
@click.option("--older-than", type=Duration(), metavar="AGE", help="Records without a change for this long are stuck.")
@common
@pass_shell
def sweep(shell: Shell, older_than: float | None) -> None:
    """Resume stuck jobs now.

    The stack does this by itself every hour.
    """
    counts = actions.sweep(shell.stack, older_than)
    done = [f"{count:,} {screen.word(name)}" for name, count in counts.items() if count]
    shell.show(counts, lambda: [screen.text(f"Resumed: {', '.join(done)}." if done else "Nothing was stuck.")])


@click.command()
@click.argument("prefix", default="")
@click.option("--dry-run", is_flag=True, help="Send nothing.")
@click.option(
    "--report",
    type=click.File("w", encoding="utf-8"),
    help="Write all uploads that were found to this file, as JSON lines.",
)
@yes_option
@common
@pass_shell
def backfill(shell: Shell, prefix: str, dry_run: bool, report: TextIO | None, yes: bool) -> None:
    """Send uploads that made no job.

    Such uploads lost their events, or are older than the stack. With PREFIX, only keys that begin with it. The command
    shows the cost and asks. Uploads that have outputs, or are older than RecordRetentionDays, are listed and not sent.
    """
    finder = Finder(shell.stack)
    with Spool() as spool:
        for found in finder.find(prefix):
            spool.put(found)
        if report:
            report.writelines(f"{line}\n" for line in spool.lines())
        if not shell.json:
            screen.show(shell.out, backfilling.backfill(finder, spool))
        sent = 0
        if spool.summary.to_send and not dry_run:
            question = (
                f"Send {many(spool.summary.to_send, 'upload')}? Their jobs cost at most {usd(spool.summary.usd)}."
            )
            shell.confirm(question, yes=yes)
            sent = send(shell.stack, spool)
        if shell.json:
            head = backfilling.backfill_head(prefix, finder, spool, sent)
            for piece in backfilling.with_list(head, "uploads", spool.lines()):
                click.echo(piece, nl=False)
        else:
            screen.show(shell.out, backfilling.backfilled(spool, sent, shell.stack.command("jobs")))


@click.command()
@click.argument("character")
@click.option(
    "--abandon",
    is_flag=True,
    help="Even if a job has not ended: cancel or stop it first. Sent requests are paid for and not delivered.",
)
@click.option(
    "--timeout",
    type=Duration(),
    default="2m",
    show_default=True,
    help="With --abandon: how long to wait for the jobs to end.",
)
@yes_option
@common
@pass_shell
def forget(shell: Shell, character: str, abandon: bool, timeout: float, yes: bool) -> None:
    """Delete everything about a character.

    Deletes uploads in all versions, prepared images, outputs, records and messages, and nothing of other characters.
    Asks first, and ends with a report of what was deleted and what cannot be deleted. You can run it again.
    """
    stack, name = shell.stack, character_of(character, shell.stack.layout)
    forgetting = Forgetting(stack, name)
    found = forgetting.find()
    if not shell.json:
        screen.show(shell.err, changes.character(found))
    if found.jobs.under_way and not abandon:
        count, first = many(len(found.jobs.under_way), "unfinished job"), next(iter(found.jobs.under_way))
        raise Refused(f"{name} has {count}, for example {first}: wait for the end, or use --abandon")
    ends = f" {many(len(found.jobs.under_way), 'unfinished job')} will end as FAILED." if found.jobs.under_way else ""
    shell.confirm(f"Delete everything about {name} permanently?{ends}", yes=yes)
    if found.jobs.under_way:
        found = forgetting.abandon(timeout)
    gone, left = forgetting.forget(found)
    made = report(stack, found, gone, left)
    shell.show(asdict(made), lambda: changes.forgotten(made))
    if found.jobs.under_way:
        raise TooLate(f"{many(len(found.jobs.under_way), 'job')} had not ended in time: run the command again later")
