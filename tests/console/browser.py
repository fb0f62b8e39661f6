"""A real browser on the console. Where there is none, its tests are left out, and the summary says so."""

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageOps

from local.browsers import NAMES, executable
from local.segmind.render import Order, compose
from posedrop.aws.record import JobStatus, Record, Status, WaitingRecord
from posedrop.contract.job import waiting_id
from posedrop.segmind.requests import Request
from tests.console.conftest import Console
from tests.integration.conftest import BUCKET, OUTPUTS
from tests.support import HANGS, ROOT, SAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PICTURES = ROOT / ".local" / "console"
LEFT_OUT = "no browser for the console's page"
PATIENCE = 1000 * HANGS
"""In milliseconds."""
TIMES = """
    const soon = setTimeout;
    setTimeout = (action, milliseconds, ...rest) => {
        const factor = milliseconds < 200 ? 1 : milliseconds < 4000 ? 0.1 : 100;
        return soon(action, factor * milliseconds, ...rest);
    };
"""
"""The page waits a tenth of its time. What it shows for longer stays until a busy machine has seen it."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which tests were left out for want of a browser, and what to install."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if LEFT_OUT in str(report.longrepr)]
    if not skipped:
        return
    terminalreporter.section("THE CONSOLE'S PAGE WAS NOT TESTED", sep="!", red=True, bold=True)
    terminalreporter.line(
        f"There is no browser here ({', '.join(NAMES)}). Install one: apt-get install chromium-headless-shell"
    )
    terminalreporter.line(f"{len(skipped)} tests were left out:")
    for report in skipped:
        terminalreporter.line(f"  {report.nodeid}")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium without a window. It ends with the module: its event loop must not meet those of other tests."""
    path = executable()
    if path is None:
        pytest.skip(LEFT_OUT)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # A container has no namespaces for the browser's own sandbox.
        found = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer"]
        )
        yield found
        found.close()


@dataclass
class Visits:
    """Opens pages, and keeps what they asked for and complained of. `faults`: errors that a test expects."""

    browser: "Browser"
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    faults: bool = False
    contexts: list["BrowserContext"] = field(default_factory=list)

    def open(
        self,
        console: Console,
        view: str = "jobs",
        width: int = 1280,
        height: int = 900,
        at: float | None = None,
        **options: Any,
    ) -> "Page":
        """A page of its own, as by another person, that has shown what there is. `at`: the only time of its clock."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        self.contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(TIMES)
        page = context.new_page()
        if at is not None:
            page.clock.set_fixed_time(datetime.fromtimestamp(at, UTC))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.goto(console.url)
        if view != "jobs":
            page.locator(f"#view-{view}").click()
        page.wait_for_selector("#link[data-link=live]")
        page.wait_for_selector("#list > *, #empty")
        return page


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Open the console's page: `visit(console)`. At the end nothing may have been asked of another host."""
    visits = Visits(browser)
    yield visits.open
    for context in visits.contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in visits.requests if not url.startswith(("blob:", "data:"))}
    assert hosts <= {"127.0.0.1"}
    unexpected = [text for text in visits.complaints if "Failed to load resource" not in text]
    assert not unexpected


# ---- pictures that look like some ------------------------------------------------------------------------------------

POSES = {
    "at-the-camera": (0, 0, 512, 512),
    "low-angle": (60, 150, 460, 512),
    "close-up": (90, 40, 350, 300),
    "wide": (0, 60, 512, 400),
    "portrait": (70, 0, 410, 512),
    "dusk": (20, 10, 500, 490),
}
CHARACTERS = ("astrid", "client-a/hero", "mission/commander", "ulrike größe")
PROMPTS = (
    "standing in the rain at night, neon reflections, 35 mm",
    "an astronaut filming the launch, early light",
    "walking through a field of tall grass, overcast",
)


@cache
def face(number: int = 0) -> Image.Image:
    """The sample face, varied."""
    found = Image.open(SAMPLES / "face-astronaut.png").convert("RGB")
    if number % 2:
        found = ImageOps.mirror(found)
    return found.crop((90, 0, 420, 330)) if number % 4 > 1 else found


@cache
def pose(name: str) -> Image.Image:
    """The sample pose, cut in some way; that of a variant is its pose's."""
    name = re.sub(r"-\d+$", "", name)
    found = Image.open(SAMPLES / "pose-cameraman.png").convert("RGB").crop(POSES[name])
    return ImageOps.mirror(found) if name == "dusk" else found


