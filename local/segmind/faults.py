"""The fault plan: how the emulator misbehaves, when, and how often.

A plan is JSON, `{"faults": [...]}`. Each fault is an object with these keys; all but `fault` are optional:

    fault        a name from the table below
    on           submit, status, result, media, history or credits, or a list: the calls that it strikes
    share        the share of those calls, 0 to 1, drawn from the emulator's seed
    nth          a list: exactly the n-th of those calls, counted from 1
    times        strike no more than so often
    match        only jobs whose prompt contains this text
    after        only after this many seconds of the plan
    until        only in the first seconds of the plan, this many
    accepted     on a submit: true if the job is accepted (and costs a credit) although the response is bad
    seconds      how long it lasts
    retry_after  429, 503: the value of the header; without it the header is not sent
    url          output-foreign, foreign-urls, redirect: the target
    bytes        huge: the size
    state        unknown-state: its name

Without `share` and `nth` it strikes every call. If several strike a call, the first in the plan wins. Each has its own
count. Only calls with the right key and within the plan's limit are counted.

    name                   strikes             what happens
    401 403 404 406 429    any call            that status with a JSON error; a 429 does not count against the limit
    500 503                any call            the same; `accepted` false
    502                    any call            an HTML page; `accepted` false
    firewall               any call            403 with the HTML page of a firewall in front of the provider; with a
                                               `match` it always refuses the jobs with that prompt
    504                    any call            JSON; `accepted` true
    reset                  any call            the connection is reset without a response; `accepted` true
    hang                   any call            nothing for `seconds` (30). Then a GET, or a submit with `accepted`
                                               (true), gets its response; a submit that was not accepted is closed
                                               without a response
    refused                any call            the call gets its response (a submit that was not `accepted` is reset),
                                               then the listening socket closes for `seconds` (5): connections are
                                               refused
    no-request-id          submit              200 without request_id; `accepted` true
    foreign-urls           submit              status_url, response_url and poll_url lead to `url`
    failed                 a job               ends FAILED
    blocked                a job               ends FAILED with a responsible-AI text, as for a prompt that contains
                                               `blocked-content`
    expired                a job               404 on its GETs, `seconds` (0) after submission
    unknown-state          a job               an undocumented state for `seconds` (2)
    output-string          a job               one URL, whatever the number of samples
    output-list            a job               a list of URLs
    output-json-list       a job               a list of URLs as a JSON string
    output-json-object     a job               {"url": ...}, or {"urls": [...]}, as a JSON string
    output-objects         a job               a list of objects with a url
    output-base64          a job               base64 text
    output-data-uri        a job               base64 text behind a data: prefix
    output-missing         a job               COMPLETED without an output
    output-empty           a job               an empty string
    output-null            a job               null
    output-images          a job               no `output`, but a list of URLs as `images`
    output-foreign         a job               `url`
    broken                 media               the image's bytes are garbage
    truncated              media               half an image, with a matching Content-Length
    cut                    media               half an image, then the connection closes before Content-Length
    slow                   media               the image drips over `seconds` (10)
    packed                 media               the image with Content-Encoding gzip, although it was not requested
    wrong-type             media               an HTML page with status 200
    huge                   media               a valid PNG of `bytes` (268435456), streamed
    empty                  media               no bytes
    redirect               media               302 to `url`

Faults for a job are drawn when it is accepted, and have no `on`.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

CALLS = ("submit", "status", "result", "media", "history", "credits")
JOB = "job"
STATUSES = ("401", "403", "404", "406", "429", "500", "502", "503", "504")
FIREWALL = "firewall"
OUTPUTS = (
    *("output-string", "output-list", "output-json-list", "output-json-object", "output-objects", "output-base64"),
    *("output-data-uri", "output-missing", "output-empty", "output-null", "output-images", "output-foreign"),
)
POINTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*STATUSES, FIREWALL, "refused", "reset", "hang"), CALLS),
    **dict.fromkeys(("no-request-id", "foreign-urls"), ("submit",)),
    **dict.fromkeys(("failed", "blocked", "expired", "unknown-state", *OUTPUTS), (JOB,)),
    **dict.fromkeys(
        ("broken", "truncated", "cut", "slow", "packed", "wrong-type", "huge", "empty", "redirect"), ("media",)
    ),
}
"""The calls that each fault can strike."""

ACCEPTED = ("504", "reset", "hang", "no-request-id", "refused", "foreign-urls")
"""Faults with which the job is accepted, unless the plan says otherwise."""
NEVER_ACCEPTED = ("401", "403", "404", "406", "429", FIREWALL)
SECONDS = {"hang": 30.0, "refused": 5.0, "unknown-state": 2.0, "slow": 10.0}
URL_NEEDED = ("output-foreign", "foreign-urls", "redirect")


class PlanError(ValueError):
    """A fault plan cannot be parsed; the text names the fault and the key."""


@dataclass(frozen=True)
class Fault:
    """One line of the plan; see the module's docstring for the fields. Times in seconds."""

    fault: str
    on: tuple[str, ...]
    accepted: bool
    seconds: float
    share: float = 1.0
    nth: frozenset[int] | None = None
    times: int | None = None
    match: str = ""
    after: float = 0.0
    until: float | None = None
    retry_after: str | None = None
    url: str = ""
    bytes: int = 256 * 1024 * 1024
    state: str = "THROTTLED"

    @classmethod
    def parse(cls, entry: object) -> "Fault":
        """Check one fault of a plan. Raises PlanError."""
        if not isinstance(entry, dict):
            raise PlanError("a fault must be an object")
        name = str(entry.get("fault"))
        if name not in POINTS:
            raise PlanError(f"no such fault: {name}")
        for key in entry:
            if key not in CHECKS:
                raise PlanError(f"{name}: no such key: {key}")
            if not CHECKS[key](entry[key]):
                raise PlanError(f"{name}: {key} cannot be {entry[key]!r}")
        if name in URL_NEEDED and "url" not in entry:
            raise PlanError(f"{name}: needs a url")
        if name in NEVER_ACCEPTED and entry.get("accepted"):
            raise PlanError(f"{name}: with this fault a job is never accepted")
        values = {key: value for key, value in entry.items() if key not in ("fault", "on", "nth", "retry_after")}
        if "nth" in entry:
            values["nth"] = frozenset(entry["nth"])
        if "retry_after" in entry:
            values["retry_after"] = str(entry["retry_after"])
        return cls(
            fault=name,
            on=_points(name, entry.get("on")),
            **{"accepted": name in ACCEPTED, "seconds": SECONDS.get(name, 0.0), **values},
        )


