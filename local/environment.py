"""Create .venv and install the pins of requirements-dev.txt: `python3 local/environment.py`, run by `make setup`.

Nothing is installed yet when it runs, so it needs only the standard library. It prints a few lines; on a terminal it
also counts the packages. The output of pip is in .venv/pip.log.
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
        print("\nInterrupted; run `make setup` again to continue.", file=sys.stderr)
        return 130


def set_up(environment: Path, requirements: Path) -> int:
    """Create a virtual environment, if missing, and install pinned requirements; return pip's exit code."""
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
        print("\n".join([*lines, "", f"pip failed; its output is in {log}"]), file=sys.stderr)
    else:
        print(f"Ready after {time.monotonic() - started:.0f} s.", flush=True)
    return pip.returncode


def progress(said: str, installed: int, total: int) -> str:
    """Return the progress in words, from pip's output and the number of installed packages out of `total`."""
    if INSTALLING in said:
        return f"  {installed} of {total} installed"
    return f"  {len(FOUND.findall(said))} of {total} downloaded"


def _installed(environment: Path, since: float) -> int:
    """Count the packages that were installed since a time, in seconds since the epoch."""
    found = environment.glob("lib/python*/site-packages/*.dist-info")
    return sum(path.stat().st_mtime >= since for path in found)


def _show(text: str) -> None:
    """Replace the current line by a text, on a terminal only."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
