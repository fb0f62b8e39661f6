"""The console's page in a real browser, on the whole stack: what a person drops, sees, opens and tries again."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
import pytest

from local.pipeline import drop
from local.segmind.jobs import FAILED_TEXT
from local.stack import LocalStack
from tests.console.browser import data, drop_files, picture
from tests.console.served import Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
POSES = ("at-the-camera", "close-up", "wide")
PROMPT = "walking through the rain"
ORDER = ("sending", "waiting", "queued", "submitting", "running", "delivering", "failed", "done")


class LastingStack(LocalStack):
    """A stack whose AWS can end and begin again, with all that it had."""

    def end(self) -> None:
        """End the process that is AWS here, and with it the functions."""
        self._ministack.stop()

    def begin_again(self) -> None:
        """Start it at the same address."""
        port = int(self.endpoint_url.rpartition(":")[2])
        with patch("local.stack.free_port", return_value=port):
            self._start_ministack()


@pytest.fixture(scope="module")
def stack(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LastingStack]:
    """Such a stack, with a limit that lets jobs wait for their turns. Where there is no browser it is not needed."""
    directory = tmp_path_factory.mktemp("console")
    parameters = {
        "SettleSeconds": 1,
        "TypicalInferenceSeconds": 3,
        "SegmindRequestsPerMinute": 30,
    }
    environment = {
        "PERSIST_STATE": "1",
        "STATE_DIR": str(directory / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(directory / "s3"),
    }
    with LastingStack(
        directory, parameters=parameters, emulator=["--latency", "3"], environment=environment
    ) as running:
        running.set_visibility(70)
        yield running


@pytest.fixture(scope="module")
def console(stack: LastingStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The console of the stack."""
    with served(stack, tmp_path_factory.mktemp("page") / "console.log") as found:
        yield found


@pytest.fixture
def faults(stack: LastingStack) -> Iterator[Callable[..., None]]:
    """Order the provider how to misbehave: `faults({"fault": "failed"})`. At the end it behaves again."""

    def order(*plan: dict[str, Any]) -> None:
        url = f"{stack.segmind_base_url}/_emulator/faults"
        httpx.post(url, json={"faults": plan}, trust_env=False).raise_for_status()

    yield order
    order()


# ---- what a person sees ----------------------------------------------------------------------------------------------


def cards(page: "Page", state: str) -> "Locator":
    """The cards in a state."""
    return page.locator(f'.card[data-state="{state}"]')


def watch_jobs(page: "Page") -> None:
    """Note the states of all cards from now on, as they change on the page."""
    page.evaluate(
        """() => {
            window.seen = {};
            const note = () => {
                for (const card of document.querySelectorAll(".card")) {
                    const states = (window.seen[card.dataset.job] ??= []);
                    if (states.at(-1) !== card.dataset.state) states.push(card.dataset.state);
                }
            };
            const what = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] };
            new MutationObserver(note).observe(document.querySelector("main"), what);
            note();
        }"""
    )


def seen(page: "Page") -> dict[str, list[str]]:
    """The states that each job's card has had, one after another, by the job's id."""
    found: dict[str, list[str]] = page.evaluate("window.seen")
    return found


