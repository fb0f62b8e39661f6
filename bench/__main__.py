"""Run the benchmarks: python -m bench prints their tables, and writes their figures and plots to .local/bench/.

With names, only those benchmarks run. backlog, limit and photographs take long, and run only if they are named.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".local" / "bench"
BENCHMARKS = ("polling", "start", "prepare", "deliver_memory", "jobs", "page")


def main() -> None:
    """Run the benchmarks one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or BENCHMARKS:
        figures = import_module(f"bench.{name}").main()
        (FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(flush=True)


if __name__ == "__main__":
    main()
