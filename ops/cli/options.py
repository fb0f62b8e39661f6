"""Options that several commands share, and the types of their values."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from posedrop.contract.times import DAY, HOUR, MINUTE, epoch


class Duration(click.ParamType):
    """A duration as `90`, `90s`, `30m`, `12h` or `7d`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        seconds = _seconds(str(value))
        if seconds is None:
            self.fail(f"{value!r} is not a duration: use 90, 90s, 30m, 12h or 7d", param, ctx)
        return seconds


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    return float(found[1]) * {"": 1, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY}[found[2]] if found else None


class Since(click.ParamType):
    """A past time: a duration before now (90s, 30m, 12h, 7d) or a date (2026-11-23, in UTC)."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Callable[[float], float]:
        """Return a function from the present time to the past time; both in seconds since the epoch."""
        seconds = _seconds(str(value))
        if seconds is not None:
            return lambda now: now - seconds
        try:
            day = epoch(f"{date.fromisoformat(str(value))}T00:00:00Z")
        except ValueError:
            self.fail(f"{value!r} is neither a duration (12h, 7d) nor a date (2026-11-23)", param, ctx)
        return lambda now: day


since_option = click.option(
    "--since",
    type=Since(),
    default="7d",
    show_default=True,
    metavar="AGE|DAY",
    help="Start 12h or 7d ago, or on a date (2026-11-23).",
)


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
wait_option = click.option("--wait", is_flag=True, help="Wait for the jobs to end.")
timeout_option = click.option("--timeout", type=Duration(), default="1h", show_default=True, help="How long to wait.")
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save the images in this directory when the jobs have ended.",
)


def parameters_of(prompt: str | None, named: Sequence[str], context: str | None) -> dict[str, Any]:
    """Return the parameters of the options, in the form of a job file. Values that are valid JSON are parsed."""
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
