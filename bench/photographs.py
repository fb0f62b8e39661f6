"""Measure how long a client's single job waits behind another client's 2,000 photographs that must be rotated.

The stack may send 50 requests a minute. A second client uploads one pair directly after all photographs are uploaded.
`intake` reads uploads in order, so the pair's message is behind theirs. A third client uploads one when all photographs
are read and in line. The run takes about ten minutes on two cores.
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from bench.stage import PROMPT, MeteredStack, provider, sample_images, seconds, stage, upload_folder
from bench.tables import table
from local.chaos.evidence import depth
from local.pipeline import drop, records, wait_for

PHOTOGRAPHS = 2000
LIMIT = 50
"""Requests a minute."""
SIZE = (1600, 1200)
ORIENTATION = 0x0112
TURNED = 6
"""The EXIF orientation of a phone that was held upright."""
GOAL = 120.0
"""The goal: seconds from the upload to the request, behind the jobs in line."""


def photograph() -> bytes:
    """Return a rotated JPEG of about 500 kB."""
    grey = Image.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 20).resize(SIZE)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    out = io.BytesIO()
    Image.merge("RGB", (grey, grey, grey)).save(out, "JPEG", quality=88, exif=exif)
    return out.getvalue()


def upload(stack: MeteredStack) -> float:
    """Upload one client's photographs, each with its own content, and return the duration in seconds."""
    picture, began = photograph(), time.time()
    folder = stack.layout.folder("crowd/hero")
    drop(stack, f"{folder.face}.jpg", picture)
    drop(stack, folder.job_file, f'{{"prompt": "{PROMPT}"}}'.encode())
    with ThreadPoolExecutor(4) as pool:
        # Bytes after the end of a JPEG are part of the content, but not of the picture.
        names = [f"{number:04}" for number in range(PHOTOGRAPHS)]
        list(pool.map(lambda name: drop(stack, f"{folder.pose(name)}.jpg", picture + name.encode()), names))
    return time.time() - began


def sent_after(stack: MeteredStack, client: str) -> tuple[float, float]:
    """Upload another client's only pair; return the seconds until its request, and the time of that."""
    uploaded = upload_folder(stack, f"{client}/walker", ["walk"], *sample_images())
    found = wait_for(
        lambda: next((found for found in records(stack, f"{client}/walker") if found.get("submitted_at")), None),
        f"the job of {client}",
        1800,
    )
    sent = seconds(found["submitted_at"])
    return sent - uploaded, sent


def run() -> dict[str, Any]:
    """Run it, and return the figures in seconds."""
    parameters = {"SegmindRequestsPerMinute": LIMIT, "SettleSeconds": 1}
    with stage("photographs", parameters, ["--latency", "29.5:0.25", "--seed", "1"]) as stack:
        uploading = upload(stack)
        behind_uploads, _ = sent_after(stack, "early")
        wait_for(lambda: depth(stack, stack.outputs["UploadQueueUrl"]) == 0 or None, "all uploads to be read", 1800)
        in_line = len([record for record in records(stack, "crowd/hero") if record["status"] == "QUEUED"])
        behind_line, sent = sent_after(stack, "late")
        calls = [call["time"] for call in provider(stack, "calls")["calls"] if call["route"] == "submit"]
        began, before = min(calls), len([at for at in calls if at <= sent])
    return {
        "uploading, s": uploading,
        "a job uploaded right behind them, s": behind_uploads,
        "photographs in line once all are read": in_line,
        "a job uploaded then, s": behind_line,
        "use of the limit": before / (LIMIT * (sent - began) / 60),
    }


def main() -> dict[str, Any]:
    """Print how long the other client waited, and the goal."""
    figures = run()
    title = f"A job behind another client's {PHOTOGRAPHS} photographs, {LIMIT} requests a minute (goal: {GOAL:.0f} s)"
    print(table(title, ("what", "measured"), [[name, f"{value:.4g}"] for name, value in figures.items()]))
    return figures
