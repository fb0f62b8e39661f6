"""Simulate the provider, S3 and Step Functions: their behaviour for a waiting job, and their durations."""

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.simulation.engine import Simulation
from bench.simulation.functions import MINUTE
from posedrop.contract.errors import AccountRefused, RateLimited, StatusUnavailable
from posedrop.gate.rate_limit import Counting
from posedrop.segmind.client import COMPLETED, Segmind, Timeouts
from posedrop.segmind.responses import ProviderResponse

BUCKET = "posedrop-uploadbucket-0123456789ab"
START_EXECUTION_SECONDS = 0.03
GET_SECONDS = 0.15
"""Seconds of a poll at the provider. Assumed."""
HEAD_SECONDS = 0.02
INFERENCE_SECONDS, INFERENCE_SPREAD = 31.4, 0.25
"""Seconds of the model, lognormal: as in bench/jobs.py."""
JOB_COST = 0.0294


@dataclass(frozen=True)
class Setting:
    """A stack's parameters, and the provider's behaviour.

    counts: which calls the provider counts, submits or all; the stack is deployed with the same (LimitCounts).
    submit_concurrency: None for the template's default. post_seconds: the median response time of a submit, lognormal
    with `post_spread`. begin: seconds after midnight UTC.
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
    """Simulates Segmind: takes time, runs the jobs, and refuses more than `allowed` calls in any 60 seconds.

    refuses_key: submits are answered 401. posted: the time of each accepted submit, and its job's id. counted: the
    times of accepted calls that count. limited, refused: the numbers of 429s and 401s.
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
        """When the job ends, and its duration in seconds, by request id."""

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

    def status(self, request_id: str) -> ProviderResponse:
        """Do what Segmind.status does."""
        accepted, ended = self._setting.counts == "submits" or self._count(), self._ends[request_id][0]
        state = COMPLETED if ended <= self._simulation.now else "PROCESSING"
        self._simulation.sleep(GET_SECONDS)
        if not accepted:
            raise StatusUnavailable("the provider answered 429", 429)
        return ProviderResponse(state=state)

    def result(self, request_id: str) -> ProviderResponse:
        """Do what Segmind.result does, for a job that has ended."""
        self.status(request_id)
        return ProviderResponse(state=COMPLETED, inference_seconds=self.forget(request_id)[1], cost_usd=JOB_COST)

    def renew_key(self) -> bool:
        """Return that the key has not changed."""
        return False

    def forget(self, request_id: str) -> tuple[float, float]:
        """Return when a job ends, and its duration in seconds; then forget the job."""
        return self._ends.pop(request_id)

    def _count(self) -> bool:
        """Count a call; return whether it is within the limit."""
        now = self._simulation.now
        while self._window and self._window[0] <= now - MINUTE:
            self._window.popleft()
        if len(self._window) >= self.allowed:
            self.limited += 1
            return False
        self._window.append(now)
        self.counted.append(now)
        return True


class ObjectStore:
    """Simulates S3, in which every object exists. `heads` counts the calls."""

    meta = SimpleNamespace(endpoint_url="https://s3.eu-central-1.amazonaws.com")

    def __init__(self, simulation: Simulation) -> None:
        self.heads = 0
        self._simulation = simulation

    def generate_presigned_url(self, _: str, **request: Any) -> str:
        """Return a URL without a signature that contains the file name."""
        name = request["Params"]["ResponseContentDisposition"].split('"')[1]
        return f"https://{BUCKET}.test/{request['Params']['Key']}?name={name}"

    def head_object(self, **_: Any) -> dict[str, Any]:
        """Do what S3's HeadObject does."""
        self.heads += 1
        self._simulation.sleep(HEAD_SECONDS)
        return {}


class Workflows:
    """Simulates Step Functions: starts `run` with an execution's input."""

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
