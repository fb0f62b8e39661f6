"""Makes a scenario happen: uploads, events that come again, kills, refused connections, new attempts, sweeps."""

import heapq
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.chaos.evidence import Ended, Ledger, depth, ends, running
from local.chaos.scenario import REFUSED_SECONDS, STORM_SECONDS, Kill, Scenario
from local.chaos.uploader import Uploader
from local.pipeline import Inbox
from local.stack import LocalStack

LOOK_SECONDS = 3.0
SAY_SECONDS = 15.0
STARTING_TICKS = 20
"""Hundredths of a second of processor time, which a process has used before it waits for the first time."""
SWEEP_SECONDS = 30.0
SWEEP_AGES = {"waiting": 20, "queued": 120, "submitting": 60, "submitted": 60, "ended": 45}
LATE_SECONDS = 3.0
KILL_TRIES = 20
LATEST_RETRY = 150.0
"""Seconds after the first upload until which new attempts are asked for: they must end as well."""


class Storm:
    """One run on a stack. `say` shows a line to who is watching."""

    def __init__(self, stack: LocalStack, scenario: Scenario, say: Callable[[str], None]) -> None:
        self.attempts_asked_for: Counter[str] = Counter()
        """New attempts that were asked for, by character and pose."""
        self.kills: Counter[str] = Counter()
        self.swept: Counter[str] = Counter()
        self.sweeps = 0
        self.inbox = Inbox(stack)
        self._stack = stack
        self._scenario = scenario
        self._say = say
        self._queue = stack.outputs["UploadQueueUrl"]
        self._uploader = Uploader(stack)
        self._ledger = Ledger(stack)
        # Plain HTTP: without verify=False the client would load all certificates.
        self._http = httpx.Client(  # nosec B501 # see above
            base_url=stack.segmind_base_url, timeout=20, trust_env=False, verify=False
        )
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sweep")
        self._sweep: Future[None] | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._sweep_at = STORM_SECONDS
        self._say_at = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def run(self, limit: float) -> bool:
        """Let everything happen; return whether all came to rest within `limit` seconds."""
        self.control("POST", "faults", {"faults": self._scenario.plan})
        self._started = time.monotonic()
        for upload in self._scenario.uploads:
            self._at(upload.at, partial(self._uploader.begin, upload))
            if upload.again_at is not None:
                self._at(upload.again_at, partial(self._uploader.begin, upload, again=True))
        for kill in self._scenario.kills:
            self._at(kill.at, partial(self._kill, kill, kill.at))
        for at in self._scenario.refusals:
            self._at(at, self._refuse)
        try:
            rested = self._pass(limit)
            self._uploader.finish()
            return rested
        finally:
            self._pool.shutdown()

    def control(self, method: str, name: str, body: object = None) -> Any:
        """Ask the emulator's control API, again while connections are refused."""
        deadline = time.monotonic() + REFUSED_SECONDS + 5
        while True:
            try:
                response = self._http.request(method, f"/_emulator/{name}", json=body)
                response.raise_for_status()
                return response.json()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    # ---- the course of things ----------------------------------------------------------------------------------------

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (seconds, self._count, action))

    def _pass(self, limit: float) -> bool:
        look_at = 0.0
        while self.seconds < limit:
            while self._due and self._due[0][0] <= self.seconds:
                heapq.heappop(self._due)[2]()
            if self.seconds >= look_at:
                if self._at_rest() and not self._due:
                    return True
                self._sweep_if_due()
                look_at = self.seconds + LOOK_SECONDS
            time.sleep(0.05)
        return False

    def _at_rest(self) -> bool:
        """Look at the ledger, and ask for the new attempts that are wanted; whether nothing is left to be done."""
        self.inbox.receive()
        ended = ends(self._ledger.read())
        self._ask_for_attempts(ended)
        told = {(message["job_id"], message["attempt"]) for message in self.inbox.messages}
        resting = [
            job
            for job in self._scenario.jobs
            if (end := ended.get((job.character, job.pose)))
            and end.told
            and (end.job_id, end.attempt) in told
            and end.attempt > self.attempts_asked_for[job.name]
        ]
        queued = depth(self._stack, self._queue)
        if self.seconds >= self._say_at:
            self._say_at = self.seconds + SAY_SECONDS
            self._say(
                f"{self.seconds:5.0f} s  {len(resting)} of {len(self._scenario.jobs)} jobs at rest, {queued} queued"
            )
        return len(resting) == len(self._scenario.jobs) and queued == 0 and not running(self._stack)

    # ---- what happens ------------------------------------------------------------------------------------------------

    def _kill(self, kill: Kill, at: float, tries: int = KILL_TRIES) -> None:
        """Kill a process of the function that is at work; try again a little later if there is none.

        MiniStack gives up all processes of a function when one of them dies before it is ready.
        """
        if self.seconds > at + LATE_SECONDS:
            return  # on a machine that is too busy, not all at once
        ready = {pid: ticks for pid in self._stack.worker_pids(kill.function) if (ticks := _ready_ticks(pid))}
        time.sleep(0.1)
        working = [pid for pid, ticks in ready.items() if _ready_ticks(pid) > ticks]
        if not working and tries:
            self._at(at + 0.5, lambda: self._kill(kill, at + 0.5, tries - 1))
        if not working:
            return
        with suppress(ProcessLookupError):
            os.kill(working[int(kill.draw * len(working))], signal.SIGKILL)
            self.kills[kill.function] += 1

    def _refuse(self) -> None:
        with suppress(httpx.TransportError):  # the answer may be lost, but asking again would refuse for longer
            self._http.post("/_emulator/refuse", json={"seconds": REFUSED_SECONDS})

    def _ask_for_attempts(self, ended: dict[tuple[str, str], Ended]) -> None:
        for job in self._scenario.jobs:
            end = ended.get((job.character, job.pose))
            if end is None or end.status != "FAILED" or not end.told or self.seconds > LATEST_RETRY:
                continue
            if end.attempt <= self.attempts_asked_for[job.name] or self.attempts_asked_for[job.name] >= job.retries:
                continue
            self.attempts_asked_for[job.name] += 1
            self._stack.client("sqs").send_message(QueueUrl=self._queue, MessageBody=json.dumps({"retry": end.job_id}))

    def _sweep_if_due(self) -> None:
        if self.seconds >= self._sweep_at and (self._sweep is None or self._sweep.done()):
            self._sweep_at = self.seconds + SWEEP_SECONDS
            self._sweep = self._pool.submit(self._sweep_once)

    def _sweep_once(self) -> None:
        """Do what the hourly schedule does, with the ages of a short run."""
        with suppress(BotoCoreError, ClientError):  # throttled: the next one does it
            answer = self._stack.client("lambda").invoke(
                FunctionName=self._stack.outputs["SweepFunctionName"], Payload=json.dumps({"ages": SWEEP_AGES})
            )
            counts = json.loads(answer["Payload"].read())
            if "FunctionError" not in answer:
                self.sweeps += 1
                self.swept.update({name: number for name, number in counts.items() if number})


def _ready_ticks(pid: int) -> int:
    """The processor time (ticks) of a process that waits for its next event or for an answer; else 0."""
    with suppress(OSError):
        # The name, in parentheses, may hold anything; these are the fields after it (source: man page proc_pid_stat).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks if fields[0] == "S" and ticks > STARTING_TICKS else 0
    return 0