def width_of_result(page: "Page") -> int:
    """The width in pixels of the picture that is shown large."""
    found: int = page.locator(".viewer .stage img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    return found


def prompts(stack: LocalStack) -> list[str]:
    """The prompts of all jobs that the provider took."""
    taken = httpx.get(f"{stack.segmind_base_url}/_emulator/requests", trust_env=False).json()
    return [job["prompt"] for job in taken]


def test_from_the_drop_to_the_results_and_a_failure_that_is_tried_again(
    stack: LastingStack, console: Served, visit: Visit, faults: Callable[..., None]
) -> None:
    from playwright.sync_api import expect

    faults(
        {"fault": "failed", "nth": [2], "match": PROMPT},
        {"fault": "hang", "on": "submit", "nth": [1], "seconds": 5, "match": PROMPT},  # or nobody would see it sent
    )
    page, other = visit(console), visit(console)
    for each in (page, other):
        watch_jobs(each)

    drop_files(page, "body", {f"{name}.png": data("pose", name, full=True) for name in POSES})
    page.locator(".composer").get_by_role("combobox", name="Character").fill("astrid")
    page.get_by_role("textbox", name="Prompt").fill(PROMPT)
    expect(page.locator(".pairs .why")).to_have_text(["it will wait for a face"] * 3)
    page.get_by_role("button", name="Upload, nothing is paid yet").click()
    expect(cards(page, "waiting")).to_have_count(3)
    expect(cards(page, "waiting").first).to_contain_text("no face")
    assert prompts(stack) == []

    drop_files(page, "body", {"face-astrid.png": data("face", 0, full=True)})
    page.get_by_role("button", name="Send 3 jobs for about $0.088").click()
    expect(page.get_by_role("progressbar", name="Progress of").first).to_be_visible()
    for each in (page, other):
        expect(cards(each, "done")).to_have_count(2)
        expect(cards(each, "failed")).to_have_count(1)
        expect(each.locator(".card")).to_have_count(3)
    for each in (page, other):
        found = seen(each)
        waiting = [states for job_id, states in found.items() if job_id.startswith("waiting/")]
        gone_on = [states for job_id, states in found.items() if not job_id.startswith("waiting/")]
        assert [[state for state in states if state != "sending"] for states in waiting] == [["waiting"]] * 3
        assert [states[-1] for states in gone_on].count("done") == len(gone_on) - 1 == 2
        assert {state for states in gone_on for state in states} >= {"queued", "submitting", "running", "failed"}
        for states in gone_on:
            assert states == sorted(states, key=ORDER.index)

    cards(page, "done").first.get_by_role("button").first.click()
    expect(page.get_by_role("button", name="More seeds")).to_be_visible()
    assert width_of_result(page) >= 256
    picture(page, "stack-viewer")
    page.keyboard.press("Escape")

    failed = cards(page, "failed")
    expect(failed).to_contain_text(FAILED_TEXT)
    picture(page, "stack-failed")
    failed.get_by_role("button", name="Retry").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Begin attempt 2?")
    assert len(prompts(stack)) == 3
    question.get_by_role("button", name="Retry for $0.029").click()
    for each in (page, other):
        expect(cards(each, "done")).to_have_count(3)
        (again,) = (states for states in seen(each).values() if "failed" in states)
        assert again[-1] == "done"
        assert "running" in again[again.index("failed") :]
    assert prompts(stack) == [PROMPT] * 4


def test_the_stack_ends_and_begins_again(stack: LastingStack, console: Served, visit: Visit) -> None:
    from playwright.sync_api import expect

    drop(stack, "incoming/hero/poses/dusk.png", data("pose", "dusk"))
    drop(stack, "incoming/hero/job.json", b'{"prompt": "early light"}')
    page = visit(console)
    card = page.get_by_role("article").filter(has=page.get_by_role("button", name="dusk"))
    expect(card).to_contain_text("no face")
    jobs = page.get_by_role("article").count()

    stack.end()
    pages = [page, visit(console)]  # the console itself is there
    for each in pages:
        expect(each.get_by_text("The stack cannot be reached.")).to_be_visible()
        expect(each.get_by_role("article")).to_have_count(jobs)
    page.get_by_role("link", name="Gallery").click()
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(card).to_contain_text("no face")
    card.get_by_role("button").first.click()
    expect(page.get_by_role("dialog", name="A job")).to_contain_text("dusk")
    page.keyboard.press("Escape")
    picture(page, "stack-away")

    stack.begin_again()
    for each in pages:
        expect(each.get_by_text("The stack cannot be reached.")).to_be_hidden()
        expect(each.get_by_role("article")).to_have_count(jobs)
    drop(stack, "incoming/hero/face.png", data("face", 1))
    for each in pages:
        done = cards(each, "done").filter(has=each.get_by_role("button", name="dusk"))
        expect(done).to_have_count(1)
        expect(done.get_by_role("img", name="dusk of hero")).to_be_visible()
