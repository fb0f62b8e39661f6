"""What stands in for the provider, S3 and Step Functions: what they do for a job that waits, and the time they take."""

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.simulation.engine import Simulation
from bench.simulation.functions import MINUTE
from posedrop.answers import Answer
from posedrop.errors import AccountRefused, RateLimited, StatusUnavailable
from posedrop.gate.rate_limit import Counting
from posedrop.secret import ApiKey
from posedrop.segmind import COMPLETED, Segmind, Timeouts

BUCKET = "posedrop-uploadbucket-0123456789ab"
START_EXECUTION_SECONDS = 0.03
GET_SECONDS = 0.15
"""Of a poll at the provider. Assumed."""
HEAD_SECONDS = 0.02
INFERENCE_SECONDS, INFERENCE_SPREAD = 31.4, 0.25
"""Of the model, lognormal: as in bench/jobs.py."""
JOB_COST = 0.0294


@dataclass(frozen=True)
class Setting:
    """A stack's parameters, and the provider's ways.

    counts: which calls the provider counts, submits or all; the stack is deployed so (LimitCounts). submit_concurrency:
    None for the template's default. post_seconds: median of a submit's response time, which is lognormal with
    `post_spread`. begin: seconds after midnight UTC.
    """

    requests_per_minute: float = 50
    counts: Counting = "submits"
    submit_concurrency: int | None = None
    post_seconds: float = 0.6
    post_spread: float = 0.5
    account_pause_seconds: float = 900
    daily_budget: float = 0.0
    begin: float = 0.0
    seed: int = 1


class Provider(Segmind):
    """Stands in for Segmind: takes its time, does the jobs, refuses more calls than are `allowed` in any 60 seconds.

    refuses_key: while it holds, submits are answered 401. posted: when each accepted submit came, and its job's id;
    counted: when each accepted call came that counts; limited, refused: calls answered 429, 401.
    """

    def __init__(self, simulation: Simulation, setting: Setting) -> None:
        self.posted: list[tuple[float, str]] = []
        self.counted: list[float] = []
        self.limited = 0
        self.refused = 0
        self.refuses_key = False
        self.allowed = setting.requests_per_minute
        self._simulation = simulation
        self._setting = setting
        self._window: deque[float] = deque()
        self._ends: dict[str, tuple[float, float]] = {}
        """By request id: when the job ends, and how many seconds it took."""

    def submit(self, body: dict[str, Any], timeouts: Timeouts) -> str:
        """Do what Segmind.submit does."""
        came, setting = self._simulation.now, self._setting
        accepted = not self.refuses_key and self._count()
        seconds = setting.post_seconds * math.exp(self._simulation.random.gauss(0, setting.post_spread))
        seconds = min(seconds, timeouts.total)
        if accepted:
            name = parse_qs(urlsplit(body["pose_image"]).query)["name"][0]
            self.posted.append((came, name.rpartition("-")[0]))
            request_id = f"request-{len(self.posted)}"
            inference = INFERENCE_SECONDS * math.exp(self._simulation.random.gauss(0, INFERENCE_SPREAD))
            self._ends[request_id] = came + seconds + inference, inference
        refuses_key = self.refuses_key
        self._simulation.sleep(seconds)
        if accepted:
            return request_id
        if refuses_key:
            self.refused += 1
            raise AccountRefused("the provider answered 401", 401)
        raise RateLimited("the provider answered 429", None)

    def status(self, request_id: str) -> Answer:
        """Do what Segmind.status does."""
        accepted, ended = self._setting.counts == "submits" or self._count(), self._ends[request_id][0]
        state = COMPLETED if ended <= self._simulation.now else "PROCESSING"
        self._simulation.sleep(GET_SECONDS)
        if not accepted:
            raise StatusUnavailable("the provider answered 429", 429)
        return Answer(state=state)

    def result(self, request_id: str) -> Answer:
        """Do what Segmind.result does, for a job that has ended."""
        self.status(request_id)
        return Answer(state=COMPLETED, inference_seconds=self.forget(request_id)[1], cost_usd=JOB_COST)

    def forget(self, request_id: str) -> tuple[float, float]:
        """Return when a job ends and how many seconds it takes, for the last time."""
        return self._ends.pop(request_id)

    def _count(self) -> bool:
        """Count a call; return whether it is within what is allowed."""
        now = self._simulation.now
        while self._window and self._window[0] <= now - MINUTE:
            self._window.popleft()
        if len(self._window) >= self.allowed:
            self.limited += 1
            return False
        self._window.append(now)
        self.counted.append(now)
        return True


class Key(ApiKey):
    """Stands in for the API key: the same always."""

    def __init__(self) -> None:
        super().__init__("key")

    def __call__(self) -> str:
        """Return the key."""
        return "SG_0"

    def renew(self) -> bool:
        """Say that the key is the same one."""
        return False


class ObjectStore:
    """Stands in for S3: everything is there. `heads` counts the calls."""

    def __init__(self, simulation: Simulation) -> None:
        self.heads = 0
        self._simulation = simulation

    def generate_presigned_url(self, _: str, **request: Any) -> str:
        """Return a URL without a signature that carries the file name."""
        name = request["Params"]["ResponseContentDisposition"].split('"')[1]
        return f"https://{BUCKET}.test/{request['Params']['Key']}?name={name}"

    def head_object(self, **_: Any) -> dict[str, Any]:
        """Do what S3's HeadObject does."""
        self.heads += 1
        self._simulation.sleep(HEAD_SECONDS)
        return {}


class Workflows:
    """Stands in for Step Functions: starts what `run` makes of an execution's input."""

    def __init__(self, simulation: Simulation, run: Callable[[dict[str, Any]], None]) -> None:
        self.started = 0
        self._simulation = simulation
        self._run = run

    def start_execution(self, **request: Any) -> dict[str, Any]:
        """Do what Step Functions' StartExecution does."""
        self._simulation.sleep(START_EXECUTION_SECONDS)
        self.started += 1
        given = json.loads(request["input"])
        self._simulation.spawn(lambda: self._run(given))
        return {}
