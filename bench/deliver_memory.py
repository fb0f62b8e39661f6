"""Measure how much memory deliver needs to store an output of 1 MB and one of 200 MB.

A new process fetches and stores each; its peak is the resident memory as the operating system reports it.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import boto3

from bench.outputs import output_server
from bench.tables import table
from posedrop.aws.output_bucket import OutputBucket
from posedrop.segmind.downloads import Downloader

ROOT = Path(__file__).parents[1]
SIZES = (1, 200)
GOAL = 64
"""The largest difference between the two, in MB."""
MEGABYTE = 1_000_000


def store(base_url: str, megabytes: int) -> dict[str, float]:
    """Store one output as deliver does; return its size, and the peak memory of this process, in MB."""
    s3 = boto3.client(
        "s3",
        endpoint_url=base_url,
        region_name="eu-central-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # nosec B106 # the fake S3 accepts any
    )
    with Downloader(base_url).open(f"{base_url}/{megabytes}.png", seconds=120) as chunks:
        stored = OutputBucket(s3, "bench").store_image("outputs", 1, chunks)
    return {"output": stored["bytes"] / MEGABYTE, "peak": peak() / MEGABYTE}


def peak() -> float:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the parent process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _run(base_url: str, size: int) -> bytes:
    """Measure one size in its own process, because a peak is that of a whole process."""
    command = [sys.executable, "-m", "bench.deliver_memory", base_url, str(size)]
    return subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout  # nosec B603 # itself, no shell


def main() -> dict[str, float]:
    """Print the table, and return the peak for each size and their difference, in MB."""
    with output_server() as base_url:
        found = [json.loads(_run(base_url, size)) for size in SIZES]
    small, large = (measured["peak"] for measured in found)
    rows = [(f"{measured['output']:.0f} MB", f"{measured['peak']:.1f} MB") for measured in found]
    rows.append(("difference", f"{large - small:.1f} MB"))
    title = f"Peak memory of deliver while it stores an output (goal: a difference below {GOAL} MB)"
    print(table(title, ("output", "peak"), rows))
    return {"peak_of_1_mb": round(small, 1), "peak_of_200_mb": round(large, 1), "difference": round(large - small, 1)}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(store(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
