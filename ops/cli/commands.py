"""The command line: `python -m ops`."""

import click

from ops.cli import changing, completion, reading, uploading
from ops.cli.shell import Commands, Shell, common, pass_shell
from ops.inspect.suggestions import Words

EPILOG = """
Which stack: --stack NAME, or the environment variable POSEDROP_STACK. Without either, commands use the local stack of
this clone (make up), never one on AWS. Each command first prints on stderr which stack it uses.

\b
Exit codes:
  0  done
  1  AWS, the network or the stack refused; or you answered no
  2  the command line or a list of jobs is wrong, or no stack is named
  3  the stack or the job does not exist
  4  a job failed, or the request is not allowed
  5  status --check: something needs attention; reconcile: the sides differ
  6  not finished within --timeout; the jobs continue
  130  interrupted; sent jobs continue
"""


@click.group(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@common
def main() -> None:
    """Upload pictures to a posedrop stack, follow their jobs, and find out what went wrong."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port of the page [default: any free port].")
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@common
@pass_shell
def console(shell: Shell, port: int, no_open: bool) -> None:
    """Open a page in your browser for all of this.

    The page is served on this machine only, and uses your AWS credentials. Ctrl-C stops it.
    """
    # Only this command needs these imports.
    from ops.console.server import serve

    serve(shell.stack, port, open_browser=not no_open, say=click.echo)


@click.command()
@click.argument("shell", type=Words(completion.SHELLS), metavar="SHELL")
def complete(shell: str) -> None:
    """Print shell code for a command `ops` with completion.

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
