"""What all commands share: the stack, the output, and how an error ends a command."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from ops.cli import screen
from ops.errors import AWS_ERRORS, OpsError
from ops.formatting import printable
from ops.inspect.suggestions import did_you_mean
from ops.stack import Stack, Target, find
from posedrop.aws.record import TIMES
from posedrop.contract.times import rfc3339

F = TypeVar("F", bound=Callable[..., Any])


class Shell:
    """What a command needs from the command line: the stack, and where to print."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.out: Console = screen.console()
        self.err: Console = screen.console(stderr=True)

    @property
    def json(self) -> bool:
        """Return whether the output is JSON."""
        return bool(self.options.get("json"))

    @cached_property
    def stack(self) -> Stack:
        """Return the stack; its name is printed before any command acts on it."""
        target = Target(
            **{name: self.options.get(name) for name in ("stack", "profile", "region")},
            local=bool(self.options.get("local")),
        )
        found = find(target)
        if not self.json:
            self.err.print(screen.text(str(found), "dim"), soft_wrap=True)
        return found

    def show(self, data: Any, view: Callable[[], Sequence[screen.Part]]) -> None:
        """Print a result: its data as JSON, or its view."""
        if self.json:
            click.echo(json.dumps(_plain(data), indent=2, ensure_ascii=False, default=str))
        else:
            screen.show(self.out, view())

    def say(self, text: str, style: str = "") -> None:
        """Print a message besides the result, on stderr."""
        self.err.print(screen.text(text, style), soft_wrap=True)

    def confirm(self, question: str, *, yes: bool, terminal: bool = False) -> None:
        """Ask, unless `yes`. Raises click.Abort if the answer is no.

        `terminal`: only a person at a terminal may answer, not a pipe. Raises click.UsageError if nobody can be asked.
        """
        if yes:
            return
        if self.json:
            raise click.UsageError(f"{question} Add --yes: --json cannot ask.")
        if terminal and not has_terminal():
            raise click.UsageError(f"{question} Add --yes: there is no terminal to ask on.")
        click.confirm(printable(question), err=True, abort=True)


def has_terminal() -> bool:
    """Return whether there is a terminal to ask on."""
    return sys.stdin.isatty()


pass_shell = click.make_pass_decorator(Shell, ensure=True)


class Commands(click.Group):
    """All commands. Each error becomes one line on stderr and an exit code."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command. Raises click.UsageError, which suggests the closest one."""
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
        except AWS_ERRORS as exc:
            _fail(str(exc) or type(exc).__name__, 1, exc)
        except KeyboardInterrupt:
            click.echo("\nInterrupted: sent jobs continue.", err=True)
            raise click.exceptions.Exit(130) from None


def _fail(text: str, exit_code: int, cause: Exception) -> NoReturn:
    failure = click.ClickException(printable(" ".join(text.split())))
    failure.exit_code = exit_code
    raise failure from cause


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name:
        ctx.ensure_object(Shell).options[parameter.name] = value


def common(function: F) -> F:
    """Add the options that every command has; they may also stand before the command."""
    for name, text in (
        ("--json", "Print the result as JSON."),
        ("--region NAME", "The stack's region."),
        ("--profile NAME", "The AWS CLI's profile."),
        ("--local", "The local stack of this clone (.local/stack.json)."),
        ("--stack NAME", "The CloudFormation stack, or a local stack's state file (.json)."),
    ):
        option, _, value = name.partition(" ")
        function = click.option(
            option, help=text, metavar=value or None, is_flag=not value, expose_value=False, callback=_remember
        )(function)
    return function


def with_texts(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dataclass as an object of JSON, a record's times as RFC 3339."""
    return {name: rfc3339(value) if name in TIMES and isinstance(value, float) else value for name, value in fields}


def _plain(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        return asdict(data, dict_factory=with_texts)
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return data
