"""Start the emulator: `python -m local.segmind --port 9000`."""

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
from pathlib import Path

from local.segmind.faults import Plan
from local.segmind.server import Server
from local.segmind.settings import COST_PER, RPM_COUNTS, Settings


def main() -> int:
    """Run the command line; return its exit code."""
    arguments = vars(_parser().parse_args())
    host, port, faults = (arguments.pop(name) for name in ("host", "port", "faults"))
    settings = Settings()
    try:
        settings.change(arguments)
        plan = Plan(json.loads(faults.read_text()) if faults else None, settings.seed)
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, ValueError, OverflowError) as error:
        print(f"The emulator cannot start: {error}", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stdout)
    logging.getLogger("local.segmind").setLevel(logging.INFO)
    # uvicorn raises the signal again after its shutdown; then this ends the process with exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = Server(settings, plan, listener)
    print(f"Segmind emulator on {server.url}", flush=True)
    asyncio.run(server.serve_emulator())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.segmind", description="An emulator of Segmind's API for one model."
    )
    default = Settings()
    parser.add_argument("--port", type=int, default=0, help="0: any free one, which is printed (default)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--latency",
        default=default.latency.median,
        metavar="SECONDS|MEDIAN:SIGMA",
        help="duration of a job, lognormal with a sigma (default: %(default)s)",
    )
    parser.add_argument("--rpm", type=int, default=default.rpm, help="calls in any 60 seconds, 0: any number (default)")
    parser.add_argument("--rpm-counts", choices=RPM_COUNTS, default=default.rpm_counts, help="which calls count")
    parser.add_argument("--api-key", default=default.api_key, help="the only valid key")
    _add_history(parser, default)
    _add_costs(parser, default)
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of all draws (default: %(default)s)")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a fault plan, JSON: see local/segmind/faults.py")
    return parser


def _add_history(parser: argparse.ArgumentParser, default: Settings) -> None:
    """Add the options for what is kept, and for how long."""
    parser.add_argument(
        "--retention",
        type=float,
        default=default.retention,
        metavar="SECONDS",
        help="seconds after submission for which results are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--media-retention",
        type=float,
        default=default.media_retention,
        metavar="SECONDS",
        help="seconds for which images and history rows are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--history-lag",
        type=float,
        default=default.history_lag,
        metavar="SECONDS",
        help="seconds after which a request appears in the history (default: %(default)s)",
    )
    parser.add_argument(
        "--history-others",
        type=int,
        default=default.history_others,
        metavar="ROWS",
        help="requests a day by other users of the account, only in the history (default: %(default)s)",
    )


def _add_costs(parser: argparse.ArgumentParser, default: Settings) -> None:
    """Add the options for costs."""
    parser.add_argument(
        "--cost", type=float, default=default.cost, metavar="USD", help="the cost in results (default: none)"
    )
    parser.add_argument(
        "--cost-per", choices=COST_PER, default=default.cost_per, help="what the cost is for (default: %(default)s)"
    )
    parser.add_argument(
        "--credits", type=int, default=default.credits, help="jobs that the account can pay (default: unlimited)"
    )


if __name__ == "__main__":
    sys.exit(main())
