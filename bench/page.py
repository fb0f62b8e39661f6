"""Measure how fast the console and its page are with 2,000 jobs on the local stack, in headless Chromium.

The jobs are written to the table as finished; four characters share six small pictures. The figures are the time that
the console takes to read the stack, the time that the page takes to paint, and the time until it shows a change.
"""

import io
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench.tables import table
from local import browsers
from local.stack import LocalStack
from ops.console.known import TableReader
from ops.console.server import Server
from ops.stack import Stack, Target, find
from posedrop.aws.record import Record, Status
from posedrop.aws.record_items import to_item
from posedrop.aws.record_table import ENDED_UNSENT
from posedrop.contract.times import rfc3339

JOBS = 2000
CHARACTERS = 4
COLORS = ("teal", "coral", "indigo", "olive", "orchid", "sienna")
FRAMES = 90
CHANGES = 5
STATIC = Path(__file__).parents[1] / "ops" / "console" / "static"
FIRST_PAINT = 'performance.getEntriesByName("first-contentful-paint")[0].startTime'
LARGEST_PAINT = """() => new Promise((done) =>
    new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
    .observe({ type: "largest-contentful-paint", buffered: true }))"""
NOTE_FIRST_CARDS = """
    new MutationObserver((_, observer) => {
        if (!document.querySelector(".card")) return;
        observer.disconnect();
        requestAnimationFrame(() => (window.firstCards = performance.now()));
    }).observe(document, { childList: true, subtree: true });
"""
"""Milliseconds from the beginning of the page until its first cards are drawn, as `window.firstCards`."""
SCROLL = """async (frames) => {
    const times = [];
    scrollTo(0, 0);
    for (let at = 0; at < frames; at++) {
        times.push(await new Promise(requestAnimationFrame));
        scrollBy(0, 240);
    }
    return times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
}"""


def fill(local: LocalStack, jobs: int) -> list[Record]:
    """Write finished jobs with their pictures to the stack; return their records, the newest first."""
    uploads, outputs = local.outputs["UploadBucketName"], local.outputs["OutputBucketName"]
    s3, dynamodb = local.client("s3"), local.client("dynamodb")
    for color in COLORS:
        for bucket, size in ((uploads, (60, 80)), (outputs, (90, 120))):
            picture = io.BytesIO()
            Image.new("RGB", size, color).save(picture, "PNG")
            s3.put_object(Bucket=bucket, Key=f"bench/{color}.png", Body=picture.getvalue())
    records = [_done(number, uploads, outputs) for number in range(jobs)]
    with ThreadPoolExecutor(8) as pool:
        items = [_item(record) for record in records]
        list(pool.map(lambda item: dynamodb.put_item(TableName=local.outputs["JobsTableName"], Item=item), items))
    return records


def _item(record: Record) -> dict[str, Any]:
    values = {name: value for name, value in vars(record).items() if value}
    return to_item({**values, "day": rfc3339(record.created_at)[:10]})


def _done(number: int, uploads: str, outputs: str) -> Record:
    key = f"bench/{COLORS[number % len(COLORS)]}.png"
    at = time.time() - 60 - 20 * number
    source = {"bucket": uploads, "key": key, "version_id": None, "content_type": "image/png"}
    output = {"bucket": outputs, "key": key, "uri": f"s3://{outputs}/{key}", "width": 90, "height": 120}
    return Record(
        f"bench-pose-{number:016x}",
        Status.SUCCEEDED,
        f"bench-{number % CHARACTERS + 1}",
        f"pose-{number}",
        uploads,
        inputs={"face": source, "pose": source},
        parameters={"prompt": f"a walk in the rain, number {number}", "seed": number, "samples": 1},
        outputs=[output],
        metrics={"inference_seconds": 31.06, "total_seconds": 38.2, "polls": 2},
        created_at=at - 60,
        updated_at=at,
        submitted_at=at - 40,
        completed_at=at,
        notified_at=at,
    )


@contextmanager
def served(stack: Stack) -> Iterator[str]:
    """Serve the console; yield the address that a browser opens."""
    token = secrets.token_urlsafe(32)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(stack, token, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/?token={token}"
    finally:
        server.should_exit = True
        thread.join()


def seconds(action: Callable[[], object]) -> float:
    """Return the duration of an action."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def measure_reading(stack: Stack) -> dict[str, float]:
    """Return the seconds to read all jobs, to read the changes, and to sum up."""
    reader = TableReader(stack)
    whole = seconds(lambda: reader.whole(None))
    known = reader.whole(None)
    return {
        "read all": whole,
        "read what changed": seconds(lambda: reader.changes(known, {})),
        "sum up": seconds(known.summary),
    }


def measure_page(page: Page, address: str, jobs: int) -> dict[str, float]:
    """Return the seconds until the page has painted, and those of a frame while it scrolls through all jobs."""
    page.add_init_script(NOTE_FIRST_CARDS)
    page.goto(address)
    page.wait_for_selector(".card")
    page.goto("about:blank")
    page.wait_for_timeout(2000)  # wait for the requested thumbnails, which would slow the page
    page.goto(address.partition("?")[0])
    page.wait_for_selector(".card")
    figures = {
        "first paint": page.evaluate(FIRST_PAINT),
        "first cards": page.evaluate("window.firstCards"),
        "largest paint": page.evaluate(LARGEST_PAINT),
    }
    while page.locator(".card").count() < jobs:
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(30)
    frames = page.evaluate(SCROLL, FRAMES)
    figures |= {"a frame, median": median(frames), "a frame, 95%": frames[int(len(frames) * 0.95)]}
    return {name: milliseconds / 1000 for name, milliseconds in figures.items()}


def measure_changes(page: Page, local: LocalStack, records: list[Record]) -> float:
    """Return the most seconds until a change in the table is on the page."""
    took = []
    for record in records[:CHANGES]:
        error = {"type": "InferenceFailed", "message": "the benchmark"}
        changed = replace(record, status=Status.FAILED, error=error, outputs=[], updated_at=time.time())
        item = _item(changed)
        card = page.locator(f'[data-job="{record.job_id}"][data-state="failed"]')
        unfinished = {**item, "unfinished": {"S": ENDED_UNSENT}, "unfinished_at": {"S": rfc3339(changed.updated_at)}}
        local.client("dynamodb").put_item(TableName=local.outputs["JobsTableName"], Item=unfinished)
        took.append(seconds(card.wait_for))
    return max(took)


def main(jobs: int = JOBS) -> dict[str, Any]:
    """Print the table, and return the seconds, and the bytes of the page's code."""
    path = browsers.executable()
    if path is None:
        raise SystemExit(f"no browser is installed ({', '.join(browsers.NAMES)})")
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalStack(Path(directory)) as local,
        sync_playwright() as playwright,
    ):
        records = fill(local, jobs)
        stack = find(Target(stack=str(local.state_file)))
        figures = measure_reading(stack)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        with served(stack) as address:
            figures |= measure_page(page, address, jobs)
            figures["a change, until it is seen"] = measure_changes(page, local, records)
            browser.close()
    code = sum(file.stat().st_size for file in STATIC.iterdir())
    print(table(f"The console with {jobs:,} jobs", ("what", "seconds"), [(k, f"{v:.3f}") for k, v in figures.items()]))
    print(f"the page's code: {code:,} bytes")
    return {"jobs": jobs, "seconds": {name: round(value, 4) for name, value in figures.items()}, "code_bytes": code}


if __name__ == "__main__":
    main()
