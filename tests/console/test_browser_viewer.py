"""The viewer and the history of a real browser: Back closes a picture, and leaves everything else as it was."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.console.browser import Studio
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]


@pytest.mark.parametrize("view", ["jobs", "gallery"])
def test_back_closes_the_viewer_and_forward_opens_it(console: Console, studio: Studio, visit: Visit, view: str) -> None:
    from playwright.sync_api import expect

    for age, pose in enumerate(("wide", "dusk", "portrait")):
        studio.job("done", "astrid", pose, age=100 * (age + 1))
    studio.job("done", "client-a/hero", "close-up", age=10)
    page = visit(console, view)
    page.locator("#character").select_option("astrid")
    places = page.locator("#list [data-job]")
    expect(places).to_have_count(3)
    address, second = page.url, places.nth(1).get_attribute("data-job")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/jobs?" in request.url else None)
    places.first.locator(".open, .output").click()
    viewer, title = page.locator(".viewer"), page.locator(".facts h2")
    expect(title).to_have_text("wide")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text("dusk")
    page.wait_for_function("id => history.state.viewer.id === id", arg=second)

    page.go_back()
    expect(viewer).to_be_hidden()
    assert page.url == address
    expect(places).to_have_count(3)
    expect(page.locator(f'[data-job="{second}"] button').first).to_be_focused()
    page.go_forward()
    expect(title).to_have_text("dusk")
    expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    page.go_forward()
    expect(viewer).to_be_visible()
    # The browser says with its next frame that the viewer was closed. By then it may be open again.
    page.evaluate("document.querySelector('.viewer').dispatchEvent(new Event('close'))")
    assert page.evaluate("history.state.viewer.id") == second
    # Forward at once after Back, before that frame.
    page.evaluate("addEventListener('popstate', () => history.forward(), { once: true }); history.back()")
    expect(viewer).to_be_visible()
    page.wait_for_function("history.state?.viewer && document.querySelector('.viewer').open")
    expect(title).to_have_text("dusk")
    viewer.get_by_role("button", name="Close", exact=True).click()
    expect(viewer).to_be_hidden()
    assert not asked  # the list stayed as it was

    # Nothing of it is left in the history: the next step back is that of the filter.
    page.go_back()
    expect(places).to_have_count(4)
    expect(viewer).to_be_hidden()


def test_a_reload_keeps_the_viewer_open(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    for age, pose in enumerate(("wide", "dusk")):
        studio.job("done", "astrid", pose, age=100 * (age + 1))
    page = visit(console)
    page.locator(".card .open").first.click()
    expect(page.locator(".facts h2")).to_have_text("wide")
    page.reload()
    expect(page.locator(".facts h2")).to_have_text("wide")
    expect(page.locator(".position")).to_have_text("1 of 2")
    expect(page.locator(".viewer .next")).to_be_enabled()
    page.go_back()
    expect(page.locator(".viewer")).to_be_hidden()
    expect(page.locator(".card")).to_have_count(2)


def test_back_closes_a_comparison_and_a_question_above_the_viewer(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    for age, pose in enumerate(("wide", "dusk")):
        studio.job("done", "astrid", pose, age=100 * (age + 1))
    studio.job("failed", "astrid", "portrait", error={"type": "InferenceFailed", "message": "out of memory"})
    page = visit(console, "gallery")
    page.locator(".tile .pick").nth(0).click()
    page.locator(".tile .pick").nth(1).click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".stage img")).to_have_count(2)
    page.go_back()
    expect(page.locator(".viewer")).to_be_hidden()
    page.go_forward()
    expect(page.locator(".compared h3")).to_have_text(["wide", "dusk"])
    page.go_back()
    page.locator("#view-jobs").click()
    page.locator('.card[data-state="failed"] .open').click()
    page.locator(".viewer").get_by_role("button", name="Retry").click()
    expect(page.get_by_role("dialog", name="Retry portrait?")).to_be_visible()
    page.go_back()
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert not console.pipeline.receive(console.pipeline.queue_url)


@pytest.mark.parametrize(("width", "least"), [(1000, {2: 380, 3: 290, 4: 290}), (1600, {2: 560, 3: 370, 4: 390})])
def test_pictures_that_are_compared_are_as_large_as_the_window_allows(
    console: Console, studio: Studio, visit: Visit, width: int, least: dict[int, int]
) -> None:
    from playwright.sync_api import expect

    for age, pose in enumerate(("wide", "dusk", "portrait", "close-up")):
        studio.job("done", "astrid", pose, age=100 * (age + 1))
    page = visit(console, "gallery", width=width)
    for count, side in least.items():
        for number in range(count):
            page.locator(".tile .pick").nth(number).check()
        page.get_by_role("button", name="Compare").click()
        pictures = page.locator(".stage img")
        expect(pictures).to_have_count(count)
        boxes = [picture.bounding_box() for picture in pictures.all()]
        assert all(box and max(box["width"], box["height"]) >= side for box in boxes), (count, boxes)
        page.keyboard.press("Escape")
        expect(page.locator(".viewer")).to_be_hidden()


def test_the_skip_link_leads_to_the_jobs_and_keeps_the_filters(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=100)
    studio.job("failed", "astrid", "dusk", age=50)
    page = visit(console)
    page.get_by_role("button", name="Failed").click()
    expect(page.locator(".card")).to_have_count(1)
    page.evaluate("document.activeElement.blur()")
    page.get_by_role("link", name="Skip to the jobs").press("Enter")
    expect(page.locator("#list")).to_be_focused()
    expect(page).to_have_url(re.compile(r"#jobs\?state=failed$"))
    expect(page.locator(".card")).to_have_count(1)


def test_nothing_that_is_done_before_the_stack_is_known_is_lost(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import Route, expect

    for age, pose in enumerate(("wide", "dusk")):
        studio.job("done", "astrid", pose, age=100 * (age + 1))
    page = visit(console)
    held: list[Route] = []
    page.route("**/api/stack", lambda route: held.append(route))
    page.reload()
    page.locator(".card .open").first.click()
    expect(page.locator(".facts h2")).to_have_text("wide")
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()
    page.keyboard.press("Control+a")
    selected = page.get_by_role("region", name="Selection")
    with page.expect_response("**/api/edit"):
        selected.get_by_role("button", name="Edit and send again").click()
    (route,) = held
    route.continue_()
    expect(page.locator(".composer .group")).to_have_count(1)
    expect(page.get_by_role("textbox", name="Prompt")).to_be_focused()
