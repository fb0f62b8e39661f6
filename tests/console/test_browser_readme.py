"""The README's picture of the page: a stack at work, every state in sight. `make screenshot` renews it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.console.browser import Studio, picture
from tests.console.conftest import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
SCENE = (
    ("submitting", "astrid", "low-angle", 1),
    ("running", "client-a/hero", "at-the-camera", 5),
    ("queued", "mission/commander", "portrait", 8),
    ("done", "astrid", "wide", 12),
    ("running", "mission/commander", "dusk", 19),
    ("failed", "client-a/hero", "close-up", 24),
    ("done", "client-a/hero", "portrait", 31),
    ("waiting", "night shoot", "dusk", 42),
    ("done", "astrid", "at-the-camera", 54),
    ("done", "mission/commander", "close-up", 71),
    ("done", "client-a/hero", "dusk", 88),
    ("done", "astrid", "portrait", 105),
)
EARLIER = 36
"""Jobs that were done before."""


def use_the_limit(console: Console) -> None:
    """Let a plan of 50 a minute be in use, and some money be spent."""
    console.stack.parameters["SegmindRequestsPerMinute"] = "50"  # type: ignore[index]
    gate, now = console.stack.gate, time.time()
    for _ in range(len(SCENE) + EARLIER):
        gate.budgets.charge(now)
    state = gate.read(now)
    gate.reserve(state, gate.opening(state, now), now, [0] * 24)


def test_the_picture_for_the_readme(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    use_the_limit(console)
    studio.full = True
    for index in range(EARLIER):
        at = time.time() - 130 - 37 * index
        studio.job("done", "astrid", "wide", age=130 + 37 * index, created_at=at - 38 - index * 11 % 17)
    more = {"failed": {"error": {"type": "InferenceFailed", "message": "CUDA out of memory"}}}
    for state, character, pose, age in SCENE:
        if state == "waiting":
            studio.waiting(character, pose, age)
        else:
            studio.job(state, character, pose, age, **more.get(state, {}))
    page = visit(console, width=1000, height=930, color_scheme="light")
    cards = page.get_by_role("article")
    expect(cards).to_have_count(len(SCENE) + EARLIER)
    assert cards.evaluate_all("cards => cards.map(card => card.dataset.state)")[: len(SCENE)] == [
        state for state, *_ in SCENE
    ]
    expect(page.get_by_role("img", name="wide of astrid").first).to_be_visible()
    page.evaluate(
        """() => Promise.all([...document.images]
            .filter((image) => image.getBoundingClientRect().top < innerHeight)
            .map((image) => image.decode()))"""
    )
    picture(page, "readme")
