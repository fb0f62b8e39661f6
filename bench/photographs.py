"""How long a client's single job waits behind another client's 2,000 photographs that lie on their side.

The stack may send 50 requests a minute. As soon as all photographs are uploaded, another client uploads one pair that
needs nothing. It takes about ten minutes, most of them for the uploads' messages, on two cores.
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from bench.stage import PROMPT, MeteredStack, provider, sample_images, seconds, stage, upload_folder
from bench.tables import table
from local.pipeline import drop, records, wait_for

PHOTOGRAPHS = 2000
LIMIT = 50
"""Requests a minute."""
SIZE = (1600, 1200)
ORIENTATION = 0x0112
TURNED = 6
"""The EXIF orientation of a telephone that was held upright."""
GOAL = 120.0
"""In seconds, from the last upload to the request."""


def photograph() -> bytes:
    """Return a JPEG that lies on its side, of about 500 kB."""
    grey = Image.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 20).resize(SIZE)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    out = io.BytesIO()
    Image.merge("RGB", (grey, grey, grey)).save(out, "JPEG", quality=88, exif=exif)
    return out.getvalue()


def upload(stack: MeteredStack) -> float:
    """Upload one client's photographs, each of its own content, and return how many seconds that took."""
    picture, began = photograph(), time.time()
    drop(stack, "incoming/crowd/hero/face.jpg", picture)
    drop(stack, "incoming/crowd/hero/job.json", f'{{"prompt": "{PROMPT}"}}'.encode())
    with ThreadPoolExecutor(4) as pool:
        # What follows the end of a JPEG is no part of the picture, and of the content.
        names = [f"{number:04}" for number in range(PHOTOGRAPHS)]
        list(
            pool.map(lambda name: drop(stack, f"incoming/crowd/hero/poses/{name}.jpg", picture + name.encode()), names)
        )
    return time.time() - began


def run() -> dict[str, Any]:
    """Run it, and return the figures in seconds."""
    parameters = {"SegmindRequestsPerMinute": LIMIT, "SettleSeconds": 1}
    with stage("photographs", parameters, ["--latency", "29.5:0.25", "--seed", "1"]) as stack:
        uploading = upload(stack)
        uploaded = upload_folder(stack, "single/walker", ["walk"], *sample_images())
        waiting = len([record for record in records(stack, "crowd/hero") if record["status"] == "QUEUED"])
        found = wait_for(
            lambda: next((found for found in records(stack, "single/walker") if found.get("submitted_at")), None),
            "the other client's job",
            1800,
        )
        sent = seconds(found["submitted_at"])
        calls = [call for call in provider(stack, "calls")["calls"] if call["route"] == "submit"]
        began = min(call["time"] for call in calls)
        before = [call for call in calls if call["time"] <= sent]
        crowd = records(stack, "crowd/hero")
    return {
        "uploading": uploading,
        "in line at its upload": waiting,
        "in line at its request": len([record for record in crowd if record["status"] == "QUEUED"]),
        "wait": sent - uploaded,
        "requests before it": len(before),
        "use of the limit until then": len(before) / (LIMIT * (sent - began) / 60),
    }


def main() -> dict[str, Any]:
    """Print how long the other client waited, and the goal."""
    figures = run()
    title = f"A job behind another client's {PHOTOGRAPHS} photographs, {LIMIT} requests a minute (goal: {GOAL:.0f} s)"
    print(table(title, ("what", "measured"), [[name, f"{value:.4g}"] for name, value in figures.items()]))
    return figures
