"""What the provider does to a job, and which ends of the job that explains.

Each trouble is a fault of the emulator's plan that strikes one job, known by a mark in its prompt;
`local/segmind/faults.py` tells what each does.
"""

from dataclasses import dataclass

JOB_TIMEOUT_SECONDS = 90
HANG_SECONDS = 15
"""Longer than a submit waits for its answer here."""


@dataclass(frozen=True)
class Trouble:
    """`fault` is an entry of the plan; `explains` the error types that may follow; `fatal`: the attempt cannot succeed.

    `weight` is how often it is drawn.
    """

    name: str
    fault: dict[str, object]
    explains: frozenset[str] = frozenset()
    fatal: bool = False
    weight: float = 1


def _passing(on: str, fault: str, weight: float = 1, **more: object) -> Trouble:
    return Trouble(f"{on} {fault}", {"fault": fault, "on": on, **more}, weight=weight)


def _unknown(fault: str, *, taken: bool, weight: float = 2, **more: object) -> Trouble:
    name = f"submit {fault}, {'taken' if taken else 'not taken'}"
    plan = {"fault": fault, "on": "submit", "taken": taken, **more}
    return Trouble(name, plan, frozenset({"SubmitOutcomeUnknown"}), weight=weight)


def _end(fault: str, explains: str, weight: float = 1, **more: object) -> Trouble:
    return Trouble(fault, {"fault": fault, **more}, frozenset({explains}), fatal=True, weight=weight)


def _shape(fault: str) -> Trouble:
    return Trouble(fault, {"fault": fault}, weight=0.5)


def _media(fault: str, weight: float = 1, **more: object) -> Trouble:
    return Trouble(
        f"media {fault}", {"fault": fault, "on": "media", **more}, frozenset({"OutputInvalid"}), weight=weight
    )


TROUBLES = (
    # A submit that was not taken, and said so
    _passing("submit", "429", 2, retry_after=2),
    _passing("submit", "429", 0.2),
    _passing("submit", "500", 3),
    _passing("submit", "502", 3),
    _passing("submit", "503", 1, retry_after=2),
    _passing("submit", "403", 0.5),
    _passing("submit", "406", 0.5),
    # A submit that nobody knows of
    _unknown("504", taken=True),
    _unknown("504", taken=False),
    _unknown("reset", taken=True, weight=3),
    _unknown("reset", taken=False),
    _unknown("hang", taken=True, seconds=HANG_SECONDS),
    _unknown("hang", taken=False, seconds=HANG_SECONDS),
    _unknown("no-request-id", taken=True, weight=1),
    _passing("submit", "foreign-urls", url="http://127.0.0.1:9/elsewhere"),
    # Looking at a job
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
    Trouble("unknown-state", {"fault": "unknown-state", "seconds": 4}),
    # Jobs that end badly
    _end("failed", "InferenceFailed", 3),
    _end("blocked", "InferenceFailed"),
    _end("expired", "ResultExpired", 2, seconds=1),
    Trouble(
        "never ends",
        {"fault": "unknown-state", "seconds": JOB_TIMEOUT_SECONDS + 15},
        frozenset({"TimedOut"}),
        fatal=True,
        weight=0.5,
    ),
    # Outputs in all their shapes, and none
    *map(_shape, ("output-list", "output-json-list", "output-json-object", "output-objects")),
    *map(_shape, ("output-base64", "output-data-uri")),
    _end("output-missing", "OutputInvalid"),
    _end("output-empty", "OutputInvalid", 0.5),
    _end("output-foreign", "OutputInvalid", url="http://169.254.169.254/latest/meta-data"),
    # Images
    _media("truncated", 3),
    _media("wrong-type", 2),
    _media("broken"),
    _media("empty"),
    _media("huge", 0.5, bytes=260_000_000),
    _passing("media", "cut", 3),
    _passing("media", "slow", seconds=3),
    _passing("media", "500"),
    _passing("media", "404"),
    _passing("media", "reset", 2),
)
