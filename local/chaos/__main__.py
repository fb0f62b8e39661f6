"""Run chaos: `python -m local.chaos --seed 1`. Ends with a table, and with exit code 1 if a promise was broken."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from local.chaos.evidence import Evidence, gather
from local.chaos.faults import COST_USD, JOB_TIMEOUT_SECONDS
from local.chaos.invariants import Asked, check
from local.chaos.memory import MemoryWatch
from local.chaos.report import faults_struck, table
from local.chaos.run import ChaosRun, ChaosStack
from local.chaos.scenario import (
    HISTORY_LAG,
    HISTORY_OTHERS,
    UNREADABLE,
    Scenario,
    draw_scenario,
)
from local.deploy import ROOT
from local.processes import LocalError

DIRECTORY = ROOT / ".local" / "chaos"
LIMIT_SECONDS = 330.0
"""The most seconds of a run after the stack is up."""
QUEUES = ("UploadQueue", "SubmitQueue")
GATEWAY_FAULTS = ("lost_replies", *(f"{what} in {queue}" for what in ("twice", "late") for queue in QUEUES))
DEATHS = [f"death of {name}Function" for name in ("Intake", "Dispatch", "Submit")]
SHOWN_VIOLATIONS = 100
PROCESS_BYTES = 80_000_000
"""The most memory of a process of the local stack, on average: a worker of a function takes 60 to 75 MB."""
PARAMETERS: dict[str, str | int] = {
    "SettleSeconds": 1,
    "SubmitConcurrency": 4,
    "SubmitTimeoutSeconds": 30,
    "JobTimeoutSeconds": JOB_TIMEOUT_SECONDS,
    "AccountPauseSeconds": 3,
    "TypicalInferenceSeconds": 3,
    "SegmindRequestsPerMinute": 1200,
}
VISIBILITY = 35
"""Seconds until a message is redelivered after its function was killed."""
AT_ONCE = {"PollFunction": 5, "DeliverFunction": 6}
"""Each concurrent invocation is a process of 60 MB that takes seconds to start, so a burst would take minutes."""
EMULATOR = (
    *("--latency", "2.5:0.3", "--rpm", "1200", "--cost", str(COST_USD)),
    *("--history-others", str(HISTORY_OTHERS), "--history-lag", str(HISTORY_LAG)),
)


def main() -> int:
    """Run the command line; return its exit code."""
    arguments = _arguments()
    console = Console(highlight=False)
    scenario = draw_scenario(arguments.seed, arguments.jobs)
    directory = DIRECTORY / f"seed-{arguments.seed}-{os.getpid()}"
    emulator = [*EMULATOR, "--seed", str(arguments.seed)]
    stack = ChaosStack(directory, parameters=PARAMETERS, emulator=emulator)
    try:
        kept = run(stack, scenario, console, arguments.limit)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    except (LocalError, BotoCoreError, ClientError, OSError) as error:
        console.print(f"\nFailed: {error}", style="red", markup=False, soft_wrap=True)
        kept = False
    finally:
        stack.stop()
    logs = DIRECTORY / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    shutil.move(stack.logs, logs)
    shutil.rmtree(directory)
    if not kept:
        console.print(f"Logs: {os.path.relpath(logs)}", soft_wrap=True)
    return 0 if kept else 1


def run(stack: ChaosStack, scenario: Scenario, console: Console, limit: float) -> bool:
    """Start the stack, run the scenario, and show the results; return whether every promise was kept."""
    began = time.monotonic()
    with MemoryWatch() as watch:
        console.print(f"Seed {scenario.seed}: {len(scenario.jobs)} jobs. Starting the local stack ...")
        stack.start()
        stack.set_visibility(VISIBILITY)
        for function, number in AT_ONCE.items():
            stack.client("lambda").put_function_concurrency(
                FunctionName=stack.resource(function), ReservedConcurrentExecutions=number
            )
        chaos = ChaosRun(stack, scenario, lambda line: console.print(line, markup=False))
        rested = chaos.run(limit)
        seconds = chaos.seconds
        calls = chaos.control("GET", "calls")
        chaos.control("POST", "faults", {"faults": []})
        chaos.set_gateway_faults({})
        evidence = gather(stack, chaos.inbox.receive(), calls, chaos.gateway_struck)
    asked = Asked(chaos.attempts_asked_for, chaos.retries, chaos.forgotten, UNREADABLE)
    findings = check(scenario, evidence, asked)
    findings.violations += _unproven(scenario, chaos, evidence)
    if not rested:
        findings.violations.append(f"some jobs were not at rest after {limit:.0f} s")
    if watch.peak > (most := watch.most_processes * PROCESS_BYTES):
        findings.violations.append(f"{watch.peak / 1e6:.0f} MB of memory, more than {most / 1e6:.0f}")
    console.print(table(scenario, chaos, evidence, watch, (seconds, time.monotonic() - began)))
    for line in findings.explained:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for line in findings.violations[:SHOWN_VIOLATIONS]:
        console.print(f"  {line}", style="red", markup=False, soft_wrap=True)
    console.print("All promises were kept." if not findings.violations else f"{len(findings.violations)} violations.")
    return not findings.violations


def _unproven(scenario: Scenario, chaos: ChaosRun, evidence: Evidence) -> list[str]:
    """Return the planned faults that did not happen, so that the run proves nothing about them."""
    struck = faults_struck(scenario, evidence)
    happened = {
        **{f"no {name} was killed while working": evidence.deaths[name] for name in ("intake", "dispatch", "submit")},
        **{f"no {name} at an AWS call": _times(chaos.gateway_struck, name) for name in DEATHS},
        "no function died before a call": _times(chaos.gateway_struck, "", " before a call"),
        "no function died after a call": _times(chaos.gateway_struck, "", " after a call"),
        "no sweep has run": chaos.sweeps,
        "no fault of the provider struck": struck.total(),
        "no job was always refused": struck["always 403"],
        "no job always got a 500": struck["always 500"],
        "the lone job was not refused": struck["refused alone"],
        "the history was never unavailable": struck["history 503"],
        "no record expired": len(chaos.forgotten) or not any(job.forgotten for job in scenario.jobs),
        "no version expired in the backlog": len(chaos.uploader.expired)
        or not any(upload.expires for upload in scenario.uploads),
        **{f"{name} never struck": chaos.gateway_struck[name] for name in GATEWAY_FAULTS},
    }
    return [f"{what}, so the run proves nothing about it" for what, times in happened.items() if not times]


def _times(struck: Counter[str], begin: str, end: str = "") -> int:
    return sum(times for name, times in struck.items() if name.startswith(begin) and name.endswith(end))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the seed of all random draws (default 1)")
    parser.add_argument("--jobs", type=int, default=200, help="the number of jobs, five per character (default 200)")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="the most seconds of a run (default %(default)g)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
