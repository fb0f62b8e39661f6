"""Contact sheets: face, pose and each output of the jobs that succeeded."""

import io
import textwrap
from collections.abc import Iterable

from ops.act.contact_sheet import Row, draw
from ops.console.pictures import NoPicture, Pictures
from ops.errors import NotFound
from ops.inspect.records import newest
from posedrop.aws.record import AnyRecord, Record, Status

ROWS = 30
"""The most pictures on one page of a sheet, because a page is one picture in memory. The newest come first."""
DETAIL = 110
"""The most characters of a prompt. What does not fit on its line is cut."""
TITLE = 60


def results(records: Iterable[AnyRecord], character: str) -> list[Record]:
    """Return a character's jobs that succeeded, the newest first."""
    found = (each for each in records if each.character == character and each.status is Status.SUCCEEDED)
    return sorted(found, key=newest, reverse=True)


def sheet(pictures: Pictures, records: Iterable[AnyRecord], character: str, page: int = 1) -> bytes:
    """Draw a page of a character's sheet as PNG. Raises NotFound if there is nothing to show, and botocore's errors."""
    title = textwrap.shorten(character, TITLE, placeholder="...") or character[:TITLE]
    return sheet_of(pictures, results(records, character), title, page)


def sheet_of(pictures: Pictures, records: Iterable[AnyRecord], title: str, page: int = 1) -> bytes:
    """Draw a page of some jobs' results, in their order, as PNG. Raises NotFound if there is nothing to show."""
    done = [record for record in records if record.status is Status.SUCCEEDED]
    one = len({record.character for record in done}) <= 1
    wanted = [(record, number) for record in done for number in range(1, len(record.outputs) + 1)]
    first = (page - 1) * ROWS
    drawn = (
        _row(pictures, record, number, record.pose if one else _both(record))
        for record, number in wanted[first : first + ROWS]
    )
    rows = [row for row in drawn if row]
    if not rows:
        raise NotFound(f"{title} has no pictures yet" if one else "these jobs have no pictures yet")
    if len(wanted) > len(rows):
        title += f": pictures {first + 1} to {min(first + ROWS, len(wanted))} of {len(wanted)}"
    buffer = io.BytesIO()
    draw(rows, buffer, title)
    return buffer.getvalue()


def _both(record: Record) -> str:
    return textwrap.shorten(f"{record.character} / {record.pose}", TITLE, placeholder="...")


def _row(pictures: Pictures, record: Record, number: int, name: str) -> Row | None:
    """Return the row of one output, or None if one of its three images is missing or invalid."""
    try:
        face, pose, output = (
            io.BytesIO(pictures.get(pictures.source(record, what, number), "thumb").data)
            for what in ("face", "pose", "output")
        )
    except (NotFound, NoPicture):
        return None
    prompt = textwrap.shorten(str(record.parameters.get("prompt", "")), DETAIL, placeholder=" ...")
    return Row(f"{name}, seed {record.parameters.get('seed')}", prompt, face, pose, [output])
