"""The commands that take files of this machine: `upload`, and `dry-run`, which sends nothing."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from ops.act import uploading
from ops.cli import screen
from ops.cli.following import follow_jobs
from ops.cli.options import output_option, parameters_of, timeout_option, wait_option, yes_option
from ops.cli.shell import Shell, common, pass_shell
from ops.cli.views import plans
from ops.errors import Refused
from ops.formatting import many, usd
from ops.inspect import plan
from ops.inspect.suggestions import File, no_file


@click.command()
@click.argument("face", type=File())
@click.argument("poses", metavar="POSE...", nargs=-1, required=True, type=File())
@click.option("--character", metavar="NAME", help="The folder below incoming/ [default: the face's file name].")
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
    name, files, names = plan.folder(face, poses, character, parameters_of(prompt, parameters, context))
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
        follow_jobs(shell, dict.fromkeys(job_ids, 1), job_ids, timeout, output)
    else:
        shell.show(planned, lambda: [screen.text("\n".join(job_ids))])


def _check(planned: plan.Plan) -> None:
    """Refuse what the stack would refuse, or leave waiting. Raises Refused."""
    for job in planned.asked:
        if job.outcome is plan.Outcome.REFUSED:
            raise Refused(job.error or "refused")
        if job.outcome is plan.Outcome.WAITING:
            raise Refused("no prompt: say --prompt, or give the stack a DefaultPrompt")


@click.command("dry-run")
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
        name, files, poses = plan.folder(paths[0], paths[1:], character, parameters_of(prompt, parameters, context))
        found = plan.plan(shell.stack, name, files, poses)
    elif paths[0].is_file():
        raise click.UsageError("a face alone makes no job: name a pose, too")
    else:
        found = plan.plan(shell.stack, names[0], {})
    shell.show({**asdict(found), "usd": found.usd}, lambda: plans.plan(found))
    if any(job.outcome is plan.Outcome.REFUSED for job in found.asked):
        raise Refused("the contract refuses some of it")
