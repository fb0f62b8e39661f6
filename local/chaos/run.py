"""Make a scenario happen: uploads, faults, kills, refused connections, new attempts, expired records, sweeps."""

import heapq
import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.chaos.evidence import Ended, Ledger, Record, ends, running, waiting_messages
from local.chaos.gateway import FAULTS_PATH
from local.chaos.passing import LONG_AGO, expire, let_be_due, retain
from local.chaos.scenario import (
    DEATHS,
    EXPIRES_SECONDS,
    GATEWAY_FAULTS,
    KILL_SECONDS,
    LAYOUT,
    REFUSED_SECONDS,
    RETENTION_SWITCHES,
    UNREADABLE,
    UNREADABLE_SECONDS,
    Kill,
    PlannedJob,
    Scenario,
)
from local.chaos.uploader import Uploader
from local.pipeline import Inbox
from local.stack import LocalStack
from posedrop.contract.times import epoch

CHECK_SECONDS = 3.0
SAY_SECONDS = 15.0
STARTING_TICKS = 5
"""Hundredths of a second of processor time that a process has used before it first waits for an event."""
SWEEP_SECONDS = 30.0
SWEEP_AGES = {"waiting": 20, "submitting": 60, "submitted": 60, "ended": 45, "rescue": 10}
LOST_SECONDS = 45.0
"""Seconds after a job's time after which it counts as lost if it has no message: 10 minutes in the ledger."""
LATE_SECONDS = 3.0
KILL_TRIES = 20
LATEST_RETRY = 130.0
"""Seconds after the first upload until which new attempts are started, because they must end as well."""
UNSENT = ("WAITING", "QUEUED", "SUBMITTING")
"""The states of a job that may still be sent."""


class ChaosStack(LocalStack):
    """A local stack whose gateway can put faults into AWS itself."""

    gateway = "local.chaos.gateway"


