"""The page as a whole, in a real browser: its size, its speed, its looks."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ops.console.app import STATIC
from tests.console.browser import Studio, drop_files, picture
from tests.console.browser import data as image_data
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
MANY = 2000
WIDTHS = (400, 1000, 1600)
SCHEMES = ("light", "dark")


def test_the_whole_code_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 150_000


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert "style=" not in text
        assert "//" not in "".join(line for line in text.splitlines() if "http" in line)


def test_two_thousand_jobs_load_in_pages(console: Console, visit: Visit, capsys: pytest.CaptureFixture[str]) -> None:
    from playwright.sync_api import expect

    console.seed(MANY, characters=25)
    page = visit(console)  # the table is read
    page.goto("about:blank")
    page.wait_for_timeout(2000)  # the thumbnails that were asked for are made: they would be ahead of the page
    pages: list[str] = []
    page.on("request", lambda request: "/api/jobs?" in request.url and pages.append(request.url))
    page.goto(console.base)
    page.wait_for_selector(".card")
    paint = page.evaluate(
        """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
            .observe({ type: "largest-contentful-paint", buffered: true }))"""
    )
    first = page.evaluate('performance.getEntriesByName("first-contentful-paint")[0].startTime')
    cards = page.evaluate(
        """() => Math.max(...performance.getEntriesByType("resource")
            .filter(({ name }) => name.includes("/api/jobs?")).map(({ responseEnd }) => responseEnd))"""
    )
    began = time.monotonic()
    count = page.locator(".card").count()
    while count < MANY and time.monotonic() < began + 90:
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(30)
        count = page.locator(".card").count()
    expect(page.locator(".card")).to_have_count(MANY)
    frames = page.evaluate(
        """async () => {
            const times = [];
            scrollTo(0, 0);
            for (let at = 0; at < 90; at++) {
                times.push(await new Promise(requestAnimationFrame));
                scrollBy(0, 240);
            }
            return times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
        }"""
    )
    following = [url for url in pages if "cursor=" in url]
    assert len(following) == len(set(following)) >= 20  # in pages, and each once
    median = frames[len(frames) // 2]
    with capsys.disabled():
        print(
            f"\n{MANY} jobs: first paint {first:.0f} ms, largest {paint:.0f} ms, first cards {cards:.0f} ms; "
            f"a frame while scrolling: median {median:.0f} ms, 95 % {frames[int(len(frames) * 0.95)]:.0f} ms"
        )


def _picture(page: "Page", name: str) -> None:
    """Keep it once its pictures are there."""
    page.evaluate(
        "Promise.all([...document.images].filter((i) => i.loading !== 'lazy').map((i) => i.decode().catch(() => 0)))"
    )
    page.wait_for_timeout(600)
    picture(page, name)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scene", ["empty", "busy", "failures"])
def test_what_it_looks_like(
    console: Console, studio: Studio, visit: Visit, scene: str, width: int, scheme: str
) -> None:
    if scene != "empty":
        studio.busy(failures=scene == "failures")
    page = visit(console, width=width, height=800 if width < 500 else 900, color_scheme=scheme)
    name = f"{scene}-{width}-{scheme}"
    _picture(page, f"watch-{name}")
    if scene == "failures":
        page.locator('.card[data-state="failed"] .open').first.click()
        page.wait_for_selector(".history li")
        _picture(page, f"failed-{name}")
    if scene == "busy":
        page.locator("#view-look").click()
        page.wait_for_selector(".tile")
        _picture(page, f"look-{name}")
        page.locator(".tile .output").nth(2).click()
        page.wait_for_selector(".history li")
        _picture(page, f"viewer-{name}")
        page.keyboard.press("Escape")
        drop_files(page, "body", {"face-astrid.png": image_data("face", 0), "broken.png": b"none"})
        page.get_by_role("textbox", name="Prompt").fill("standing in the rain at night, neon reflections, 35 mm")
        poses = {f"{name}.png": image_data("pose", name) for name in ("at-the-camera", "close-up", "wide")}
        drop_files(page, ".composer", poses)
        page.wait_for_selector('[data-outcome="new"]')
        _picture(page, f"drop-{name}")
