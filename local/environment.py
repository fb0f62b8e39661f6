"""Make .venv and install what requirements-dev.txt pins: `python3 local/environment.py`, which `make setup` runs.

Nothing is installed yet when it starts, so it needs the standard library alone. It says what it does in a few lines;
on a terminal it also counts the packages. What pip says is in .venv/pip.log.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
POLL_SECONDS = 0.2
SHOWN_LINES = 15

REQUIREMENT = re.compile(r"^[A-Za-z0-9][^ ]*==", re.MULTILINE)
FOUND = re.compile(r"^(?:Collecting|Requirement already satisfied:|Ignoring) ", re.MULTILINE)
INSTALLING = "Installing collected packages:"


def main() -> int:
    """Run the command line; return its exit code."""
    if sys.version_info < OLDEST:
        print("posedrop needs Python 3.11 or later: make PYTHON=python3.13", file=sys.stderr)
        return 1
    try:
        return set_up(ROOT / ".venv", ROOT / "requirements-dev.txt")
    except KeyboardInterrupt:
        print("\nInterrupted; `make setup` goes on from here.", file=sys.stderr)
        return 130


def set_up(environment: Path, requirements: Path) -> int:
    """Make a virtual environment, unless it is there, and install pinned requirements; return pip's exit code."""
    started = time.monotonic()
    python = environment / "bin" / "python"
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Setting up {environment.name} with Python {version} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)  # nosec B603 # no shell
    total = len(REQUIREMENT.findall(requirements.read_text()))
    print(f"Installing {total} pinned packages: one to three minutes the first time ...", flush=True)
    log = environment / "pip.log"
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--no-deps", "--require-hashes"]
    argv = [str(python), "-m", "pip", "install", *options, "--requirement", str(requirements)]
    with log.open("w") as output:
        pip = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)  # nosec B603 # no shell
    since = time.time()
    while pip.poll() is None:
        time.sleep(POLL_SECONDS)
        _show(progress(log.read_text(errors="replace"), _installed(environment, since), total))
    _show("")
    if pip.returncode:
        lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        print("\n".join([*lines, "", f"pip has failed; all it said is in {log}"]), file=sys.stderr)
    else:
        print(f"Set up after {time.monotonic() - started:.0f} s.", flush=True)
    return pip.returncode


def progress(said: str, installed: int, total: int) -> str:
    """Say how far pip is, from what it has printed and how many of `total` packages it has installed."""
    if INSTALLING in said:
        return f"  {installed} of {total} installed"
    return f"  {len(FOUND.findall(said))} of {total} downloaded"


def _installed(environment: Path, since: float) -> int:
    """Count the packages that were installed since a time, in seconds since the epoch."""
    found = environment.glob("lib/python*/site-packages/*.dist-info")
    return sum(path.stat().st_mtime >= since for path in found)


def _show(text: str) -> None:
    """Put a text in place of the line before it, on a terminal only."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
