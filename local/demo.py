"""Run the demo: two photographs in, an image and a notification out; `python -m local.demo`.

It starts its own stack, uploads one face with two poses and one job that the provider blocks, shows their progress, and
writes the results to `.local/demo/`. With a key in SEGMIND_API_KEY the real model makes the two poses instead.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image, ImageOps
from rich.console import Console

from local.__main__ import DIRECTORY as UP_DIRECTORY
from local.__main__ import STATE_FILE as UP_STATE_FILE
from local.deploy import ROOT
from local.pipeline import Inbox, drop, records
from local.processes import LocalError
from local.progress import ENDED, Line, Progress, show
from local.stack import LocalStack
from ops.act.contact_sheet import Row, draw

RESULTS = ROOT / ".local" / "demo"
SAMPLES = ROOT / "local" / "samples"
REAL_URL = "https://api.segmind.com"
USD_EACH = 0.03  # the provider's published average is 0.0294

EMULATED_TIMEOUT_SECONDS = 180
REAL_TIMEOUT_SECONDS = 900  # a cold boot of the model takes several minutes
PAGE_GRACE_SECONDS = 5.0

PROMPT = "the same woman in her orange flight suit, looking through a camera on a tripod"
BLOCKED_PROMPT = "blocked-content: something that the provider refuses"


@dataclass
class DemoJob:
    """One job of the demo and its result."""

    character: str
    pose: str
    prompt: str
    expected: str
    job_id: str = ""
    status: str = ""
    seconds: float | None = None
    request_id: str | None = None
    outputs: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None


def main() -> int:
    """Run the demo; return its exit code."""
    arguments = _arguments()
    key = os.environ.get("SEGMIND_API_KEY", "")
    console = Console(highlight=False)
    work = RESULTS.with_name(f"demo-{uuid4().hex[:8]}")
    stack = _stack(arguments, key, work)
    timeout = REAL_TIMEOUT_SECONDS if key else EMULATED_TIMEOUT_SECONDS + 3 * arguments.latency
    kept = arguments.keep or arguments.console
    if kept and stack.running():
        console.print("Another stack is running: stop it first with `make down`.", style="red")
        return 1
    left = False
    try:
        summary = run(stack, console, work, real=bool(key), timeout=timeout)
        if not kept:
            stack.stop()
            shutil.move(stack.logs, work / "logs")
            shutil.rmtree(stack.directory)
        _publish(work)
        _report(console, summary, stack.logs if kept else None, stays=arguments.keep and not arguments.console)
        if arguments.console:
            return _show_page(stack, console)
        left = kept
    except (KeyboardInterrupt, SystemExit):
        stack.stop()
        shutil.rmtree(work, ignore_errors=True)
        console.print("Interrupted; everything is stopped.")
        return 130
    except (LocalError, BotoCoreError, ClientError, OSError) as error:
        console.print(f"\nFailed: {error}", style="red", markup=False, soft_wrap=True)
        console.print(f"All logs: {os.path.relpath(stack.logs)}", soft_wrap=True)
        return 1
    finally:
        if not left:
            stack.stop()
    return 0


def _stack(arguments: argparse.Namespace, key: str, work: Path) -> LocalStack:
    """Return the stack of this demo: with a key it uses the real model, else the emulator."""
    kept = arguments.keep or arguments.console
    # Each concurrent function is a process that must start first, so a few jobs finish sooner with two.
    parameters: dict[str, str | int] = {"SettleSeconds": 1, "SubmitConcurrency": 2}
    if key:  # the provider cannot fetch an image from this machine
        parameters |= {"SegmindApiKey": key, "ImageTransport": "base64"}
    return LocalStack(
        UP_DIRECTORY if kept else work / "stack",
        parameters=parameters,
        segmind_base_url=(arguments.segmind_base_url or REAL_URL) if key else None,
        emulator=["--latency", str(arguments.latency)],
        state_file=UP_STATE_FILE if kept else None,
    )


def run(stack: LocalStack, console: Console, work: Path, *, real: bool, timeout: float) -> dict[str, Any]:
    """Start the stack, run the jobs, write the results to `work`, and return their summary. The stack keeps running.

    Raises LocalError if a job ends otherwise than expected, or not within `timeout` seconds.
    """
    started = time.monotonic()
    inputs, jobs = _inputs(work / "inputs", real=real)
    if real:
        console.print(f"The real model works on {len(jobs)} requests; this costs about {len(jobs) * USD_EACH:.2f} USD.")
    with console.status("Starting the local stack and deploying the template ..."):
        if not console.is_terminal:
            console.print("Starting the local stack and deploying the template ...")
        stack.start()
    console.print(f"The stack is up after {time.monotonic() - started:.0f} s.")
    inbox = Inbox(stack)
    for path in sorted(inputs.rglob("*.*")):
        drop(stack, f"{stack.layout.prefix}{path.relative_to(inputs).as_posix()}", path)
    try:
        _watch(stack, console, jobs, inbox, timeout)
    except LocalError as error:
        raise LocalError(str(error), stack.logs / "ministack.log") from error
    finally:
        stack.save_function_logs()
    for job in jobs:
        _fetch(stack, job, work)
    rows = [_row(job, inputs, work) for job in jobs]
    draw(rows, work / "contact-sheet.png")
    (work / "notifications.json").write_text(json.dumps(inbox.messages, indent=2, ensure_ascii=False) + "\n")
    summary = {
        "seconds": round(time.monotonic() - started, 1),
        "jobs": [asdict(job) for job in jobs],
        "submits": _submits(stack, jobs, real=real),
        "contact_sheet": "contact-sheet.png",
        "notifications": "notifications.json",
    }
    (work / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def _inputs(inputs: Path, *, real: bool) -> tuple[Path, list[DemoJob]]:
    """Write the files to upload, by their keys below the bucket's prefix, and return their folder and the jobs."""
    face, pose = SAMPLES / "face-astronaut.png", SAMPLES / "pose-cameraman.png"
    characters = {"astronaut": PROMPT} if real else {"astronaut": PROMPT, "blocked": BLOCKED_PROMPT}
    for character, prompt in characters.items():
        poses = inputs / character / "poses"
        poses.mkdir(parents=True)
        shutil.copyfile(face, inputs / character / "face.png")
        shutil.copyfile(pose, poses / "cameraman.png")
        (inputs / character / "job.json").write_text(json.dumps({"prompt": prompt, "context": {"demo": True}}) + "\n")
    with Image.open(pose) as image:
        ImageOps.mirror(image).save(inputs / "astronaut" / "poses" / "cameraman-mirrored.png")
    jobs = [DemoJob("astronaut", name, PROMPT, "SUCCEEDED") for name in ("cameraman", "cameraman-mirrored")]
    if not real:
        jobs.append(DemoJob("blocked", "cameraman", BLOCKED_PROMPT, "FAILED"))
    return inputs, jobs


