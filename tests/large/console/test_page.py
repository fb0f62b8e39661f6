"""The page with two thousand jobs, in a real browser: prints what a person waits for."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from bench.page import NOTE_FIRST_CARDS
from posedrop.aws.record import Status
from tests.console.browser import Studio
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]
pytestmark = pytest.mark.large
JOBS = 2000
Visit = Callable[..., "Page"]


@pytest.mark.parametrize("unfinished", [60, 1000])
def test_two_thousand_jobs(
    console: Console, studio: Studio, visit: Visit, monkeypatch: pytest.MonkeyPatch, unfinished: int
) -> None:
    """Some dozens are unfinished at a plan's limit; of a thousand moto alone needs a second for each reading."""
    from playwright.sync_api import expect

    monkeypatch.setattr("ops.console.feed.READ_SECONDS", 1.0)  # as for people; the tests' console reads more often
    console.seed(JOBS, states=("done", "done", "done", "failed"), characters=25)
    console.seed(2 * unfinished, characters=25)  # every second of these; they are the newest
    page = visit(console)
    page.add_init_script(NOTE_FIRST_CARDS)
    loads = []
    for _ in range(3):
        page.reload()
        expect(page.locator(".card").first).to_be_visible()
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
        loads.append((paint, page.evaluate("window.firstCards")))
    print(f"{JOBS} jobs: first paint after {min(paint for paint, _ in loads):.0f} ms, ", end="")
    print(f"first cards after {min(cards for _, cards in loads):.0f} ms (the best of three loads)")
    waits = []
    for pause in (0.0, 0.3, 0.6, 0.9, 0.2):  # a change may come at any time between two readings
        record = studio.job("queued")
        card = page.locator(f'[data-job="{record.job_id}"]')
        expect(card).to_have_attribute("data-state", "queued")
        time.sleep(pause)
        began = time.monotonic()
        sent = time.time()
        console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=sent)
        expect(card).to_have_attribute("data-state", "running")
        waits.append(time.monotonic() - began)
    print(f"{unfinished} unfinished: a change is on the page after ", end="")
    print(f"{sorted(waits)[len(waits) // 2]:.1f} s, at most {max(waits):.1f} s")
