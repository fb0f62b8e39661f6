"""Suggest the closest known word for an unknown one: commands, statuses, files, ids of jobs."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ops.errors import NotFound
from ops.inspect.records import Records
from ops.stack import Stack

CLOSE = 0.6
"""The least similarity of two words, from 0 to 1."""
RECENT = 200
"""The number of newest jobs whose ids are compared."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that suggests the closest word; empty if nothing is close. Pure.

    It follows a sentence, and begins with a space.
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=CLOSE)
    begun = [name for folded, name in names.items() if word and folded.startswith(word.casefold())]
    found = begun[0] if begun else names[near[0]] if near else ""
    return f" Did you mean {found}?" if found else ""


def no_job(stack: Stack, job_id: str) -> NotFound:
    """Return the error for an unknown job id, which suggests a similar id of one of the newest jobs."""
    records, _ = Records(stack, unreadable=lambda unread: None).newest(RECENT)
    meant = did_you_mean(job_id, (record.job_id for record in records))
    return NotFound(f"there is no job {job_id}.{meant}" if meant else f"there is no job {job_id}")


class Words(click.Choice):
    """One of some words, in any case. The error lists them in small letters, and suggests the closest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word. Raises click.BadParameter."""
        typed = [str(choice).lower() for choice in self.choices]
        if str(value).lower() not in typed:
            meant = did_you_mean(str(value), typed)
            self.fail(f"{value!r} is not one of {', '.join(typed)}.{meant}", param, ctx)
        return super().convert(value, param, ctx)


class File(click.Path):
    """An existing file, or with `folders` a folder; the error suggests the closest name in the same folder."""

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__(dir_okay=folders, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises click.BadParameter."""
        if not Path(str(value)).exists():
            self.fail(no_file(Path(str(value))), param, ctx)
        return super().convert(value, param, ctx)


def no_file(path: Path) -> str:
    """Return that a file does not exist, and the most similar name in the same folder."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    meant = did_you_mean(path.name, sorted(other.name for other in beside))
    return f"there is no file {path}.{meant}" if meant else f"there is no file {path}"
