"""All benchmarks: python -m bench prints their tables and writes their figures to .local/bench/."""

import json
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".local" / "bench"
BENCHMARKS = ("start", "deliver_memory", "polling")


def main() -> None:
    """Run them one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in BENCHMARKS:
        figures = import_module(f"bench.{name}").main()
        (FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print()


if __name__ == "__main__":
    main()