@cache
def data(kind: str, *which: Any, full: bool = False) -> bytes:
    """The bytes of `("face", number)`, `("pose", name)` or `("output", character, pose, seed)`.

    They have half the side of the samples, which a browser draws in a quarter of the time, unless `full`.
    """
    factor = 1 if full else 2
    if kind == "output":
        scene = pose(which[1]).reduce(factor)
        order = Order(scene.width, scene.height, PROMPTS[which[2] % 3], which[2])
        found = compose(face(CHARACTERS.index(which[0])).reduce(factor), scene, order)
    else:
        found = (face(*which) if kind == "face" else pose(*which)).reduce(factor)
    buffer = io.BytesIO()
    found.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


FAILURES = (
    ("InferenceFailed", "NSFW content detected in the generated image"),
    ("InferenceFailed", "CUDA out of memory"),
    ("TimedOut", "no result came within 3000 seconds after the job was submitted"),
    ("InvalidInput", "incoming/astrid/poses/wide.png: a side of 9000 pixels is more than 8192"),
)


@dataclass
class Studio:
    """Fills a console's stack with jobs whose pictures look like some, of half their size unless `full`."""

    console: Console
    made: int = 0
    full: bool = False

    def waiting(self, character: str, name: str, age: float = 0.0, missing: str = "face") -> None:
        """Write the uploads of a pose that wait for what is missing, and last changed `age` seconds ago."""
        self._put(BUCKET, f"incoming/{character}/poses/{name}.png", "pose", name)
        at = time.time() - age
        uploads = WaitingRecord(
            waiting_id(character, name),
            Status.WAITING,
            character,
            name,
            BUCKET,
            missing=[missing],
            created_at=at - 45,
            updated_at=at,
        )
        self.console.write([uploads])

    def job(
        self, state: str, character: str = "astrid", name: str = "portrait", age: float = 0.0, **values: Any
    ) -> Record:
        """Write a job in a state (see ops.console.cards.STATES) that last changed `age` seconds ago."""
        self.made += 1
        at = time.time() - age
        times = {"created_at": at - 45, "updated_at": at}
        number = CHARACTERS.index(character) if character in CHARACTERS else 0
        keys = {"face": f"studio/{character}/face.png", "pose": f"studio/{character}/poses/{name}.png"}
        tags = {
            "face": self._put(BUCKET, keys["face"], "face", number),
            "pose": self._put(BUCKET, keys["pose"], "pose", name),
        }
        inputs = {
            role: {"bucket": BUCKET, "key": key, "version_id": None, "etag": tags[role], "content_type": "image/png"}
            for role, key in keys.items()
        }
        seed = 2778725438 + self.made
        found: dict[str, Any] = {
            "parameters": {"prompt": PROMPTS[seed % 3], "seed": seed, "samples": 1},
            "inputs": inputs,
            **times,
        }
        if state in ("running", "delivering", "done"):
            found |= {
                "request_id": f"request-{self.made}",
                "submitted_at": at - (0 if state == "running" else 36),
            }
        if state == "submitting":
            found |= {"owner": "somebody", "requests": [Request(1, at)]}
        if state == "queued":
            found |= {"queued_at": times["created_at"]}
        if state in ("delivering", "done"):
            drawn = CHARACTERS[number]
            key = f"outputs/{character}/{name}/{seed}/1.png"
            self._put(OUTPUTS, key, "output", drawn, name, seed)
            width, height = Image.open(io.BytesIO(data("pose", name, full=self.full))).size
            found |= {
                "completed_at": at,
                "metrics": {"inference_seconds": 31.06, "total_seconds": 36.2, "polls": 3},
                "outputs": [
                    {"bucket": OUTPUTS, "key": key, "uri": f"s3://{OUTPUTS}/{key}", "width": width, "height": height}
                ],
            }
        if state == "failed":
            kind, message = FAILURES[self.made % len(FAILURES)]
            found |= {"completed_at": at, "error": {"type": kind, "message": message}}
        if state in ("done", "failed"):
            found["notified_at"] = at
        status = {"running": "SUBMITTED", "delivering": "SUCCEEDED", "done": "SUCCEEDED"}.get(state, state.upper())
        slug = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in f"{character}-{name}")
        record = Record(
            f"{slug[:56]}-{self.made:016x}",
            cast(JobStatus, Status(status)),
            character,
            name,
            BUCKET,
            **{**found, **values},
        )
        self.console.write([record])
        return record

    def busy(self) -> None:
        """A stack at work, with some failures."""
        names = list(POSES)
        for index in range(28):
            character = CHARACTERS[min(3, index % 7 // 2)]
            self.job("done", character, names[index % 6], age=80 + 47 * index)
        for index in range(4):
            self.job("running", CHARACTERS[index % 3], names[index], age=3 + 7 * index)
        for index in range(5):
            self.job("queued", CHARACTERS[index % 4], names[-index], age=10 + index)
        self.job("submitting", "astrid", "low-angle", age=1)
        self.job("delivering", "client-a/hero", "close-up", age=2)
        self.waiting("night shoot", "dusk", age=30)
        for index in range(6):
            self.job("failed", CHARACTERS[index % 3], names[index], age=4 + 9 * index)
        self.waiting("night shoot", "wide", age=5, missing="prompt")

    def _put(self, bucket: str, key: str, kind: str, *which: Any) -> str:
        """Store a picture; return its ETag."""
        answer = self.console.pipeline.s3.put_object(Bucket=bucket, Key=key, Body=data(kind, *which, full=self.full))
        return str(answer["ETag"]).strip('"')


@pytest.fixture
def studio(console: Console) -> Studio:
    """Jobs with pictures for the console's stack. What has ended must be there before the page is opened."""
    return Studio(console)


# ---- what a person does ----------------------------------------------------------------------------------------------


def drop_files(page: "Page", selector: str, files: dict[str, bytes]) -> None:
    """Let files fall onto an element, as from the desktop."""
    contents = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            for (const [name, content] of files) transfer.items.add(new File([bytes(content)], name));
            return transfer;
        }""",
        contents,
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def drop_folder(page: "Page", selector: str, files: dict[str, bytes]) -> None:
    """Let folders fall onto an element, given as the paths of their files. A script cannot make such a transfer."""
    contents = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    page.evaluate(
        """([selector, files]) => {
            const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const tree = { isFile: false, fullPath: "", children: new Map() };
            for (const [path, content] of files) {
                let at = tree;
                const names = path.split("/");
                for (const [depth, name] of names.entries()) {
                    const fullPath = `${at.fullPath}/${name}`;
                    if (depth === names.length - 1) {
                        const file = new File([bytes(content)], name);
                        at.children.set(name, { isFile: true, fullPath, file: (found) => found(file) });
                    } else {
                        const empty = { isFile: false, fullPath, children: new Map() };
                        if (!at.children.has(name)) at.children.set(name, empty);
                        at = at.children.get(name);
                    }
                }
            }
            const readers = (entry) => {
                if (entry.isFile) return entry;
                const children = [...entry.children.values()].map(readers);
                return { ...entry, createReader: () => ({ readEntries: (found) => found(children.splice(0, 2)) }) };
            };
            const items = [...tree.children.values()].map(readers).map((entry) => ({
                kind: "file", getAsFile: () => null, webkitGetAsEntry: () => entry,
            }));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(kind, { bubbles: true, cancelable: true });
                Object.defineProperty(event, "dataTransfer", { value: { items, types: ["Files"] } });
                document.querySelector(selector).dispatchEvent(event);
            }
        }""",
        [selector, contents],
    )


def scroll_down(page: "Page", count: int) -> None:
    """Scroll until so many cards are there."""
    cards, end = page.locator(".card"), time.monotonic() + HANGS
    while cards.count() < count:
        assert time.monotonic() < end
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(50)


def hang_up(console: Console) -> None:
    """Break all connections to the console."""
    assert console.server
    for connection in list(console.server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)


RULES_OF_COLOUR = ("color-contrast", "link-in-text-block")
"""The rules of axe-core whose outcome depends on colours."""


def axe(page: "Page", *rules: str) -> str:
    """What axe-core finds wrong with a page by these rules, or by all, in words; empty if nothing."""
    from axe_playwright_python.base import AXE_SCRIPT

    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE_SCRIPT)
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = page.evaluate("(options) => axe.run(options).then(({ violations }) => violations)", options)
    return "\n".join(
        f"{rule['id']}: {rule['help']}: {json.dumps([node['target'] for node in rule['nodes']][:5])}" for rule in found
    )


def picture(page: "Page", name: str) -> Path:
    """Keep what the page looks like once nothing moves."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    return path