class ChaosRun:
    """One run on a stack. `say` prints a line for the people who watch."""

    def __init__(self, stack: ChaosStack, scenario: Scenario, say: Callable[[str], None]) -> None:
        self.attempts_asked_for: Counter[str] = Counter()
        """The requested new attempts, by the job's name: by retries, and by an upload after a record expired."""
        self.retries: Counter[str] = Counter()
        """The messages and uploads that requested them. If one is sent twice, it may make one attempt more."""
        self.forgotten: dict[str, Record] = {}
        """The expired records, by the jobs' names."""
        self.kills: Counter[str] = Counter()
        self.swept: Counter[str] = Counter()
        self.sweeps = 0
        self.lost: list[str] = []
        """The dispatched jobs whose messages were lost: `dispatch` found them again."""
        self.gateway_struck: Counter[str] = Counter()
        self.inbox = Inbox(stack)
        self.uploader = Uploader(stack)
        self._stack = stack
        self._scenario = scenario
        self._say = say
        self._queues = {"uploads": stack.outputs["UploadQueueUrl"], "submits": stack.outputs["SubmitQueueUrl"]}
        self._ledger = Ledger(stack)
        # Plain HTTP: without verify=False the client would load all certificates.
        self._http = httpx.Client(  # nosec B501 # see above
            base_url=stack.segmind_base_url, timeout=20, trust_env=False, verify=False
        )
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sweep")
        self._sweep: Future[None] | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._sweep_at = KILL_SECONDS
        self._say_at = 0.0
        self._alone_began = scenario.alone is None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._started

    def run(self, limit: float) -> bool:
        """Run the scenario; return whether everything was at rest within `limit` seconds."""
        self.control("POST", "faults", {"faults": self._scenario.plan})
        faults = {"seed": self._scenario.seed, **GATEWAY_FAULTS}
        self.set_gateway_faults({**faults, "deaths": DEATHS})
        self._started = time.monotonic()
        for upload in self._scenario.uploads:
            self._at(upload.at, partial(self.uploader.begin, upload))
            if upload.again_at is not None:
                self._at(upload.again_at, partial(self.uploader.begin, upload, again=True))
                if upload.expires:
                    self._at(upload.again_at + EXPIRES_SECONDS, partial(self.uploader.expire, upload.key))
        for kill in self._scenario.kills:
            self._at(kill.at, partial(self._kill, kill, kill.at))
        for at in self._scenario.refusals:
            self._at(at, self._refuse)
        self._at(KILL_SECONDS, partial(self.set_gateway_faults, faults))
        self._at(UNREADABLE_SECONDS, self._send_unreadable)
        for at, days in RETENTION_SWITCHES:
            self._at(at, partial(retain, self._stack, days))
        try:
            rested = self._pass(limit)
            self.uploader.finish()
            return rested
        finally:
            self._pool.shutdown()

    def control(self, method: str, name: str, body: object = None) -> Any:
        """Call the emulator's control API; repeat the call while connections are refused."""
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

    def set_gateway_faults(self, faults: dict[str, float]) -> None:
        """Replace the gateway's faults, and add their counts so far to `gateway_struck`."""
        response = httpx.post(  # nosec B501 # plain HTTP, on this machine
            f"{self._stack.endpoint_url}{FAULTS_PATH}", json=faults, trust_env=False, verify=False
        )
        self.gateway_struck = Counter(response.raise_for_status().json()["struck"])

    # ---- the schedule ------------------------------------------------------------------------------------------------

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (seconds, self._count, action))

    def _pass(self, limit: float) -> bool:
        check_at = 0.0
        while self.seconds < limit:
            while self._due and self._due[0][0] <= self.seconds:
                heapq.heappop(self._due)[2]()
            if self.seconds >= check_at:
                if self._at_rest() and not self._due and self._alone_began:
                    return True
                self._sweep_if_due()
                check_at = self.seconds + CHECK_SECONDS
            time.sleep(0.05)
        return False

    def _at_rest(self) -> bool:
        """Read the ledger, and request the scenario's new attempts; return whether nothing is left to do."""
        self.inbox.receive()
        notified: dict[str, set[int]] = defaultdict(set)
        for message in self.inbox.messages:
            notified[message["job_id"]].add(message["attempt"])
        records = self._ledger.read()
        ended = {
            place: end
            for place, end in ends(records).items()
            if end.notified_at and end.attempt in notified[end.job_id]
        }
        jobs = [
            job for job in (self._scenario.all_jobs if self._alone_began else self._scenario.jobs) if not job.endless
        ]
        resting = [
            job
            for job in jobs
            if (end := ended.get((job.character, job.pose)))
            and len(notified[end.job_id]) > self.attempts_asked_for[job.name]
        ]
        for job in resting:
            self._ask_for_attempt(job, ended[job.character, job.pose])
        waiting, under_way = waiting_messages(self._stack), running(self._stack)
        expiring = [(job, end) for job in resting if self._expires(job, end := ended[job.character, job.pose])]
        for job, end in expiring:
            # After days, there is no message about a job, and no execution of it runs.
            if f"{end.job_id}-{end.attempt}" not in under_way and not any(end.job_id in body for body in waiting):
                self._forget(job, next(record for record in records if record["job_id"] == end.job_id))
        if not expiring:
            self._begin_alone_if_quiet(jobs, records)
        for job_id, place in lost_jobs(records, waiting, time.time()):
            if let_be_due(self._stack, job_id, place):
                self.lost.append(job_id)
        endless = {(job.character, job.pose) for job in self._scenario.jobs if job.endless}
        apart_from = [record["job_id"] for record in records if (record["character"], record["pose"]) in endless]
        queued = sum(not any(job_id in body for job_id in apart_from) for body in waiting)
        if self.seconds >= self._say_at:
            self._say_at = self.seconds + SAY_SECONDS
            self._say(f"{self.seconds:5.0f} s  {len(resting)} of {len(jobs)} jobs at rest, {queued} queued")
        return len(resting) == len(jobs) and queued == 0 and not expiring and not under_way

    # ---- the events --------------------------------------------------------------------------------------------------

    def _kill(self, kill: Kill, at: float, tries: int = KILL_TRIES) -> None:
        """Kill a process of the function while it works; if there is none, try again a little later.

        MiniStack gives up all processes of a function if one of them dies before it is ready.
        """
        if self.seconds > at + LATE_SECONDS:
            return  # the machine is too busy: do not kill all at once
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
        with suppress(httpx.TransportError):  # the response may be lost; a second call would refuse for longer
            self._http.post("/_emulator/refuse", json={"seconds": REFUSED_SECONDS})

    def _send_unreadable(self) -> None:
        for queue, body in UNREADABLE.items():
            self._send(queue, body)

    def _send(self, queue: str, body: str) -> None:
        self._stack.client("sqs").send_message(QueueUrl=self._queues[queue], MessageBody=body)

    def _ask_for_attempt(self, job: PlannedJob, end: Ended) -> None:
        """Request a new attempt of a failed job, if the scenario wants one more."""
        if end.status != "FAILED" or self.seconds > LATEST_RETRY or self.attempts_asked_for[job.name] >= job.retries:
            return
        self.attempts_asked_for[job.name] += 1
        for _ in range(2 if job.retried_twice_over else 1):
            self.retries[job.name] += 1
            self._send("uploads", json.dumps({"retry": end.job_id}))

    def _expires(self, job: PlannedJob, end: Ended) -> bool:
        """Return whether a job's record must expire in this run; it has a time to live only if retention was on."""
        return job.forgotten and end.expires and job.name not in self.forgotten

    def _forget(self, job: PlannedJob, record: Record) -> None:
        """Let a job's record expire, and upload the same content again, which makes a new attempt."""
        self.forgotten[job.name] = record
        self.attempts_asked_for[job.name] += 1
        self.retries[job.name] += 1
        expire(self._stack, record["job_id"])
        prefix = f"{LAYOUT.folder(job.character).pose(job.pose)}."
        (upload,) = (
            upload
            for upload in self._scenario.uploads
            if upload.key.startswith(prefix) and not upload.key.endswith(".json")
        )
        self.uploader.begin(upload, again=True)

    def _begin_alone_if_quiet(self, jobs: list[PlannedJob], records: list[Record]) -> None:
        """Upload the lone job's files when no other job will be sent any more."""
        if self._alone_began or self._due or self.seconds < LATEST_RETRY:
            return
        places = {(job.character, job.pose) for job in jobs}
        if any((found["character"], found["pose"]) in places for found in records if found["status"] in UNSENT):
            return
        self._alone_began = True
        for upload in self._scenario.alone_uploads:
            self._at(self.seconds + upload.at, partial(self.uploader.begin, upload))

    def _sweep_if_due(self) -> None:
        if self.seconds >= self._sweep_at and (self._sweep is None or self._sweep.done()):
            self._sweep_at = self.seconds + SWEEP_SECONDS
            self._sweep = self._pool.submit(self._sweep_once)

    def _sweep_once(self) -> None:
        """Sweep as the hourly schedule does, with ages for a short run."""
        with suppress(BotoCoreError, ClientError):  # throttled: the next sweep does it
            response = self._stack.client("lambda").invoke(
                FunctionName=self._stack.outputs["SweepFunctionName"], Payload=json.dumps({"ages": SWEEP_AGES})
            )
            counts = json.loads(response["Payload"].read())
            if "FunctionError" not in response:
                self.sweeps += 1
                self.swept.update({name: number for name, number in counts.items() if number})


def lost_jobs(records: Iterable[Record], messages: Sequence[str], now: float) -> list[tuple[str, str]]:
    """Return the dispatched jobs whose messages are lost, with their places in the index.

    `messages` are the bodies of all messages, including those in flight. `now` is in seconds since the epoch.
    """
    return [
        (record["job_id"], record["place"])
        for record in records
        if record["status"] == "QUEUED"
        and "send_at" in record
        and epoch(str(record["send_at"])) + LOST_SECONDS < now
        and record["place"] != LONG_AGO
        and not any(record["job_id"] in body for body in messages)
    ]


def _ready_ticks(pid: int) -> int:
    """Return the processor time (ticks) of a process that waits for its next event or for a response; else 0."""
    with suppress(OSError):
        # The name, in parentheses, may contain anything; these are the fields after it (man page proc_pid_stat).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks if fields[0] == "S" and ticks > STARTING_TICKS else 0
    return 0
