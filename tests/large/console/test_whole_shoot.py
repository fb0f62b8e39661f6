"""Twenty characters with ten poses each on the local stack, from the drop of a folder to the last result seen."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.stack import LocalStack
from tests.console.browser import data, scroll_down
from tests.console.served import Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]
pytestmark = pytest.mark.large
CHARACTERS, POSES = 20, 10
JOBS = CHARACTERS * POSES
TWENTY_MINUTES = 1_200_000
"""In milliseconds."""

Visit = Callable[..., "Page"]


@pytest.fixture
def whole_stack(tmp_path: Path) -> Iterator[LocalStack]:
    """The template on the local stack. Jobs take two seconds, and the limit does not hold them back."""
    parameters: dict[str, str | int] = {
        "SettleSeconds": 1,
        "SegmindRequestsPerMinute": 600,
        "DefaultPrompt": "walking through the rain",
    }
    with LocalStack(tmp_path / "stack", parameters=parameters, emulator=["--latency", "2"]) as running:
        yield running


@pytest.fixture
def whole_console(whole_stack: LocalStack, tmp_path: Path) -> Iterator[Served]:
    """Its console."""
    with served(whole_stack, tmp_path / "console.log") as found:
        yield found


def write_folders(root: Path) -> None:
    """Write a folder for each character, each file with bytes of its own."""
    for number in range(CHARACTERS):
        folder = root / f"character-{number:02}"
        (folder / "poses").mkdir(parents=True)
        (folder / "face.png").write_bytes(data("face", number, full=True))
        for at in range(POSES):
            # Bytes after the end of a picture make it another file, which is cleaned before it is sent.
            name = ("at-the-camera", "close-up", "wide", "portrait")[at % 4]
            mark = f"{number}/{at}".encode()
            (folder / "poses" / f"pose-{at}.png").write_bytes(data("pose", name, full=True) + mark)


def test_from_the_drop_of_a_folder_to_the_last_result(whole_console: Served, visit: Visit, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    root = tmp_path / "shoot"
    write_folders(root)
    page = visit(whole_console)
    page.get_by_role("button", name="New").click()
    began = time.monotonic()
    page.locator("input[webkitdirectory]").set_input_files(root)
    page.get_by_role("button", name=f"Send {JOBS} jobs for about").click()
    expect(page.locator(".card").first).to_be_visible()
    shown = time.monotonic() - began
    expect(page.locator("#total")).to_have_text(f"{JOBS} jobs")
    expect(page.locator(".cell.done .value")).to_have_text(str(JOBS), timeout=TWENTY_MINUTES)
    print(f"{JOBS} jobs: first cards after {shown:.1f} s, all results after {time.monotonic() - began:.0f} s")

    scroll_down(page, JOBS)
    expect(page.locator('.card[data-state="done"]')).to_have_count(JOBS)
    page.locator(".card").last.get_by_role("button").first.click()
    picture = page.locator(".viewer .stage img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 256
