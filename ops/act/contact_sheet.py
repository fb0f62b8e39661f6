"""Draw the contact sheet: one picture with face, pose and output of each job side by side."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw, ImageFont

CELL = 320
GAP = 24
CAPTION = 66
HEADER = 92
BACKGROUND, PANEL, INK, FAINT = "#f5f4f0", "#e7e5de", "#22211e", "#77746b"
GOOD, BAD = "#2f7d4f", "#b3372f"
COLUMNS = ("Face", "Pose", "Output")

Stored = Path | IO[bytes]


@dataclass(frozen=True)
class Row:
    """One job: its two images, its outputs (none if it failed) or the reason, a title, and a line below it."""

    title: str
    detail: str
    face: Stored
    pose: Stored
    outputs: Sequence[Stored]
    reason: str = ""


def draw(rows: Sequence[Row], target: Stored, title: str = "posedrop") -> None:
    """Draw the rows below a title, and store the picture (PNG)."""
    width = 3 * CELL + 4 * GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (CELL + CAPTION) + GAP), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    canvas.text((GAP, 20), title, font=_font(30), fill=INK)
    for column, name in enumerate(COLUMNS):
        canvas.text((_left(column), HEADER - 8), name, font=_font(17), fill=FAINT, anchor="ls")
    for index, row in enumerate(rows):
        top = HEADER + index * (CELL + CAPTION)
        for column, image in enumerate((row.face, row.pose, *row.outputs[:1])):
            _paste(sheet, image, (_left(column), top))
        if not row.outputs:
            _panel(canvas, row.reason, (_left(2), top))
        color = GOOD if row.outputs else BAD
        canvas.ellipse((GAP, top + CELL + 15, GAP + 12, top + CELL + 27), fill=color)
        canvas.text((GAP + 20, top + CELL + 10), row.title, font=_font(18), fill=INK)
        canvas.text((GAP + 20, top + CELL + 34), row.detail, font=_font(15), fill=FAINT)
    sheet.save(target, "PNG")


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _paste(sheet: Image.Image, stored: Stored, corner: tuple[int, int]) -> None:
    """Draw a whole image, centred in its cell."""
    left, top = corner
    ImageDraw.Draw(sheet).rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=PANEL)
    with Image.open(stored) as image:
        picture = image.convert("RGB")
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))


def _panel(canvas: ImageDraw.ImageDraw, text: str, corner: tuple[int, int]) -> None:
    """Draw the reason why there is no image in a cell."""
    left, top = corner
    canvas.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=PANEL, outline=BAD)
    kind, _, message = text.partition(": ")
    lines = textwrap.wrap(message, 36)[:9]
    canvas.text((left + 20, top + 20), kind, font=_font(20), fill=BAD)
    canvas.multiline_text((left + 20, top + 56), "\n".join(lines), font=_font(16), fill=INK, spacing=6)
