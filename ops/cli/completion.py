"""Completion of the command line in a shell, under the name `ops`."""

import shlex
import sys

import click
from click.shell_completion import get_completion_class

from ops.stack import ROOT

VARIABLE = "_OPS_COMPLETE"
"""The environment variable by which the shell asks for completions."""
SHELLS = ("bash", "zsh", "fish")
NAME = "ops"


def script(main: click.Command, shell: str) -> str:
    """Return shell code that defines the command `ops` for this clone, with completion.

    A shell cannot complete `python -m ops`, so the code defines a function `ops`. Click's own scripts (click
    documentation, shell completion) call a program; here they call that command line instead.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"not a supported shell: {shell}")
    command = shlex.join(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "ops"])
    source = kind(main, {}, NAME, VARIABLE).source_template % kind(main, {}, NAME, VARIABLE).source_vars()
    calls = {"bash": "=bash_complete $1)", "zsh": f"=zsh_complete {NAME})", "fish": f"(commandline -t) {NAME})"}
    before, call, after = source.partition(calls[shell])
    begin = call.removesuffix(f"{NAME})").removesuffix("$1)")
    lines = [line for line in f"{before}{begin}{command}){after}".splitlines() if "$+commands" not in line]
    function = f"function {NAME}; {command} $argv; end" if shell == "fish" else f'{NAME}() {{ {command} "$@"; }}'
    return "\n".join([function, *lines, ""])