def _watch(stack: LocalStack, console: Console, jobs: Sequence[DemoJob], inbox: Inbox, timeout: float) -> None:
    """Show the jobs until each has ended and its notification has arrived."""
    lines = {(job.character, job.pose): Line(f"{job.character} / {job.pose}") for job in jobs}
    with Progress(console, list(lines.values())) as progress:
        while True:
            for character in {job.character for job in jobs}:
                show(progress, lines, records(stack, character))
            notified = {(message["character"], message["pose"]) for message in inbox.receive()}
            if notified == set(lines) and all(line.state in ENDED for line in lines.values()):
                break
            if progress.elapsed > timeout:
                late = [line.name for place, line in lines.items() if line.state not in ENDED or place not in notified]
                raise LocalError(f"not finished, or not notified, after {timeout:.0f} s: {', '.join(late)}")
            time.sleep(0.25)
    for message in inbox.messages:
        job = next(job for job in jobs if (job.character, job.pose) == (message["character"], message["pose"]))
        job.job_id, job.status, job.error = message["job_id"], message["status"], message["error"]
        job.request_id = message["request_id"]
        job.outputs = [output["uri"] for output in message["outputs"]]
        job.seconds = round(lines[job.character, job.pose].seconds or 0.0, 1)
    for job in jobs:
        if job.status != job.expected:
            raise LocalError(f"{job.character}/{job.pose} should be {job.expected} but is {job.status}: {job.error}")


