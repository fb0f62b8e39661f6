"""Five hundred photographs in twenty folders, from the drop to the last card, in a real browser."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pillow_heif
import pytest
from PIL import Image

from local.chaos.memory import Sampling, memory
from tests.console.conftest import Console
from tests.corpus import encode, exif
from tests.integration.conftest import BUCKET

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]
pytestmark = pytest.mark.large
FOLDERS, POSES = 20, 24
PREVIEW_SECONDS = 10.0
MOST_MEGABYTES = 300
"""By which the process may grow, the stack in it and the pictures of this test included."""

Visit = Callable[..., "Page"]


def photograph(number: int) -> Image.Image:
    """A picture of six megapixels that lies on its side, another one for each number."""
    noise = Image.effect_noise((750, 500), 20 + number % 7).resize((3000, 2000))
    return Image.merge(
        "RGB", (noise, noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noise.point(lambda at: at // 2))
    )


def write_folders(root: Path) -> int:
    """Write the folders, and return how many bytes they have."""
    base = [photograph(number) for number in range(6)]
    jpegs = [encode(picture, "JPEG", quality=90, exif=exif(6)) for picture in base]
    heic = []
    for picture in base[:2]:
        out = io.BytesIO()
        pillow_heif.from_pillow(picture).save(out, exif=exif(6), quality=70)
        heic.append(out.getvalue())
    total = 0
    for number in range(FOLDERS):
        folder = root / f"character-{number:02}" / "poses"
        folder.mkdir(parents=True)
        for at in range(POSES + 1):
            # Bytes after the end of a picture belong to no other picture: so each file is another one.
            mark = f"{number}/{at}".encode()
            data = heic[at % 2] if at % 12 == 5 else jpegs[at % 6]
            name, ending = f"pose-{at}", "heic" if at % 12 == 5 else "jpg"
            path = folder / f"{name}.{ending}" if at else folder.parent / "face.jpg"
            path.write_bytes(data + mark)
            total += len(data) + len(mark)
        (folder / "._pose-1.jpg").write_bytes(b"\0\5\x16\7")
    return total


class Growth(Sampling):
    """How much larger this process was at most than at the beginning, in MB."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.peak = self.first = memory(os.getpid())

    def sample(self) -> None:
        self.peak = max(self.peak, memory(os.getpid()))

    @property
    def megabytes(self) -> float:
        """In MB."""
        return (self.peak - self.first) / 2**20


def test_five_hundred_files_in_twenty_folders(
    console: Console, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setattr("ops.console.feed.READ_SECONDS", 1.0)  # as for people; the tests' console reads more often
    root = tmp_path / "shoot"
    total = write_folders(root)
    page = visit(console)
    page.get_by_role("button", name="New").click()
    with Growth() as growth:
        began = time.monotonic()
        page.locator("input[webkitdirectory]").set_input_files(root)
        expect(page.locator(".composer .primary")).to_have_text(f"Send {FOLDERS * POSES} jobs for about $14.11")
        expect(page.locator(".group .counts").last).to_have_text(f"{POSES} jobs, $0.71")
        seconds = time.monotonic() - began
    files, size = FOLDERS * (POSES + 1), total / 1e6
    print(f"{files} files, {size:.0f} MB: previewed in {seconds:.1f} s, {growth.megabytes:.0f} MB more memory")
    expect(page.locator(".group")).to_have_count(FOLDERS)
    expect(page.locator(".left-out summary")).to_have_text(f"{FOLDERS} side files ignored")
    # How fast the machine is decides about the seconds: they are a figure to read, and a bound against a wrong growth.
    assert seconds < 6 * PREVIEW_SECONDS
    assert growth.megabytes < MOST_MEGABYTES

    page.get_by_role("button", name="Send 480 jobs").click()
    expect(page.locator('.card[data-state="sending"]').first).to_be_visible()
    expect(page.locator("#total")).to_have_text("480 jobs")
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    keys = [
        entry["Key"]
        for each in console.pipeline.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for entry in each["Contents"]
    ]
    assert len(keys) == FOLDERS * (POSES + 1)
    assert not [key for key in keys if "._" in key]
