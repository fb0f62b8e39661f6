"""The command line: `python -m ops`."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

import click
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from ops.act import actions, cancelling, uploading
from ops.act.backfill.finding import Finder
from ops.act.backfill.sending import Spool, send
from ops.act.dead_letters import DeadLetter, discard_letters, list_letters, redrive_letters
from ops.act.forget.forgetting import Forgetting, character_of
from ops.act.forget.report import report
from ops.cli import completion, display, reports
from ops.errors import NeedsAttention, NotFound, OpsError, Refused, TooLate
from ops.formatting import many, printable, usd
from ops.inspect import plan
from ops.inspect.costs import GROUPS, as_csv, costs
from ops.inspect.explain import Explainer
from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Explanation
from ops.inspect.health import health
from ops.inspect.reconcile import adopt, reconcile
from ops.inspect.records import ALWAYS, NEVER, WINDOW, Records, Wanted
from ops.inspect.situation import Situation
from ops.inspect.suggestions import File, Words, did_you_mean, no_file
from ops.inspect.timeline import life
from ops.stack import Stack, Target, find
from posedrop.aws.record import Status
from posedrop.contract.errors import PosedropError
from posedrop.contract.times import epoch, rfc3339

EPILOG = """
Which stack: --stack NAME, or the environment variable POSEDROP_STACK; without either the local stack of this clone if
it is up (make up), never one on AWS. Each command first says on stderr where it acts.

\b
Exit codes:
  0  done
  1  AWS, the network or the stack would not do it; or you said no
  2  the command line is wrong, names a file that is not there, or does not say which stack
  3  there is no such stack or job
  4  a job failed, or the contract or the ledger forbids what was asked for
  5  status --check: something needs attention; reconcile: the sides differ
  6  not finished within --timeout; it goes on
  130  interrupted; what was sent goes on
