"""The page without a mouse, in a real browser: everything is reached by Tab, and nothing covers what has the focus."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.console.browser import POSES, Studio, data, drop_files
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
MOST_STEPS = 150
COVERED = """() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const shown = element.matches(".unseen, .unseen input") ? element.closest("label") ?? element : element;
    const { left, top, width, height } = shown.getBoundingClientRect();
    const [x, y] = [left + width / 2, top + height / 2];
    const there = document.elementFromPoint(x, y);
    const name = element.getAttribute("aria-label") ?? element.textContent.trim();
    if (there && (shown.contains(there) || there.contains(shown))) return [name, ""];
    return [name, `${there?.className || there?.tagName || "nothing"} at ${Math.round(x)}, ${Math.round(y)}`];
}"""
"""The name of what has the focus, and what lies over its middle; null once the page was left."""


def tab_to(page: "Page", name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if (found := page.evaluate(COVERED)) and found[0] == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")


def test_a_failed_job_is_opened_retried_and_a_result_is_downloaded_with_tab_and_enter(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=100)
    studio.job("failed", "astrid", "dusk", age=50, error={"type": "InferenceFailed", "message": "out of memory"})
    page = visit(console)
    tab_to(page, "Skip to the jobs")
    page.keyboard.press("Enter")
    tab_to(page, "duskastrid")
    page.keyboard.press("Enter")
    expect(page.locator(".history li").first).to_be_visible()
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    question = page.get_by_role("dialog", name="Retry dusk?")
    expect(question).to_be_visible()
    tab_to(page, "Retry for $0.029")
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    expect(page.locator(".viewer .toast")).to_contain_text("is retried")
    assert len(console.pipeline.receive(console.pipeline.queue_url)) == 1
    page.keyboard.press("ArrowRight")
    expect(page.locator(".facts h2")).to_have_text("wide")
    expect(page.locator(".history li").first).to_be_visible()
    tab_to(page, "Download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="wide astrid")).to_be_focused()


@pytest.mark.parametrize("width", [400, 1000])
def test_neither_the_tray_nor_the_selection_covers_what_has_the_focus(
    console: Console, studio: Studio, visit: Visit, width: int
) -> None:
    from playwright.sync_api import expect

    for age, name in enumerate(POSES):
        studio.job("done", "astrid", name, age=100 * (age + 1))
    console.pipeline.break_call("s3", "PutObject")
    page = visit(console, width=width, height=700, reduced_motion="reduce")
    drop_files(page, "body", {"face-mine.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    page.get_by_role("button", name="Send 1 job").click()
    expect(page.locator(".tray h2")).to_contain_text("Not all was uploaded")
    page.locator(".card .pick").nth(1).click()
    expect(page.get_by_role("region", name="Selection")).to_be_visible()
    page.locator(".skip").focus()
    names, covered = [], []
    for key, last in (("Tab", "Compare"), ("Shift+Tab", "Skip to the jobs")):
        for _ in range(MOST_STEPS):
            page.keyboard.press(key)
            name, over = page.evaluate(COVERED) or ["the browser", ""]
            names.append(name)
            covered += [f"{key}: {name}: {over}"] if over else []
            if name in (last, "the browser"):
                break
    assert {"Resume", "Select wide of astrid", "Contact sheet"} <= set(names)
    assert all(names)  # every control has a name
    assert not covered
