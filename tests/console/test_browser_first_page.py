"""How a page begins, in a real browser: with few requests, and without a gap before its first event."""

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from posedrop.aws.record import Status
from posedrop.contract.times import rfc3339
from tests.console.browser import Studio
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]


def test_the_first_page_is_asked_for_once_and_before_the_code_is_there(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    page = visit(console)
    page.reload()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#link")).to_have_attribute("data-link", "live")
    begun = page.evaluate("performance.getEntriesByType('resource').map((each) => [each.name, each.initiatorType])")
    first = [[urlsplit(name).path, kind] for name, kind in begun if "limit=60" in name]
    assert first == [["/api/jobs", "link"]]
    files = Counter(urlsplit(name).path for name, _ in begun if "/static/" in name and not name.endswith(".svg"))
    assert set(files.values()) == {1}


def test_what_changed_before_the_first_event_is_not_missed(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("queued")
    page, watching = visit(console), visit(console)
    held: list[Route] = []
    page.route("**/api/events", lambda route: held.append(route))
    page.reload()
    card = page.locator(".card")
    expect(card).to_have_attribute("data-state", "queued")
    console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=rfc3339(time.time()))
    expect(watching.locator(".card")).to_have_attribute("data-state", "running")
    expect(card).to_have_attribute("data-state", "queued")
    assert held
    for route in held:
        route.continue_()
    expect(card).to_have_attribute("data-state", "running")
