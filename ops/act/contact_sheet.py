"""Draw the contact sheet: one picture with face, pose and output of each job."""

import math
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
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
MOST_ROWS = 6
"""Up to so many jobs stand one below another. More of them stand in a grid: a strip would be longer than any screen."""
INNER = 8
"""Pixels between the pictures of one job in a grid."""
SMALL = (CELL - INNER) // 2
"""Pixels of a face or pose in a grid, one above the other beside the output."""
CARD = SMALL + INNER + CELL
FONTS = ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf")
"""Fonts with the letters of many languages, by the names under which systems have them."""
SHAPE = 1.5
"""Width of a grid by its height, about: as wide as screens and sheets of paper are."""

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
    sheet = _strip(rows, title) if len(rows) <= MOST_ROWS else _grid(rows, title)
    sheet.save(target, "PNG")


def _strip(rows: Sequence[Row], title: str) -> Image.Image:
    """Draw one job below another: face, pose and output, all of one size."""
    width = 3 * CELL + 4 * GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (CELL + CAPTION) + GAP), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    _write(canvas, title, (GAP, 20), 30, INK)
    for column, name in enumerate(COLUMNS):
        canvas.text((_left(column), HEADER - 8), name, font=_font(17), fill=FAINT, anchor="ls")
    for index, row in enumerate(rows):
        top = HEADER + index * (CELL + CAPTION)
        for column, image in enumerate((row.face, row.pose, *row.outputs[:1])):
            _paste(sheet, image, (_left(column), top))
        if not row.outputs:
            _panel(canvas, row.reason, (_left(2), top))
        _caption(canvas, row, (GAP, top + CELL), width - 2 * GAP)
    return sheet


def _grid(rows: Sequence[Row], title: str) -> Image.Image:
    """Draw many jobs: each output large, with its face and pose small beside it."""
    columns = math.ceil(math.sqrt(len(rows) * SHAPE * (CELL + CAPTION) / (CARD + GAP)))
    height = HEADER + math.ceil(len(rows) / columns) * (CELL + CAPTION) + GAP
    sheet = Image.new("RGB", (columns * (CARD + GAP) + GAP, height), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    _write(canvas, title, (GAP, 28), 36, INK)
    for index, row in enumerate(rows):
        left = GAP + index % columns * (CARD + GAP)
        top = HEADER + index // columns * (CELL + CAPTION)
        _paste(sheet, row.face, (left, top), SMALL)
        _paste(sheet, row.pose, (left, top + SMALL + INNER), SMALL)
        corner = (left + SMALL + INNER, top)
        if row.outputs:
            _paste(sheet, row.outputs[0], corner)
        else:
            _panel(canvas, row.reason, corner)
        _caption(canvas, row, (left, top + CELL), CARD)
    return sheet


def _caption(canvas: ImageDraw.ImageDraw, row: Row, corner: tuple[int, int], width: int) -> None:
    """Write the title and the detail of a job below its pictures, cut to a width in pixels."""
    left, top = corner
    canvas.ellipse((left, top + 15, left + 12, top + 27), fill=GOOD if row.outputs else BAD)
    for text, size, down, color in ((row.title, 18, 10, INK), (row.detail, 15, 34, FAINT)):
        _write(canvas, _cut(text, size, width - 20), (left + 20, top + down), size, color)


def _write(canvas: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], size: int, color: str) -> None:
    canvas.text(corner, text, font=_font(size, text.isascii()), fill=color)


def _cut(text: str, size: int, width: int) -> str:
    """Shorten a text to a width in pixels."""
    font = _font(size, text.isascii())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text} ...") > width:
        text = text[:-1]
    return f"{text.rstrip()} ..."


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)


@cache
def _font(size: int, plain: bool = True) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which has few letters, or for other texts a font of this machine if it has one."""
    for name in () if plain else FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _paste(sheet: Image.Image, stored: Stored, corner: tuple[int, int], side: int = CELL) -> None:
    """Draw a whole image, centred in its cell, which has `side` pixels."""
    left, top = corner
    ImageDraw.Draw(sheet).rectangle((left, top, left + side - 1, top + side - 1), fill=PANEL)
    with Image.open(stored) as image:
        picture = image.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))


def _panel(canvas: ImageDraw.ImageDraw, text: str, corner: tuple[int, int]) -> None:
    """Draw the reason why there is no image in a cell."""
    left, top = corner
    canvas.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=PANEL, outline=BAD)
    kind, _, message = text.partition(": ")
    lines = textwrap.wrap(message, 36)[:9]
    canvas.text((left + 20, top + 20), kind, font=_font(20), fill=BAD)
    canvas.multiline_text((left + 20, top + 56), "\n".join(lines), font=_font(16), fill=INK, spacing=6)
