"""The command line: `python -m ops`."""

import click

from ops.cli import changing, completion, reading, uploading
from ops.cli.shell import Commands, Shell, common, pass_shell
from ops.inspect.suggestions import Words

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


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@common
def main() -> None:
    """See how a posedrop stack does, find out why an upload did nothing, and set things going again."""


@click.command()
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


@click.command()
@click.argument("shell", type=Words(completion.SHELLS), metavar="SHELL")
def complete(shell: str) -> None:
    """Print what gives a shell the command `ops`, with completion.

    For bash, zsh and fish; in bash: eval "$(.venv/bin/python -m ops complete bash)".
    """
    click.echo(completion.script(main, shell), nl=False)


for _command in (
    *(reading.status, reading.jobs, reading.explain, reading.show, reading.show_costs, reading.show_reconciled),
    *(uploading.upload, uploading.dry_run),
    *(changing.retry, changing.cancel, changing.redrive, changing.list_dead_letters, changing.sweep),
    *(changing.backfill, changing.forget, console, complete),
):
    main.add_command(_command)
