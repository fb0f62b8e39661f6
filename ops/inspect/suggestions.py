"""What was meant, where a word on the command line is none that is known: commands, statuses, files, ids of jobs."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ops.errors import NotFound
from ops.inspect.records import Records
from ops.stack import Stack

CLOSE = 0.6
"""How close two words must be, from 0 to 1."""
RECENT = 200
"""The newest jobs, whose ids are known."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names what is closest to a word, to stand behind a sentence; empty if nothing is close. Pure."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=CLOSE)
    begun = [name for folded, name in names.items() if word and folded.startswith(word.casefold())]
    found = begun[0] if begun else names[near[0]] if near else ""
    return f" Did you mean {found}?" if found else ""


def no_job(stack: Stack, job_id: str) -> NotFound:
    """The error of an id that no job has. Where one of the newest jobs has an id like it, that is named."""
    records, _ = Records(stack, unreadable=lambda unread: None).newest(RECENT)
    meant = did_you_mean(job_id, (record.job_id for record in records))
    return NotFound(f"there is no job {job_id}.{meant}" if meant else f"there is no job {job_id}")


class Words(click.Choice):
    """One of some words, in any case; the error says them as a person types them, and the closest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word. Raises click.BadParameter."""
        typed = [str(choice).lower() for choice in self.choices]
        if str(value).lower() not in typed:
            meant = did_you_mean(str(value), typed)
            self.fail(f"{value!r} is none of {', '.join(typed)}.{meant}", param, ctx)
        return super().convert(value, param, ctx)


class File(click.Path):
    """A file that is there, or with `folders` a folder; the error names the closest one beside it."""

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__(dir_okay=folders, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises click.BadParameter."""
        if not Path(str(value)).exists():
            self.fail(no_file(Path(str(value))), param, ctx)
        return super().convert(value, param, ctx)


def no_file(path: Path) -> str:
    """Say that a file is not there, and which one beside it has a name like it."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    meant = did_you_mean(path.name, sorted(other.name for other in beside))
    return f"there is no file {path}.{meant}" if meant else f"there is no file {path}"