def _fetch(stack: LocalStack, job: DemoJob, work: Path) -> None:
    """Download a job's outputs below `work`, and add their paths to the job."""
    paths = []
    for uri in job.outputs:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        path = work / key
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.client("s3").download_file(bucket, key, str(path))
        paths.append(path.relative_to(work).as_posix())
    job.outputs = paths


def _row(job: DemoJob, inputs: Path, work: Path) -> Row:
    name = f"{job.character} / {job.pose}"
    reason = f"{job.error['type']}: {job.error['message']}" if job.error else ""
    return Row(
        title=f"{name}: {job.status} after {job.seconds} s",
        detail=f"“{job.prompt}”",
        face=inputs / job.character / "face.png",
        pose=inputs / job.character / "poses" / f"{job.pose}.png",
        outputs=[work / output for output in job.outputs],
        reason=reason,
    )


def _submits(stack: LocalStack, jobs: Sequence[DemoJob], *, real: bool) -> int | None:
    """Return the number of jobs that the emulator accepted; None for the real provider."""
    if real:
        return None
    url = f"{stack.segmind_base_url}/_emulator/requests"
    with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
        submits = len(json.load(response))
    if submits != len(jobs):
        raise LocalError(f"the emulator accepted {submits} jobs, not {len(jobs)}: {url}")
    return submits


def _publish(work: Path) -> None:
    """Publish the results of this demo; if several run, the last one wins."""
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(RESULTS, ignore_errors=True)
        work.rename(RESULTS)


def _report(console: Console, summary: dict[str, Any], logs: Path | None, *, stays: bool) -> None:
    """Print where the results are, and in the last line which file to open first.

    `logs` is the logs' folder if it is not among the results. `stays`: the stack keeps running.
    """
    here = Path(os.path.relpath(RESULTS))
    console.print(f"Done in {summary['seconds']:.0f} s. The results are in {here}/:", soft_wrap=True)
    for what, where in {
        "images": "outputs/",
        "notifications": "notifications.json",
        "summary": "summary.json",
        "logs": os.path.relpath(logs) if logs else "logs/",
    }.items():
        console.print(f"  {what:14} {where}", soft_wrap=True)
    if any(job["expected"] == "FAILED" for job in summary["jobs"]):
        console.print("One job failed on purpose: it shows a refused prompt.")
    if stays:
        console.print("The stack is still running; `make down` stops it.")
    console.print(f"Open this first: {here / 'contact-sheet.png'}", style="bold", soft_wrap=True)


def _show_page(stack: LocalStack, console: Console) -> int:
    """Keep the stack and the console's page open until Ctrl-C or `make down`; then stop both.

    Returns the exit code: 1 if the page's process ended by itself.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True  # no exception, so that a second Ctrl-C cannot interrupt the stop

    signal.signal(signal.SIGINT, interrupt)
    console.print("The stack and its page stay open until Ctrl-C or `make down`:")
    command = [sys.executable, "-m", "ops", "--stack", str(stack.state_file), "console"]
    page = subprocess.Popen(command, cwd=ROOT)  # nosec B603 # the operator's command, no shell
    try:
        while (ended := page.poll()) is None and not interrupted and stack.state_file.exists():
            time.sleep(0.25)
    finally:
        page.terminate()
        try:
            page.wait(PAGE_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            page.kill()
            page.wait()
        stack.stop()
    if ended is None or interrupted:
        console.print("The page and the stack are stopped.")
        return 0
    console.print(f"The page's process ended with exit code {ended}; the stack is stopped.", style="red")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency", type=float, default=3, help="seconds that the emulated model takes (default 3)")
    parser.add_argument("--segmind-base-url", default="", help=f"address of the real model (default {REAL_URL})")
    parser.add_argument("--console", action="store_true", help="keep the stack running and open its page until Ctrl-C")
    parser.add_argument("--keep", action="store_true", help="leave the stack running, as `make up` does")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
