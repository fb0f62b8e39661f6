"""Contact sheets: face, pose and each output of the jobs that succeeded."""

import io
import textwrap
from collections.abc import Iterable

from ops.act.contact_sheet import Row, draw
from ops.console.pictures import NoPicture, Pictures
from ops.errors import NotFound
from ops.inspect.records import newest
from posedrop.aws.record import AnyRecord, Record, Status

ROWS = 40
"""The most outputs on a sheet, because a sheet is one picture in memory. A character's newest come first."""
DETAIL = 110
"""Characters of a prompt that fit on a line."""
TITLE = 60


def sheet(pictures: Pictures, records: Iterable[AnyRecord], character: str) -> bytes:
    """Draw a character's sheet as PNG. Raises NotFound if there is nothing to show, and botocore's errors."""
    title = textwrap.shorten(character, TITLE, placeholder="...") or character[:TITLE]
    found = sorted((record for record in records if record.character == character), key=newest, reverse=True)
    return sheet_of(pictures, found, title)


def sheet_of(pictures: Pictures, records: Iterable[AnyRecord], title: str) -> bytes:
    """Draw the results of some jobs, in their order, as PNG. Raises NotFound if there is nothing to show."""
    done = [record for record in records if record.status is Status.SUCCEEDED]
    one = len({record.character for record in done}) <= 1
    rows: list[Row] = []
    for record in done:
        for number in range(1, len(record.outputs) + 1):
            if len(rows) < ROWS and (row := _row(pictures, record, number, record.pose if one else _both(record))):
                rows.append(row)
    if not rows:
        raise NotFound(f"{title} has no pictures yet" if one else "these jobs have no pictures yet")
    pictures_there = sum(len(record.outputs) for record in done)
    if pictures_there > len(rows):
        title += f": the first {len(rows)} of {pictures_there} pictures"
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
