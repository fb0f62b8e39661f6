"""The faults that the provider has with single jobs, and the ends of jobs that each fault explains.

Each is an entry of the emulator's fault plan for one job, which a mark in its prompt identifies.
`local/segmind/faults.py` documents the entries.
"""

from dataclasses import dataclass

JOB_TIMEOUT_SECONDS = 90
HANG_SECONDS = 15
"""Seconds. Longer than a submit waits for its response here."""
COST_USD = 0.05
"""The cost in each result. It differs from the charge of the first jobs."""
REFUSED_ALONE = 1
"""How often a job is refused while there is no other job to try; it waits for a minute each time."""


@dataclass(frozen=True)
class JobFault:
    """A fault that strikes one job.

    `entry` goes into the fault plan. `explains`: the error types that may follow. `fatal`: the attempt cannot succeed.
    `weight`: how often it is drawn. `times`: how often it strikes, None for always.
    """

    name: str
    entry: dict[str, object]
    explains: frozenset[str] = frozenset()
    fatal: bool = False
    weight: float = 1
    times: int | None = 1


def _passing(on: str, fault: str, weight: float = 1, **more: object) -> JobFault:
    return JobFault(f"{on} {fault}", {"fault": fault, "on": on, **more}, weight=weight)


def _accepted(fault: str, weight: float = 1, **more: object) -> JobFault:
    """Return a 5xx for a job that was accepted: the provider's history has it, so it is adopted, not sent again."""
    entry = {"fault": fault, "on": "submit", "accepted": True, **more}
    return JobFault(f"submit {fault}, accepted", entry, weight=weight)


def _unknown(fault: str, *, accepted: bool, weight: float = 2, **more: object) -> JobFault:
    name = f"submit {fault}, {'accepted' if accepted else 'not accepted'}"
    entry = {"fault": fault, "on": "submit", "accepted": accepted, **more}
    return JobFault(name, entry, frozenset({"SubmitOutcomeUnknown"}), weight=weight)


def _end(fault: str, explains: str, weight: float = 1, **more: object) -> JobFault:
    return JobFault(fault, {"fault": fault, **more}, frozenset({explains}), fatal=True, weight=weight)


def _lost(fault: str, explains: str, weight: float = 1, **more: object) -> JobFault:
    """Return a fault that loses or spoils a result, while the history still leads to its images."""
    return JobFault(fault, {"fault": fault, **more}, frozenset({explains}), weight=weight)


def _shape(fault: str) -> JobFault:
    return JobFault(fault, {"fault": fault}, weight=0.5)


def _media(fault: str, weight: float = 1, **more: object) -> JobFault:
    return JobFault(
        f"media {fault}", {"fault": fault, "on": "media", **more}, frozenset({"OutputInvalid"}), weight=weight
    )


JOB_FAULTS = (
    # A submit that was not accepted, with an error that says so
    _passing("submit", "429", 2, retry_after=2),
    _passing("submit", "429", 0.2),
    _passing("submit", "403", 0.5),
    _passing("submit", "406", 0.5),
    # A 5xx, which may hide that the job was accepted
    _passing("submit", "500", 2),
    _passing("submit", "502", 1),
    _passing("submit", "503", 1, retry_after=2),
    _accepted("500", 2),
    _accepted("502"),
    _accepted("503", retry_after=2),
    # A submit with an unknown outcome
    _unknown("504", accepted=True),
    _unknown("504", accepted=False),
    _unknown("reset", accepted=True, weight=3),
    _unknown("reset", accepted=False),
    _unknown("hang", accepted=True, seconds=HANG_SECONDS),
    _unknown("hang", accepted=False, seconds=HANG_SECONDS),
    _unknown("no-request-id", accepted=True, weight=1),
    _passing("submit", "foreign-urls", url="http://127.0.0.1:9/elsewhere"),
    # Polls of a job
    _passing("status", "429", retry_after=2),
    _passing("status", "500", 2),
    _passing("status", "502"),
    _passing("status", "504"),
    _passing("status", "404"),
    _passing("status", "reset", 2),
    _passing("status", "hang", seconds=22),
    _passing("result", "500"),
    _passing("result", "reset"),
    _passing("result", "404"),
    JobFault("unknown-state", {"fault": "unknown-state", "seconds": 4}),
    # Jobs that end badly
    _end("failed", "InferenceFailed", 3),
    _end("blocked", "InferenceFailed"),
    # A result that is gone is fetched through the history, now or by a later sweep
    _lost("expired", "ResultExpired", 2, seconds=1),
    JobFault(
        "never ends",
        {"fault": "unknown-state", "seconds": JOB_TIMEOUT_SECONDS + 15},
        frozenset({"TimedOut"}),
        fatal=True,
        weight=0.5,
    ),
    # Outputs in all their shapes, and missing ones
    *map(_shape, ("output-list", "output-json-list", "output-json-object", "output-objects")),
    *map(_shape, ("output-base64", "output-data-uri")),
    _lost("output-missing", "OutputInvalid"),
    _lost("output-empty", "OutputInvalid", 0.5),
    _lost("output-foreign", "OutputInvalid", url="http://169.254.169.254/latest/meta-data"),
    *map(_shape, ("output-images",)),
    # Images
    _media("truncated", 3),
    _media("wrong-type", 2),
    _media("broken"),
    _media("empty"),
    _media("huge", 0.5, bytes=260_000_000),
    _passing("media", "cut", 3),
    _passing("media", "slow", seconds=3),
    _passing("media", "packed"),
    _passing("media", "500"),
    _passing("media", "404"),
    _passing("media", "reset", 2),
)
"""The faults that are drawn for a job, once or twice."""

ALWAYS_REFUSED = JobFault(
    "always 403", {"fault": "firewall", "on": "submit"}, frozenset({"Rejected"}), fatal=True, times=None
)
"""A firewall in front of the provider, which rejects this job's prompt."""
ALWAYS_500 = JobFault("always 500", {"fault": "500", "on": "submit"}, times=None)
ALONE_REFUSED = JobFault("refused alone", {"fault": "403", "on": "submit"}, times=REFUSED_ALONE)
KEPT_WAITING = JobFault("kept waiting in the backlog", {"fault": "503", "on": "submit"})
"""Keeps a job waiting, so that its upload's version can expire meanwhile."""