"""

F = TypeVar("F", bound=Callable[..., Any])


class Shell:
    """What a command needs of the command line: the stack that is meant, and where to print."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.out: Console = display.console()
        self.err: Console = display.console(stderr=True)

    @property
    def json(self) -> bool:
        """Whether the output is JSON."""
        return bool(self.options.get("json"))

    @cached_property
    def stack(self) -> Stack:
        """The stack that is meant; it is told, before anything is done with it."""
        target = Target(
            **{name: self.options.get(name) for name in ("stack", "profile", "region")},
            local=bool(self.options.get("local")),
        )
        found = find(target)
        if not self.json:
            self.err.print(display.text(str(found), "dim"), soft_wrap=True)
        return found

    def show(self, data: Any, view: Callable[[], Sequence[display.Part]]) -> None:
        """Print a result: its data as JSON, or its view."""
        if self.json:
            click.echo(json.dumps(_plain(data), indent=2, ensure_ascii=False, default=str))
        else:
            display.show(self.out, view())

    def say(self, text: str, style: str = "") -> None:
        """Say something besides the result."""
        self.err.print(display.text(text, style), soft_wrap=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask, unless it was answered on the command line. Raises click.Abort if the answer is no."""
        if yes:
            return
        if self.json:
            raise click.UsageError(f"{question} Say --yes: --json asks nothing.")
        click.confirm(printable(question), err=True, abort=True)


pass_shell = click.make_pass_decorator(Shell, ensure=True)


class Commands(click.Group):
    """All commands. Whatever goes wrong becomes one line on stderr and an exit code."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant. Raises click.UsageError, which names the closest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            exc.message += did_you_mean(args[0], self.list_commands(ctx))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OpsError as exc:
            _fail(str(exc), exc.exit_code, exc)
        except (ClientError, BotoCoreError, Boto3Error, PosedropError, OSError) as exc:
            _fail(str(exc) or type(exc).__name__, 1, exc)
        except KeyboardInterrupt:
            click.echo("\nInterrupted: what was sent goes on.", err=True)
            raise click.exceptions.Exit(130) from None


def _fail(text: str, exit_code: int, cause: Exception) -> NoReturn:
    failure = click.ClickException(printable(" ".join(text.split())))
    failure.exit_code = exit_code
    raise failure from cause


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name:
        ctx.ensure_object(Shell).options[parameter.name] = value


def common(function: F) -> F:
    """The options that every command has, and that may stand before it too."""
    for name, text in (
        ("--json", "Print the result as JSON."),
        ("--region NAME", "The stack's region."),
        ("--profile NAME", "The AWS CLI's profile."),
        ("--local", "The local stack of this clone (.local/stack.json)."),
        ("--stack NAME", "The CloudFormation stack; or a local stack's state file (.json)."),
    ):
        option, _, value = name.partition(" ")
        function = click.option(
            option, help=text, metavar=value or None, is_flag=not value, expose_value=False, callback=_remember
        )(function)
    return function


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@common
def main() -> None:
    """See how a posedrop stack does, find out why an upload did nothing, and set things going again."""


# ---- looking ---------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--check", is_flag=True, help="End with exit code 5 if something needs attention.")
@common
@pass_shell
def status(shell: Shell, check: bool) -> None:
    """See whether the stack is well.

    Jobs, the line, dead letters, use of the limit, pauses, what was spent, and the upload bucket's settings.
    """
    found = health(shell.stack)
    shell.show(found, lambda: display.health(found))
    if found.jobs.cut:
        shell.say(f"At least so many jobs have ended: they were counted among {WINDOW:,} records, the newest.", "dim")
    if check and found.problems:
        raise NeedsAttention(f"{many(len(found.problems), 'problem')}: {found.problems[0].what}")


class Duration(click.ParamType):
    """A duration as `90`, `90s`, `30m`, `12h` or `7d`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        seconds = _seconds(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration: say 90, 90s, 30m, 12h or 7d", param, ctx)
        return seconds


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else None


@main.command()
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
) -> None:
    """List jobs, the newest first.

    A page reads 2,000 records at most. If few of them fit it says how far back it has looked, and --page goes on.
    """
    now = shell.stack.clock()
    since = ALWAYS if newer_than is None else rfc3339(now - newer_than)
    until = NEVER if older_than is None else rfc3339(now - older_than)
    wanted = Wanted(character, [Status(status.upper()) for status in statuses], since, until)
    try:
        found = Records(shell.stack).page(wanted, limit, cursor)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--page") from exc
    shell.show(found, lambda: display.jobs(found, now))
    if found.cursor and not shell.json:
        shell.say(f"There are more: --page {found.cursor}", "dim")
    if found.back_to:
        shell.say(f"So far jobs were looked through that were made since {found.back_to}.", "dim")


@main.command()
@click.argument("key_or_job")
@common
@pass_shell
def explain(shell: Shell, key_or_job: str) -> None:
    """Say why an upload did nothing.

    For a key of the upload bucket (with its prefix, or s3://...) or a job id.
    """
    found = Explainer(shell.stack).explain(key_or_job)
    shell.show(found, lambda: display.explanation(found))


@main.command()
@click.argument("job")
@click.option("--notification", is_flag=True, help="Print what was told, too.")
@common
@pass_shell
def show(shell: Shell, job: str, notification: bool) -> None:
    """Show one job's life.

    Its times, request, parameters, images, execution and, with --notification, what was told of it.
    """
    found = life(shell.stack, job)
    shell.show(found, lambda: display.life(found, with_notification=notification))


class Since(click.ParamType):
    """A time in the past, as a duration before now (90s, 30m, 12h, 7d) or as a day (2026-11-23, in UTC)."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Callable[[float], float]:
        """What gives, for the time now, that time; both in seconds since the epoch."""
        seconds = _seconds(str(value))
        if seconds is not None:
            return lambda now: now - seconds
        try:
            day = epoch(f"{date.fromisoformat(str(value))}T00:00:00Z")
        except ValueError:
            self.fail(f"{value!r} is neither a duration (12h, 7d) nor a day (2026-11-23)", param, ctx)
        return lambda now: day


since_option = click.option(
    "--since",
    type=Since(),
    default="7d",
    show_default=True,
    metavar="AGE|DAY",
    help="From 12h or 7d ago, or from a day.",
)


@main.command("costs")
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
        shell.show(found, lambda: display.costs(found))


@main.command("reconcile")
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
    shell.show({**asdict(found), "adopted": adopted}, lambda: display.reconciled(found, adopted))
    if adoptable and not adopts:
        shell.say(f"{many(len(adoptable), 'request')} can be adopted: {shell.stack.command('reconcile', '--adopt')}")
    if found.differences:
        raise NeedsAttention(f"{many(len(found.differences), 'difference')}: {found.differences[0].what}")


# ---- acting ----------------------------------------------------------------------------------------------------------

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
wait_option = click.option("--wait", is_flag=True, help="Follow the jobs to their ends.")
timeout_option = click.option(
    "--timeout", type=Duration(), default="1h", show_default=True, help="With --wait: for so long."
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --wait: fetch the images into this directory.",
)


@main.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@click.option(
    "--buy-again",
    is_flag=True,
    help="Pay again although an earlier request may have been accepted, where the provider's history cannot say.",
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
    """Try failed jobs again.

    A new attempt of each. A result that is still at the provider is not paid for again. A job that failed before it was
    sent is made from the files that are in its folder now.
    """
    planned = actions.plan_retries(shell.stack, job_ids)
    most = sum(wanted.usd for wanted in planned)
    if not shell.json:
        display.show(shell.err, display.retries(planned))
    twice = " An earlier request may have been accepted and billed: then it is paid twice." if buy_again else ""
    shell.confirm(f"{many(len(planned), 'new attempt')}, at most {usd(most)}.{twice} Begin?", yes=yes)
    actions.retry(shell.stack, planned, buy_again=buy_again)
    if wait:
        attempts = {wanted.makes: wanted.attempt for wanted in planned}
        _follow(shell, attempts, {job_id: job_id for job_id in attempts}, timeout, output)
    else:
        shell.show(
            planned, lambda: [display.text(f"Asked for. Follow: {shell.stack.command('show', planned[0].makes)}")]
        )


@main.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1)
@click.option("--character", default="", help="All of this character's that wait.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Words([Status.QUEUED, Status.WAITING], case_sensitive=False),
    help="All jobs that are QUEUED; WAITING: uploads that are no job yet.",
)
@yes_option
@click.option("--timeout", type=Duration(), default="5m", show_default=True, help="Wait for so long until it is done.")
@common
@pass_shell
def cancel(
    shell: Shell, job_ids: Sequence[str], character: str, statuses: Sequence[str], yes: bool, timeout: float
) -> None:
    """Cancel jobs that were not sent.

    Each ends as FAILED (InvalidInput, "cancelled"), is notified and costs nothing. What is sent in the meantime is left
    alone. `retry` makes a new attempt of a cancelled job.
    """
    if bool(job_ids) == bool(character or statuses):
        raise click.UsageError("Say which: either JOB..., or --character or --status.")
    wanted = [Status(status.upper()) for status in statuses]
    chosen = cancelling.choose(shell.stack, job_ids, character, wanted)
    if not len(chosen):
        nothing = cancelling.Outcome(0, {}, [])
        shell.show(nothing, lambda: [display.text("No job waits: there is nothing to cancel.", "dim")])
        return
    kinds = ((len(chosen.attempts), "job"), (len(chosen.uploads), "incomplete upload"))
    what = " and ".join(many(count, kind) for count, kind in kinds if count)
    more = f" There are more: at most {cancelling.MOST:,} are cancelled at once." if chosen.more else ""
    shell.confirm(f"Cancel {what}?{more} Each ends as FAILED and is notified.", yes=yes)
    cancelling.cancel(shell.stack, chosen)
    if not shell.json:
        shell.say(f"{many(len(chosen), 'message')} sent.", "dim")
    found = cancelling.outcome(shell.stack, chosen, timeout)
    shell.show(found, lambda: display.cancelled(found))
    if found.open:
        raise TooLate(f"{many(len(found.open), 'job')} not decided in time; the messages are handled by themselves")


@main.command()
@click.argument("face", type=File())
@click.argument("poses", metavar="POSE...", nargs=-1, required=True, type=File())
@click.option("--character", metavar="NAME", help="The folder below UploadPrefix [default: the face's file name].")
@click.option("--prompt", help="The prompt; the stack's DefaultPrompt otherwise.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Another parameter of the model.")
@click.option("--context", metavar="JSON", help="An object that comes back in the notification.")
@yes_option
@wait_option
@timeout_option
@output_option
@common
@pass_shell
def upload(
    shell: Shell,
    face: Path,
    poses: Sequence[Path],
    character: str | None,
    prompt: str | None,
    parameters: Sequence[str],
    context: str | None,
    yes: bool,
    wait: bool,
    timeout: float,
    output: Path | None,
) -> None:
    """Upload a face and its poses.

    One job a pose. All is checked first, as the stack will check it. A prefix face- or pose- of the file names is left
    out of the names. The parameters are uploaded beside each pose (poses/NAME.json).
    """
    stack = shell.stack
    name, files, names = plan.folder(stack.layout, face, poses, character, _parameters(prompt, parameters, context))
    planned = plan.plan(stack, name, files, names)
    _check(planned)
    if planned.others:
        also = f"The face is new to {many(len(planned.others), 'other pose')} of {name}, which will be made anew: "
        shell.confirm(f"{also}{usd(planned.usd)} in all. Upload?", yes=yes)
    if not shell.json:
        shell.say(f"Uploading {many(len(planned.asked), 'pose')} of {name}, about {usd(planned.usd)}.")
    uploading.store(stack, files)
    job_ids = {str(job.job_id): job.pose for job in planned.asked}
    if wait:
        _follow(shell, dict.fromkeys(job_ids, 1), job_ids, timeout, output)
    else:
        shell.show(planned, lambda: [display.text("\n".join(job_ids))])


def _check(planned: plan.Plan) -> None:
    """Refuse what the stack would refuse, or leave waiting. Raises Refused."""
    for job in planned.asked:
        if job.outcome is plan.Outcome.REFUSED:
            raise Refused(job.error or "refused")
        if job.outcome is plan.Outcome.WAITING:
            raise Refused("no prompt: say --prompt, or give the stack a DefaultPrompt")


@main.command("dry-run")
@click.argument("names", metavar="FACE POSE... | CHARACTER", nargs=-1, required=True)
@click.option("--character", metavar="NAME", help="As of upload.")
@click.option("--prompt", help="As of upload.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="As of upload.")
@click.option("--context", metavar="JSON", help="As of upload.")
@common
@pass_shell
def dry_run(
    shell: Shell,
    names: Sequence[str],
    character: str | None,
    prompt: str | None,
    parameters: Sequence[str],
    context: str | None,
) -> None:
    """Tell what would be sent, and what it costs.

    Of a face and poses here, as upload would take them, or of a character in the bucket. Nothing is sent.
    """
    paths = [Path(name) for name in names]
    if len(paths) > 1:
        for path in paths:
            if not path.is_file():
                raise click.BadParameter(no_file(path), param_hint="FACE POSE...")
        own = _parameters(prompt, parameters, context)
        name, files, poses = plan.folder(shell.stack.layout, paths[0], paths[1:], character, own)
        found = plan.plan(shell.stack, name, files, poses)
    elif paths[0].is_file():
        raise click.UsageError("a face alone makes no job: name a pose, too")
    else:
        found = plan.plan(shell.stack, names[0], {})
    shell.show({**asdict(found), "usd": found.usd}, lambda: display.plan(found, shell.stack.layout))
    if any(job.outcome is plan.Outcome.REFUSED for job in found.asked):
        raise Refused("the contract refuses some of it")


@main.command()
@yes_option
@common
@pass_shell
def redrive(shell: Shell, yes: bool) -> None:
    """Move dead letters back to their queues, and see to events that could not be delivered.

    It shows some of them first, with the reason where one is known, and asks.
    """
    found, undelivered = actions.dead_letters(shell.stack), actions.undelivered(shell.stack)
    if not found.count and not undelivered:
        shell.show(
            {**asdict(found), "undelivered": 0}, lambda: [display.text("The dead-letter queues are empty.", "dim")]
        )
        return
    if found.count and not shell.json:
        display.show(shell.err, display.dead(found))
        shell.say(f"Which ones it will not help: {shell.stack.command('dead-letters')}", "dim")
    letters, events = many(found.count, "message"), many(undelivered, "undelivered event")
    wanted = [f"Move {letters} back to the queues they are for?"] if found.count else []
    wanted += [f"See to {events}?"] if undelivered else []
    shell.confirm(f"{' '.join(wanted)} What becomes a job is paid for.", yes=yes)
    moved = actions.redrive(shell.stack) if found.count else 0
    seen_to = actions.redrive_events(shell.stack) if undelivered else 0
    lines = [f"{letters}: {moved} moved."] if found.count else []
    lines += [f"{events}: {seen_to} seen to."] if undelivered else []
    shell.show(
        {**asdict(found), "moved": moved, "undelivered": seen_to}, lambda: [display.text(line) for line in lines]
    )


@main.command("dead-letters")
@click.option("--redrive", "redriven", multiple=True, metavar="ID", help="Send this one to the queue that it is for.")
@click.option("--discard", "discarded", multiple=True, metavar="ID", help="Delete this one for good.")
@yes_option
@common
@pass_shell
def list_dead_letters(shell: Shell, redriven: Sequence[str], discarded: Sequence[str], yes: bool) -> None:
    """List dead letters, and redrive or discard them one by one.

    Of each: what it is about, why it is a dead letter, and whether redriving it helps. The beginning of an ID will do.
    """
    stack, letters = shell.stack, list_letters(shell.stack)
    if not redriven and not discarded:
        shell.show(letters, lambda: reports.dead_letters(letters, stack.command("dead-letters")))
        return
    send, drop = [_letter(letters, wanted) for wanted in redriven], [_letter(letters, wanted) for wanted in discarded]
    for verb, some in (("Redrive", send), ("Discard", drop)):
        for letter in some:
            shell.say(f"{verb}: {letter.what}: {letter.reason or 'received too often'}")
    shell.confirm("What is discarded is gone, what becomes a job is paid for. Go on?", yes=yes)
    done = {
        "discarded": discard_letters(stack, {letter.message_id for letter in drop}),
        "redriven": redrive_letters(stack, {letter.message_id for letter in send}),
    }
    shell.show(done, lambda: [display.text(f"{done['redriven']:,} redriven, {done['discarded']:,} discarded.")])


def _letter(letters: Sequence[DeadLetter], wanted: str) -> DeadLetter:
    """The dead letter whose id begins so. Raises NotFound if that is none, or are several."""
    found = [letter for letter in letters if letter.message_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{wanted!r} is the beginning of {len(found)} ids: say more of it")
    raise NotFound(f"there is no dead letter {wanted}")


@main.command()
@click.option("--older-than", type=Duration(), metavar="AGE", help="Take for stuck what did not change for so long.")
@common
@pass_shell
def sweep(shell: Shell, older_than: float | None) -> None:
    """Set going what is stuck, now.

    The stack does so by itself every hour.
    """
    counts = actions.sweep(shell.stack, older_than)
    done = [f"{count:,} {display.word(name)}" for name, count in counts.items() if count]
    shell.show(counts, lambda: [display.text(f"Set going: {', '.join(done)}." if done else "Nothing was stuck.")])


@main.command()
@click.argument("prefix", default="")
@click.option("--dry-run", is_flag=True, help="Send nothing.")
@click.option(
    "--report", type=click.File("w", encoding="utf-8"), help="Write all that was found here, in lines of JSON."
)
@yes_option
@common
@pass_shell
def backfill(shell: Shell, prefix: str, dry_run: bool, report: TextIO | None, yes: bool) -> None:
    """Send uploads that made no job.

    Their events were lost, or they were there before the stack: all of them, or those whose keys begin with PREFIX. It
    says what they cost, and asks. What has outputs already, or is older than RecordRetentionDays, is listed, not sent.
    """
    finder = Finder(shell.stack)
    with Spool() as spool:
        for found in finder.find(prefix):
            spool.put(found)
        if report:
            report.writelines(f"{line}\n" for line in spool.lines())
        if not shell.json:
            display.show(shell.out, reports.backfill(finder, spool))
        sent = 0
        if spool.summary.to_send and not dry_run:
            question = (
                f"Send {many(spool.summary.to_send, 'upload')}? Their jobs cost at most {usd(spool.summary.usd)}."
            )
            shell.confirm(question, yes=yes)
            sent = send(shell.stack, spool)
        if shell.json:
            head = reports.backfill_head(prefix, finder, spool, sent)
            for piece in reports.with_list(head, "uploads", spool.lines()):
                click.echo(piece, nl=False)
        else:
            display.show(shell.out, reports.backfilled(spool, sent, shell.stack.command("jobs")))


@main.command()
@click.argument("character")
@click.option(
    "--abandon",
    is_flag=True,
    help="Although a job is under way: cancel or stop it first. What was sent is paid, and not delivered.",
)
@click.option(
    "--timeout",
    type=Duration(),
    default="2m",
    show_default=True,
    help="With --abandon: wait for so long until it ends.",
)
@yes_option
@common
@pass_shell
def forget(shell: Shell, character: str, abandon: bool, timeout: float, yes: bool) -> None:
    """Remove all that the stack has of a character.

    Uploads in all versions, prepared images, outputs, records and messages; nothing of another character. It asks
    first, and ends with a report of what is gone and of what cannot be removed. It may be run again.
    """
    stack, name = shell.stack, character_of(character, shell.stack.layout)
    forgetting = Forgetting(stack, name)
    found = forgetting.find()
    if not shell.json:
        display.show(shell.err, reports.character(found))
    if found.jobs.under_way and not abandon:
        count, first = many(len(found.jobs.under_way), "job"), next(iter(found.jobs.under_way))
        raise Refused(f"{count} of {name} under way, {first} among them: wait for the end, or say --abandon")
    ends = f" {many(len(found.jobs.under_way), 'job')} under way ends as FAILED." if found.jobs.under_way else ""
    shell.confirm(f"Remove all that is there of {name}, for good?{ends}", yes=yes)
    if found.jobs.under_way:
        found = forgetting.abandon(timeout)
    gone, left = forgetting.forget(found)
    made = report(stack, found, gone, left)
    shell.show(asdict(made), lambda: reports.forgotten(made))
    if found.jobs.under_way:
        raise TooLate(f"{many(len(found.jobs.under_way), 'job')} had not ended in time: run it again when they have")


# ---- the page --------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Listen here [default: a port that is free].")
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@common
@pass_shell
def console(shell: Shell, port: int, no_open: bool) -> None:
    """Drop, watch and look on a page of your own.

    It is served on this machine to nobody else, and acts with your credentials. Ctrl-C ends it.
    """
    # What only the page needs is no part of what the other commands need.
    from ops.console.server import serve

    serve(shell.stack, port, open_browser=not no_open, say=click.echo)


@main.command()
@click.argument("shell", type=Words(completion.SHELLS), metavar="SHELL")
def complete(shell: str) -> None:
    """Print what gives a shell the command `ops`, with completion.

    For bash, zsh and fish; in bash: eval "$(.venv/bin/python -m ops complete bash)".
    """
    click.echo(completion.script(main, shell), nl=False)


# ---- what several commands share -------------------------------------------------------------------------------------


def _follow(
    shell: Shell, attempts: Mapping[str, int], names: Mapping[str, str], timeout: float, output: Path | None
) -> None:
    """Follow jobs to their ends and show what came of them. Raises Refused if one failed, TooLate if one goes on."""
    stack = shell.stack
    looks = uploading.follow(stack, attempts, timeout)
    standings = list(looks)[-1] if shell.json else display.follow(shell.err, names, looks)
    explanations: dict[str, Explanation] = {}
    paths: dict[str, list[str]] = {}
    situation = Situation.of(stack)
    for standing in standings:
        record = standing.record
        if record is not None:
            explanations[standing.job_id] = explain_record(record, situation)
            paths[standing.job_id] = (
                [str(path) for path in uploading.download(stack, record, output)]
                if output
                else [str(found["uri"]) for found in record.outputs]
            )
    data = [
        {
            "job_id": standing.job_id,
            "status": str(standing.record.status) if standing.record else None,
            "images": paths.get(standing.job_id, []),
            "explanation": explanations.get(standing.job_id),
        }
        for standing in standings
    ]
    shell.show(data, lambda: display.results(standings, explanations, paths))
    open_ = [standing.job_id for standing in standings if not standing.ended]
    failed = [standing.job_id for standing in standings if standing.record and standing.record.status is Status.FAILED]
    if open_:
        raise TooLate(
            f"{many(len(open_), 'job')} not finished in time; it goes on: {stack.command('explain', open_[0])}"
        )
    if failed:
        raise Refused(f"{len(failed)} of {many(len(standings), 'job')} failed")


def _parameters(prompt: str | None, named: Sequence[str], context: str | None) -> dict[str, Any]:
    """What the options say, as a job file says it. Values that are JSON are taken as such."""
    found: dict[str, Any] = {}
    for word in named:
        name, equals, value = word.partition("=")
        if not equals:
            raise click.BadParameter(f"not NAME=VALUE: {word}", param_hint="--param")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    if prompt is not None:
        found["prompt"] = prompt
    if context is not None:
        try:
            found["context"] = json.loads(context)
        except ValueError as exc:
            raise click.BadParameter(f"not JSON: {exc}", param_hint="--context") from exc
    return found


def _plain(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        return asdict(data)
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return data
