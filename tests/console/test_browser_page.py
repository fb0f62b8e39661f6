"""The page as a whole, in a real browser: its size, its speed, its looks."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest

from ops.console.app import STATIC
from posedrop.segmind.requests import Request, RequestStatus
from tests.console.browser import RULES_OF_COLOUR, Studio, axe, drop_files, drop_folder, picture, scroll_down
from tests.console.browser import data as image_data
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
WIDTHS = (400, 1000, 1600)
RULES: dict[Literal["light", "dark"], tuple[str, ...]] = {"light": (), "dark": RULES_OF_COLOUR}
"""What axe checks in each scheme: all, then what depends on colours."""


def test_the_whole_code_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 200_000


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert "style=" not in text
        assert "//" not in "".join(line for line in text.splitlines() if "http" in line)


@pytest.mark.parametrize("many", [200, pytest.param(2000, marks=pytest.mark.large)])
def test_many_jobs_load_in_pages(console: Console, visit: Visit, many: int) -> None:
    from playwright.sync_api import expect

    console.seed(many, characters=25)
    page = visit(console)
    pages: list[str] = []
    page.on("request", lambda request: pages.append(request.url) if "/api/jobs?" in request.url else None)
    page.reload()
    cards = page.locator(".card")
    expect(cards.first).to_be_visible()
    scroll_down(page, many)
    expect(cards).to_have_count(many)
    following = [url for url in pages if "cursor=" in url]
    assert len(following) == len(set(following)) >= many // 100  # in pages, and each once


def _pictures(page: "Page", name: str) -> None:
    """Nothing is wider than the window, and axe finds nothing, in light and in dark. What it looks like is kept."""
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(
            """Promise.all([...document.images]
                .filter((image) => image.loading !== "lazy").map((image) => image.decode().catch(() => 0)))"""
        )
        picture(page, f"{name}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert axe(page, *rules) == ""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scene", ["empty", "busy"])
def test_what_it_looks_like(console: Console, studio: Studio, visit: Visit, scene: str, width: int) -> None:
    if scene == "busy":
        studio.busy()
    page = visit(console, width=width, height=800 if width < 500 else 900)
    name = f"{scene}-{width}"
    _pictures(page, f"jobs-{name}")
    if scene == "busy":
        page.locator('.card[data-state="failed"] .open').first.click()
        page.wait_for_selector(".history li")
        _pictures(page, f"failed-{name}")
        page.keyboard.press("Escape")
        page.locator("#view-gallery").click()
        page.wait_for_selector(".tile")
        _pictures(page, f"gallery-{name}")
        page.locator(".tile .output").nth(2).click()
        page.wait_for_selector(".history li")
        _pictures(page, f"viewer-{name}")
        page.keyboard.press("Escape")
        drop_files(page, "body", {"face-astrid.png": image_data("face", 0), "broken.png": b"none"})
        page.get_by_role("textbox", name="Prompt").fill("standing in the rain at night, neon reflections, 35 mm")
        poses = {f"{name}.png": image_data("pose", name) for name in ("at-the-camera", "close-up", "wide")}
        drop_files(page, ".composer", poses)
        page.wait_for_selector('[data-outcome="new"]')
        _pictures(page, f"new-{name}")


@pytest.mark.parametrize("width", WIDTHS)
def test_what_many_look_like(console: Console, studio: Studio, visit: Visit, width: int) -> None:
    for number, name in enumerate(("wide", "dusk", "portrait", "close-up")):
        paid = Request(
            1,
            time.time() - 100,
            RequestStatus.ACCEPTED,
            f"request-{number}",
            cost_usd=0.0294,
            charged_usd=0.0294,
        )
        studio.job("done", "astrid", name, age=100 * (number + 1), requests=[paid])
    page = visit(console, width=width, height=800 if width < 500 else 900)
    page.locator(".card .open").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    console.pipeline.break_call("s3", "PutObject")
    folders = {
        f"shoot/{name}/face.png": image_data("face", at) for at, name in enumerate(("anna", "ben", "carla", "dora"))
    }
    for name in ("anna", "ben", "carla"):
        folders |= {f"shoot/{name}/{each}.png": image_data("pose", each) for each in ("wide", "dusk")}
    drop_folder(page, "body", {**folders, "shoot/ben/broken.png": b"none", "shoot/dora/notes.txt": b"none"})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    page.wait_for_selector(".group .wrong:not(:empty)")
    page.locator(".group summary").first.click()
    page.wait_for_selector('.pairs [data-outcome="new"]')
    _pictures(page, f"folders-{width}")
    page.locator(".composer .primary").click()
    page.wait_for_selector(".tray [data-error], .upload[data-error]")
    _pictures(page, f"selection-{width}")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector(".compared")
    _pictures(page, f"compare-{width}")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Spent today").click()
    page.wait_for_selector(".tables")
    _pictures(page, f"costs-{width}")