def _points(name: str, on: object) -> tuple[str, ...]:
    allowed = POINTS[name]
    if allowed == (JOB,) and on in (None, "submit"):
        return allowed
    if on is None and len(allowed) == 1:
        return allowed
    points = tuple(on) if isinstance(on, list) else (on,)
    if on is None or not points or not all(point in allowed for point in points):
        raise PlanError(f"{name}: on must be one of {', '.join(allowed)}")
    return points


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


CHECKS: dict[str, Callable[[object], bool]] = {
    "fault": _text,
    "on": lambda value: _text(value) or (isinstance(value, list) and all(map(_text, value))),
    "share": lambda value: _number(value) and value <= 1,
    "nth": lambda value: isinstance(value, list) and bool(value) and all(_whole(n) and n > 0 for n in value),
    "times": _whole,
    "match": _text,
    "after": _number,
    "until": _number,
    "accepted": lambda value: isinstance(value, bool),
    "seconds": _number,
    "retry_after": lambda value: _number(value) or _text(value),
    "url": _text,
    "bytes": _whole,
    "state": _text,
}


class Trigger:
    """Counts the calls for one fault and decides which of them it strikes."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.struck = 0
        self._seen = 0
        self._random = random.Random(seed)  # nosec B311 # the same each time

    def due(self, point: str, prompt: str, elapsed: float) -> bool:
        """Return whether the fault strikes this call, `elapsed` seconds after the plan's start."""
        fault = self.fault
        if point not in fault.on or fault.match not in prompt:
            return False
        if elapsed < fault.after or (fault.until is not None and elapsed >= fault.until):
            return False
        self._seen += 1
        drawn = self._random.random() < fault.share
        if fault.times is not None and self.struck >= fault.times:
            return False
        return drawn and (fault.nth is None or self._seen in fault.nth)


class Plan:
    """A running fault plan. `seed` decides all its draws; its clock starts now."""

    def __init__(self, document: object = None, seed: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """`document` is the plan as parsed JSON, or None for no faults. Raises PlanError."""
        faults = document.get("faults") if isinstance(document, dict) else document
        if not isinstance(faults, list | None) or (isinstance(document, dict) and set(document) != {"faults"}):
            raise PlanError('a plan is {"faults": [...]}')
        self._triggers = [Trigger(Fault.parse(entry), f"{seed}/{n}") for n, entry in enumerate(faults or [])]
        self._clock = clock
        self._started = clock()

    def draw(self, point: str, prompt: str) -> Fault | None:
        """Return the fault that strikes this call, or None. `point` is one of CALLS, or JOB."""
        elapsed = self._clock() - self._started
        due = [trigger for trigger in self._triggers if trigger.due(point, prompt, elapsed)]
        if not due:
            return None
        due[0].struck += 1
        return due[0].fault

    def struck(self) -> list[dict[str, object]]:
        """Return how often each fault has struck, in the plan's order."""
        return [{"fault": trigger.fault.fault, "struck": trigger.struck} for trigger in self._triggers]
