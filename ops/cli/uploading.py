"""The commands that read local files: `upload`, and `dry-run`, which sends nothing."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ops.act.sender import Sender, Upload
from ops.cli import screen
from ops.cli.following import follow_jobs, images_of, refuse_open, watch_jobs
from ops.cli.options import output_option, parameters_of, timeout_option, yes_option
from ops.cli.shell import Shell, common, pass_shell
from ops.cli.views import plans, uploads
from ops.errors import BadManifest, OpsError, Refused
from ops.formatting import many, usd
from ops.inspect import batch, upload_report
from ops.inspect.manifest import SUFFIXES, is_manifest
from ops.inspect.plan import Outcome, plan
from ops.inspect.records import Records
from ops.inspect.suggestions import File, no_file
from ops.stack import Stack
from posedrop.aws.record import Record, Status

REPORTS = {".json": upload_report.as_json, ".csv": upload_report.as_csv}
"""The function that writes a report, by the file's extension."""
CLOSED = (Status.SUCCEEDED, Status.FAILED, upload_report.NOT_SENT, upload_report.LEFT_OUT)
STOPPED = "the upload stopped before this file"


def _report_file(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Return the path of a report; its extension decides the format. Raises click.BadParameter."""
    if value is None:
        return None
    if value.suffix.lower() not in REPORTS:
        raise click.BadParameter(f"{value}: a report ends in {' or '.join(REPORTS)}")
    if not value.absolute().parent.is_dir():
        raise click.BadParameter(f"{value}: there is no folder {value.parent}")
    return value


@click.command()
@click.argument("names", metavar="FACE POSE... | FOLDER... | LIST", nargs=-1, required=True, type=File(folders=True))
@click.option(
    "--character",
    metavar="NAME",
    help="The folder below UploadPrefix [default: the name of the folder, or of the face].",
)
@click.option("--prompt", help="The prompt; in a list, for rows without one. [default: the stack's DefaultPrompt]")
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another parameter of the model; in a list, for rows that do not set it.",
)
@click.option("--context", metavar="JSON", help="A JSON object that the notification repeats.")
@yes_option
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Wait for the jobs to end [default: yes for folders and lists, no for FACE POSE...].",
)
@timeout_option
@output_option
@click.option(
    "--report",
    "report_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_report_file,
    help="Write the result of each job to FILE: .json or .csv.",
)
@common
@pass_shell
def upload(
    shell: Shell,
    names: Sequence[Path],
    character: str | None,
    prompt: str | None,
    parameters: Sequence[str],
    context: str | None,
    yes: bool,
    wait: bool | None,
    timeout: float,
    output: Path | None,
    report_file: Path | None,
) -> None:
    """Upload pictures and make one job per pose.

    FACE POSE... are pictures of one character. A FOLDER with a face and poses is a character with the folder's name. A
    folder of such folders is a client with characters. A LIST is a .csv, .tsv or .jsonl file with a row for each job or
    face. Its columns are face, poses (several are separated by |), character, prompt, context, and the model's
    parameters. Paths are relative to the list's folder.

    For folders and lists the command first shows the jobs, their cost and any problems, and asks. To continue an
    interrupted upload, run the same command again. Jobs that exist already are not paid for again.
    """
    stack = shell.stack
    chosen = _chosen(shell, names, character, parameters_of(prompt, parameters, context))
    prepared = batch.prepare(stack, chosen)
    one = not names[0].is_dir() and not is_manifest(names[0])
    if one:
        _ask_about_one(shell, prepared, yes)
    else:
        _ask_about_many(shell, prepared, yes)
    report = report_file or not one
    unsent = _send(shell, prepared, quiet=one and not shell.err.is_terminal)
    job_ids = {item.job.job_id: item.job.pose for item in prepared.items if item.job.job_id and item.job.asked}
    if not report and wait:
        follow_jobs(shell, dict.fromkeys(job_ids, 1), job_ids, timeout, output)
    elif not report:
        made = prepared.plans[0]
        shell.show({**asdict(made)}, lambda: [screen.text("\n".join(job_ids))])
    else:
        follow = wait if wait is not None else not one
        _finish(shell, prepared, unsent, timeout if follow and not unsent else 0.0, output, report_file)


def _chosen(shell: Shell, names: Sequence[Path], character: str | None, parameters: Mapping[str, Any]) -> batch.Batch:
    """Return the files that the arguments name. Raises Refused, BadManifest and click.UsageError."""
    rules = shell.stack.model.schema
    batch.check_parameters(parameters, "--prompt, --param or --context", rules)
    if all(name.is_dir() for name in names):
        return batch.of_folders(names, character, parameters, shell.stack.layout)
    if any(name.is_dir() or is_manifest(name) for name in names):
        if len(names) > 1:
            raise click.UsageError("Name either FACE POSE..., or folders, or one list: they cannot be mixed.")
        if character:
            raise click.UsageError("A list has a column `character`: do not use --character.")
        try:
            return batch.of_manifest(names[0], parameters, rules)
        except BadManifest as exc:
            for mistake in exc.mistakes[: screen.SHOWN]:
                shell.say(mistake)
            if len(exc.mistakes) > screen.SHOWN:
                shell.say(f"and {len(exc.mistakes) - screen.SHOWN:,} more", "dim")
            raise
    if len(names) == 1:
        raise click.UsageError(f"{names[0]}: a face alone makes no job: add a pose. A list ends in {_endings()}.")
    return batch.of_files(names[0], names[1:], character, parameters)


def _endings() -> str:
    return " or ".join([", ".join(SUFFIXES[:-1]), SUFFIXES[-1]])


def _ask_about_one(shell: Shell, prepared: batch.Prepared, yes: bool) -> None:
    """Ask if other poses would be made too. Raises Refused if any file has a problem; all problems are printed."""
    _refuse_what_is_wrong(shell, prepared)
    made = prepared.plans[0]
    (name,) = {job.character for job in made.asked}
    if made.others:
        also = f"The face is new to {many(len(made.others), 'other pose')} of {name}, which will be made again: "
        shell.confirm(f"{also}{usd(made.usd)} in all. Upload?", yes=yes)
    if not shell.json:
        shell.say(f"Uploading {many(len(made.asked), 'pose')} of {name}, about {usd(made.usd)}.")


def _refuse_what_is_wrong(shell: Shell, prepared: batch.Prepared) -> None:
    wrong = [str(problem) for problem in prepared.problems]
    wrong += [item.why or "" for outcome in (Outcome.REFUSED, Outcome.WAITING) for item in prepared.of(outcome)]
    wrong = list(dict.fromkeys(wrong))
    if len(wrong) == 1:
        raise Refused(wrong[0])
    if wrong:
        for why in wrong:
            shell.say(why)
        raise Refused(f"{len(wrong)} files make no job: nothing was sent")


def _ask_about_many(shell: Shell, prepared: batch.Prepared, yes: bool) -> None:
    """Show what would be sent, and ask. Raises Refused if there is nothing to send."""
    if not shell.json:
        screen.show(shell.err, [*uploads.preview(prepared), screen.text("")])
    new = prepared.of(Outcome.NEW)
    if not new and not prepared.of(Outcome.KNOWN):
        raise Refused("no file makes a job: nothing was sent")
    if not new:
        shell.say("All of these jobs exist already: nothing is sent.")
        return
    question = f"Upload {many(len(prepared.files), 'file')} for {many(len(new), 'new job')}, about {usd(prepared.usd)}?"
    shell.confirm(question, yes=yes, terminal=True)


def _send(shell: Shell, prepared: batch.Prepared, *, quiet: bool) -> dict[str, str]:
    """Upload the files; return the keys that were not sent, and why. An interrupt stops after the current files."""
    if not prepared.files:
        return {}
    going = Upload(prepared.files, [], shell.stack.layout)

    def send(report: Any) -> None:
        sender = Sender(shell.stack, report)
        thread = threading.Thread(target=sender.send, args=(going,), name="upload")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
        except KeyboardInterrupt:
            sender.stop()
            thread.join()
            shell.say("\nRun the same command again to continue.")
            raise

    size = sum(file.size for file in prepared.files.values())
    if shell.json or quiet:
        send(lambda standing: None)
    else:
        uploads.sending(shell.err, len(prepared.files), size, send)
    return {key: going.errors.get(key, STOPPED) for key in prepared.files if key not in going.uploaded}


def _finish(
    shell: Shell,
    prepared: batch.Prepared,
    unsent: Mapping[str, str],
    timeout: float,
    output: Path | None,
    report_file: Path | None,
) -> None:
    """Follow the jobs, and report. Raises the report's error: not sent, not finished, or failed."""
    stack = shell.stack
    job_ids = {item.job.job_id: _name(item) for item in prepared.items if item.job.job_id}
    records: dict[str, Record] = {}
    try:
        if timeout:
            watch_jobs(shell, dict.fromkeys(job_ids, 1), job_ids, timeout, records)
        else:
            records |= Records(stack).jobs(job_ids)
    finally:
        # An interrupted upload gets its report too.
        images = {job_id: images_of(stack, record, output) for job_id, record in records.items() if record.outputs}
        made = upload_report.upload_report(prepared, records, images, unsent)
        if report_file:
            report_file.write_text(REPORTS[report_file.suffix.lower()](made), encoding="utf-8", newline="")
    failed = [result.job_id for result in made.results if result.status == Status.FAILED]
    shell.show(made, lambda: [*uploads.report(made), *uploads.next_step(failed, stack)])
    names = {item.key: item.picture for item in prepared.items if item.picture}
    _end(stack, made, {names.get(key, key): why for key, why in unsent.items()}, timeout)


def _name(item: batch.Item) -> str:
    return f"{item.job.character}/{item.job.pose}"


def _end(stack: Stack, made: upload_report.UploadReport, unsent: Mapping[str, str], timeout: float) -> None:
    """Raise the error of the whole upload, if there is one."""
    if unsent:
        name, why = next((name, why) for name, why in unsent.items() if why != STOPPED)
        raise OpsError(f"{name} was not sent: {why} Run the same command again to continue.")
    failed = [result.job_id for result in made.results if result.status == Status.FAILED]
    if timeout:
        refuse_open(stack, [result.job_id for result in made.results if result.status not in CLOSED])
    if failed or made.not_sent:
        wrong = [f"{many(len(failed), 'job')} failed"] if failed else []
        raise Refused(", ".join([*wrong, f"{made.not_sent:,} not sent"] if made.not_sent else wrong))


@click.command("dry-run")
@click.argument("names", metavar="FACE POSE... | FOLDER... | LIST | CHARACTER", nargs=-1, required=True)
@click.option("--character", metavar="NAME", help="As for upload.")
@click.option("--prompt", help="As for upload.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="As for upload.")
@click.option("--context", metavar="JSON", help="As for upload.")
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
    """Show what would be sent, and the cost.

    The arguments are local files, as for upload, or a CHARACTER in the bucket. A local folder comes before a character
    with the same name. Nothing is sent.
    """
    paths = [Path(name) for name in names]
    if len(names) == 1 and not paths[0].exists() and not is_manifest(paths[0]):
        found = plan(shell.stack, names[0], {})
        shell.show({**asdict(found), "usd": found.usd}, lambda: plans.plan(found, shell.stack.layout))
        wrong = any(job.outcome is Outcome.REFUSED for job in found.asked)
    else:
        for path in paths:
            if not path.exists():
                raise click.BadParameter(no_file(path), param_hint="FACE POSE...")
        chosen = _chosen(shell, paths, character, parameters_of(prompt, parameters, context))
        prepared = batch.prepare(shell.stack, chosen)
        wrong = _show_prepared(shell, prepared, whole=paths[0].is_dir() or is_manifest(paths[0]))
    if wrong:
        raise Refused("the contract refuses some of these files")


def _show_prepared(shell: Shell, prepared: batch.Prepared, *, whole: bool) -> bool:
    """Show what files would become, and with FACE POSE... each request; return whether there are problems."""
    if whole:
        data = {
            "jobs": [{**asdict(item.job), "picture": item.picture, "why": item.why} for item in prepared.items],
            "problems": prepared.problems,
            "left_out": prepared.left_out,
            "usd": prepared.usd,
        }
        said = f"{many(len(prepared.of(Outcome.NEW)), 'new job')}, about {usd(prepared.usd)}. Nothing was sent."
        shell.show(data, lambda: [*uploads.preview(prepared), screen.text(""), screen.prose(said)])
        return not prepared.whole
    if prepared.problems:
        _refuse_what_is_wrong(shell, prepared)
    found = prepared.plans[0]
    shell.show({**asdict(found), "usd": found.usd}, lambda: plans.plan(found, shell.stack.layout))
    return bool(prepared.of(Outcome.REFUSED))
