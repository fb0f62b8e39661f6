"""A character's contact sheet: face, pose and each output of the jobs that are done."""

import io
import textwrap
from collections.abc import Iterable

from ops.act.contact_sheet import Row, draw
from ops.console.pictures import NoPicture, Pictures
from ops.errors import NotFound
from ops.inspect.records import newest
from posedrop.aws.record import Record, Status

ROWS = 40
"""The newest outputs: a sheet is one picture in memory."""
DETAIL = 110
"""Characters of a prompt that fit on a line."""
TITLE = 60


def sheet(pictures: Pictures, records: Iterable[Record], character: str) -> bytes:
    """The sheet as PNG. Raises NotFound if the character has nothing to show; errors of S3 pass."""
    done = [record for record in records if record.character == character and record.status is Status.SUCCEEDED]
    rows: list[Row] = []
    for record in sorted(done, key=newest, reverse=True):
        for number in range(1, len(record.outputs) + 1):
            if len(rows) < ROWS and (row := _row(pictures, record, number)):
                rows.append(row)
    if not rows:
        raise NotFound(f"{character} has no pictures yet")
    pictures_there = sum(len(record.outputs) for record in done)
    title = textwrap.shorten(character, TITLE, placeholder="...") or character[:TITLE]
    if pictures_there > len(rows):
        title += f": {len(rows)} of {pictures_there} pictures, the newest"
    buffer = io.BytesIO()
    draw(rows, buffer, title)
    return buffer.getvalue()


def _row(pictures: Pictures, record: Record, number: int) -> Row | None:
    """One output; None if one of the three images is not there, or none."""
    try:
        face, pose, output = (
            io.BytesIO(pictures.get(pictures.source(record, what, number), "thumb").data)
            for what in ("face", "pose", "output")
        )
    except (NotFound, NoPicture):
        return None
    prompt = textwrap.shorten(str(record.parameters.get("prompt", "")), DETAIL, placeholder=" ...")
    return Row(f"{record.pose}, seed {record.parameters.get('seed')}", prompt, face, pose, [output])
