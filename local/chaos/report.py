"""Show the results of a chaos run."""

from collections import Counter

from rich.table import Table

from local.chaos.evidence import Evidence, Record
from local.chaos.memory import MemoryWatch
from local.chaos.run import ChaosRun
from local.chaos.scenario import RETENTION_SWITCHES, Scenario
from local.chaos.spending import owed, spent

SHOWN = 12


def table(
    scenario: Scenario, chaos: ChaosRun, evidence: Evidence, watch: MemoryWatch, seconds: tuple[float, float]
) -> Table:
    """Return the events and the results. `seconds`: the run's duration, without and with the stack's start."""
    found = Table(title=f"Chaos, seed {scenario.seed}", title_justify="left", show_header=False)
    found.add_column(style="dim")
    found.add_column()
    rows = {
        **_outcome(scenario, chaos, evidence),
        **_happened(scenario, chaos, evidence),
        "seconds": f"{seconds[0]:.0f}, {seconds[1]:.0f} with the stack's start",
        "peak memory": f"{watch.peak / 1e6:.0f} MB (PSS) in {watch.most_processes} processes"
        if watch.peak
        else "not measured",
    }
    for name, text in rows.items():
        found.add_row(name, text)
    for what, names in evidence.resumed.items():
        shown = [*sorted(names)[:SHOWN], *(["..."] if len(names) > SHOWN else [])]
        found.add_row(f"swept: {what}", f"{len(names)}: {', '.join(shown)}")
    return found


def _outcome(scenario: Scenario, chaos: ChaosRun, evidence: Evidence) -> dict[str, str]:
    """Return the results of the jobs."""
    paid = Counter(accepted.name for accepted in evidence.accepted)
    states = Counter(
        f"{record['status']} {record.get('error', {}).get('type', '')}".strip() for record in evidence.records
    )
    notified = Counter((message["job_id"], message["attempt"]) for message in evidence.notifications)
    unknown = {
        f"{message['job_id']}-{message['attempt']}"
        for message in _once(evidence)
        if (message["error"] or {}).get("type") == "SubmitOutcomeUnknown"
    }
    return {
        "jobs": _counts(states),
        "attempts": f"{len(scenario.all_jobs)} first, {chaos.attempts_asked_for.total()} asked for in "
        f"{chaos.retries.total()} retries",
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
        "charged": f"{spent(evidence.budgets):.4f} USD; by the ledger "
        f"{owed([*evidence.records, *chaos.forgotten.values()]):.4f}",
    }


def _happened(scenario: Scenario, chaos: ChaosRun, evidence: Evidence) -> dict[str, str]:
    """Return the events of the run."""
    struck = faults_struck(scenario, evidence)
    return {
        "uploads": f"{len(scenario.uploads)}, {sum(upload.again_at is not None for upload in scenario.uploads)} again, "
        f"{sum(len(upload.event_again) for upload in scenario.uploads)} events again, "
        f"{sum(upload.event_lost for upload in scenario.uploads)} event lost",
        "versions expired": str(len(chaos.uploader.expired)),
        "records expired": f"{len(chaos.forgotten)}, retention switched {len(RETENTION_SWITCHES)} times",
        "faults that struck": _counts(struck),
        "faults of AWS": _counts(chaos.gateway_struck),
        "POSTs of the job that always gets a 500": str(struck["always 500"]),
        "responses": _counts(Counter(f"{call['route']} {call['status'] or 'none'}" for call in evidence.calls)),
        "429s": str(sum(call["status"] == 429 for call in evidence.calls)),
        "API key sent to other hosts": f"{evidence.key_leaks} times",
        "refused": f"{len(scenario.refusals)} times 20 s",
        "kills": f"{chaos.kills.total()}: {_counts(chaos.kills)}; while working: {_counts(evidence.deaths)}",
        "dead letters": _counts(Counter(letter.source for letter in evidence.dead_letters)),
        "sweeps": f"{chaos.sweeps}: {_counts(chaos.swept) or 'nothing to do'}",
        "messages lost": f"{len(chaos.lost)}, whose jobs were dispatched again" if chaos.lost else "none",
        "errors logged": _counts(evidence.errors) or "none",
    }


def _paid_again(evidence: Evidence) -> Counter[str]:
    """Return the new attempts that were paid although the one before was too, by the end of that one."""
    paid = {accepted.name for accepted in evidence.accepted}
    return Counter(
        (message["error"] or {"type": "SUCCEEDED"})["type"]
        for message in _once(evidence)
        if {f"{message['job_id']}-{message['attempt'] + n}" for n in (0, 1)} <= paid
    )


def _once(evidence: Evidence) -> list[Record]:
    return list({(message["job_id"], message["attempt"]): message for message in evidence.notifications}.values())


def faults_struck(scenario: Scenario, evidence: Evidence) -> Counter[str]:
    """Return how often each fault of the provider struck."""
    names = [fault.name for _, fault in scenario.striking()]
    names += [f"history {fault['fault']}" for fault in scenario.plan[len(names) :]]
    counts: Counter[str] = Counter()
    for name, times in zip(names, evidence.struck, strict=True):
        counts[name] += times
    return counts


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number)
