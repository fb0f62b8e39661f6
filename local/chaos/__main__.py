"""Run chaos: `python -m local.chaos --seed 1`. Ends with a table, and with exit code 1 if a promise was broken."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from local.chaos.evidence import Evidence, Record, gather
from local.chaos.faults import COST_USD, JOB_TIMEOUT_SECONDS
from local.chaos.invariants import Asked, check
from local.chaos.memory import MemoryWatch
from local.chaos.run import ChaosRun, ChaosStack
from local.chaos.scenario import (
    HISTORY_LAG,
    HISTORY_OTHERS,
    RETENTION_SWITCHES,
    UNREADABLE,
    Scenario,
    draw_scenario,
)
from local.chaos.spending import owed, spent
from local.deploy import ROOT
from local.processes import LocalError

DIRECTORY = ROOT / ".local" / "chaos"
LIMIT_SECONDS = 330.0
"""For all that happens once the stack is up."""
QUEUES = ("UploadQueue", "SubmitQueue")
GATEWAY_FAULTS = ("lost_replies", *(f"{what} in {queue}" for what in ("twice", "late") for queue in QUEUES))
DEATHS = [f"death of {name}Function" for name in ("Intake", "Dispatch", "Submit")]
SHOWN = 12
SHOWN_VIOLATIONS = 100
PROCESS_BYTES = 80_000_000
"""That a process of the local stack has at most on average: a worker of a function takes 60 to 75 MB."""
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
"""Seconds until a message of a function that was killed is redelivered."""
AT_ONCE = {"PollFunction": 5, "DeliverFunction": 6}
"""Each concurrent invocation is a process of 60 MB that takes seconds to start: a burst of them would take minutes."""
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
    """Start the stack, let everything happen, show what came out; return whether every promise was kept."""
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
    asked = Asked(chaos.attempts_asked_for, chaos.wishes, chaos.forgotten, UNREADABLE)
    findings = check(scenario, evidence, asked)
    findings.violations += _unproven(scenario, chaos, evidence)
    if not rested:
        findings.violations.append(f"not all came to rest within {limit:.0f} s")
    if watch.peak > (most := watch.most_processes * PROCESS_BYTES):
        findings.violations.append(f"{watch.peak / 1e6:.0f} MB of memory, more than {most / 1e6:.0f}")
    _show(console, scenario, chaos, evidence, watch, seconds, time.monotonic() - began)
    for line in findings.explained:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for line in findings.violations[:SHOWN_VIOLATIONS]:
        console.print(f"  {line}", style="red", markup=False, soft_wrap=True)
    console.print("All promises were kept." if not findings.violations else f"{len(findings.violations)} violations.")
    return not findings.violations


def _unproven(scenario: Scenario, chaos: ChaosRun, evidence: Evidence) -> list[str]:
    """What was to go wrong and did not: nothing is proven of it."""
    struck = _struck(scenario, evidence)
    happened = {
        **{f"no {name} was killed at work": evidence.deaths[name] for name in ("intake", "dispatch", "submit")},
        **{f"no {name} at a call of AWS": _times(chaos.gateway_struck, name) for name in DEATHS},
        "no function died before a call": _times(chaos.gateway_struck, "", " before a call"),
        "no function died after a call": _times(chaos.gateway_struck, "", " after a call"),
        "no sweep has run": chaos.sweeps,
        "no fault of the provider struck": struck.total(),
        "no job was always refused": struck["always 403"],
        "no job was always answered 500": struck["always 500"],
        "the lone job was not refused": struck["refused alone"],
        "the history was never down": struck["history 503"],
        "no record expired": len(chaos.forgotten) or not any(job.forgotten for job in scenario.jobs),
        "no version expired in the backlog": len(chaos.uploader.expired)
        or not any(upload.expires for upload in scenario.uploads),
        **{f"{name} never struck": chaos.gateway_struck[name] for name in GATEWAY_FAULTS},
    }
    return [f"{what}, so nothing is proven of it" for what, times in happened.items() if not times]


def _times(struck: Counter[str], begin: str, end: str = "") -> int:
    return sum(times for name, times in struck.items() if name.startswith(begin) and name.endswith(end))


def _show(
    console: Console,
    scenario: Scenario,
    chaos: ChaosRun,
    evidence: Evidence,
    watch: MemoryWatch,
    seconds: float,
    in_all: float,
) -> None:
    paid = Counter(accepted.name for accepted in evidence.accepted)
    table = Table(title=f"Chaos, seed {scenario.seed}", title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    states = Counter(
        f"{record['status']} {record.get('error', {}).get('type', '')}".strip() for record in evidence.records
    )
    notified = Counter((message["job_id"], message["attempt"]) for message in evidence.notifications)
    unknown = {
        f"{message['job_id']}-{message['attempt']}"
        for message in _once(evidence)
        if (message["error"] or {}).get("type") == "SubmitOutcomeUnknown"
    }
    struck = _struck(scenario, evidence)
    rows = {
        "jobs": _counts(states),
        "attempts": f"{len(scenario.all_jobs)} first, {chaos.attempts_asked_for.total()} asked for in "
        f"{chaos.wishes.total()} wishes",
        "submits accepted": f"{len(evidence.accepted)}, at most {max(paid.values(), default=0)} an attempt",
        "paid again": _counts(_paid_again(evidence)) or "none",
        "unknown outcomes": f"{len(unknown)}, {len(unknown & paid.keys())} of them had been accepted",
        "executions": f"{len(evidence.executions)}: {_counts(Counter(status for _, status in evidence.executions))}",
        "notifications": f"{len(evidence.notifications)} of {len(notified)} attempts",
        "attempts by end": _counts(
            Counter((message["error"] or {"type": "SUCCEEDED"})["type"] for message in _once(evidence))
        ),
        "outputs": f"{sum(not key.endswith('.json') for key in evidence.stored)} images, "
        f"{sum(key.endswith('.json') for key in evidence.stored)} result.json",
        "left in queues": ", ".join(f"{name} {len(bodies)}" for name, bodies in evidence.left.items()),
        "uploads": f"{len(scenario.uploads)}, {sum(upload.again_at is not None for upload in scenario.uploads)} again, "
        f"{sum(len(upload.event_again) for upload in scenario.uploads)} events again, "
        f"{sum(upload.event_lost for upload in scenario.uploads)} event lost",
        "versions expired": str(len(chaos.uploader.expired)),
        "records expired": f"{len(chaos.forgotten)}, retention switched {len(RETENTION_SWITCHES)} times",
        "faults that struck": _counts(struck),
        "faults of AWS": _counts(chaos.gateway_struck),
        "POSTs of the job that is always answered 500": str(struck["always 500"]),
        "responses": _counts(Counter(f"{call['route']} {call['status'] or 'none'}" for call in evidence.calls)),
        "429s": str(sum(call["status"] == 429 for call in evidence.calls)),
        "API key sent elsewhere": f"{evidence.key_leaks} times",
        "refused": f"{len(scenario.refusals)} times 20 s",
        "kills": f"{chaos.kills.total()}: {_counts(chaos.kills)}; while at work: {_counts(evidence.deaths)}",
        "charged": f"{spent(evidence.budgets):.4f} USD; by the ledger "
        f"{owed([*evidence.records, *chaos.forgotten.values()]):.4f}",
        "dead letters": _counts(Counter(letter.source for letter in evidence.dead_letters)),
        "sweeps": f"{chaos.sweeps}: {_counts(chaos.swept) or 'nothing to do'}",
        "messages lost": f"{len(chaos.lost)}, whose jobs were dispatched again" if chaos.lost else "none",
        "errors logged": _counts(evidence.errors) or "none",
        "seconds": f"{seconds:.0f}, {in_all:.0f} with the stack's start",
        "peak memory": f"{watch.peak / 1e6:.0f} MB (PSS) in {watch.most_processes} processes"
        if watch.peak
        else "not measured",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    for what, names in evidence.resumed.items():
        shown = [*sorted(names)[:SHOWN], *(["..."] if len(names) > SHOWN else [])]
        table.add_row(f"swept: {what}", f"{len(names)}: {', '.join(shown)}")
    console.print(table)


def _paid_again(evidence: Evidence) -> Counter[str]:
    """New attempts that were paid for although the one before was too, by how that one had ended."""
    paid = {accepted.name for accepted in evidence.accepted}
    return Counter(
        (message["error"] or {"type": "SUCCEEDED"})["type"]
        for message in _once(evidence)
        if {f"{message['job_id']}-{message['attempt'] + n}" for n in (0, 1)} <= paid
    )


def _once(evidence: Evidence) -> list[Record]:
    return list({(message["job_id"], message["attempt"]): message for message in evidence.notifications}.values())


def _struck(scenario: Scenario, evidence: Evidence) -> Counter[str]:
    names = [fault.name for _, fault in scenario.striking()]
    names += [f"history {fault['fault']}" for fault in scenario.plan[len(names) :]]
    counts: Counter[str] = Counter()
    for name, times in zip(names, evidence.struck, strict=True):
        counts[name] += times
    return counts


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="decides all that is drawn (default 1)")
    parser.add_argument("--jobs", type=int, default=200, help="how many, five a character (default 200)")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds, more for a busy machine (default %(default)g)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
