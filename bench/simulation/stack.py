"""The project's gate, line, entrance, dispatcher, submission and ledger in a simulated stack, as deployed.

The work of `intake` and `deliver` with S3 and the provider is only simulated as time; they write the line, the ledger
and the budget as on AWS. outside.py simulates the other services; sizes and limits come from template.yaml.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aws_lambda_powertools import Logger

from bench.simulation import handlers
from bench.simulation.engine import Simulation
from bench.simulation.functions import MINUTE, EventSource, Handler
from bench.simulation.outside import JOB_COST, Setting, Workflows
from bench.simulation.parts import Parts
from bench.simulation.samples import item_in_line, job_name, output
from bench.simulation.template import intake_concurrency, parameter
from posedrop.aws.places import client_item, in_line
from posedrop.aws.record import Status
from posedrop.contract.execution import ExecutionState
from posedrop.contract.times import rfc3339
from posedrop.gate.budget import Charge
from posedrop.gate.gate import GateState

logger = Logger()
"""The parent of the package's loggers, which need it."""

START = 1_798_761_600.0
"""2027-01-01, midnight UTC; the scenarios' hours are added."""

SCHEDULE_DELAY = 10.0
"""Seconds by which a run of a one-minute schedule may be late. "Several seconds" (EventBridge user guide, rules that
run on a schedule)."""
INVOKE_SECONDS = 0.1
"""Seconds until an asynchronously invoked function runs."""
STEP_SECONDS = 0.05
"""Seconds from the end of a state to the start of the next state's function. Assumed."""
SEEN_SECONDS = 2.5
"""Seconds from a job's end to its detection if polls are not simulated: the median of bench/polling.py."""
DELIVER_SECONDS = 1.0
"""Seconds to fetch and store the picture. Assumed."""


@dataclass
class Waiting:
    """A job of the benchmark: its number in the order of arrival, and its arrival time."""

    number: int
    since: float


class Stack:
    """A simulated stack. `jobs` are all jobs by their ids; delivered ones leave the table."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.simulation = Simulation(setting.seed, START + setting.begin)
        self.parts = Parts(self.simulation, setting)
        self.provider, self.meters = self.parts.provider, self.parts.meters
        self.upload_queue, self.submit_queue = self.parts.upload_queue, self.parts.submit_queue
        self.workflows = Workflows(self.simulation, self._execute)
        self.dispatch_seconds: list[float] = []
        """The seconds of each run of `dispatch`."""
        self.jobs: dict[str, Waiting] = {}
        self.delivered = 0
        self.unexpected: list[Exception] = []
        """Errors that the project's code did not expect. It survives them, but a simulation must not hide them."""
        self.concurrency = setting.submit_concurrency or int(parameter("SubmitConcurrency"))
        self._uploads: dict[str, tuple[str, str]] = {}
        self._ledger = self.parts.ledger("deliver")
        self._budgets = self.parts.gate(self.parts.client("deliver")).budgets
        self._latency = self.parts.latency("deliver")
        self.functions = {name: self.parts.function(name, handler) for name, handler in self._handlers().items()}
        self.poll = self.parts.function("poll", handlers.poll(self.parts))
        EventSource(self.simulation, self.upload_queue, self.functions["intake"], intake_concurrency())
        EventSource(self.simulation, self.submit_queue, self.functions["submit"], self.concurrency)
        self.simulation.spawn(self._schedule, self.simulation.random.uniform(0, MINUTE))

    # ---- events ----------------------------------------------------------------------------------------------------

    def upload(self, character: str, poses: int) -> list[str]:
        """Upload a number of poses at once, and return their job ids."""
        made = []
        for _ in range(poses):
            number = len(self.jobs)
            pose = f"pose-{number:06}"
            name = job_name(character, pose, number)
            self._uploads[name] = (character, pose)
            self.jobs[name] = Waiting(number, self.simulation.now)
            self.upload_queue.send(name, int(parameter("SettleSeconds")))
            made.append(name)
        return made

    def let_wait(self, character: str, poses: int) -> None:
        """Put a number of jobs of one client in line.

        The ledger writes the first one; the others are copies with their own keys.
        """
        gc.unfreeze()
        gc.collect()  # the remains of the stack before
        pattern: dict[str, Any] = {}
        since = self.simulation.now
        for number in range(poses):
            pose, rank = f"pose-{number:06}", number + 1
            name = job_name(character, pose, number)
            came = since - (poses - number) * 0.1
            self.jobs[name] = Waiting(len(self.jobs), came)
            if not pattern:
                pattern = item_in_line(self.simulation, character, pose, name, came)
            own = {
                "job_id": name,
                "pose": pose,
                **dict.fromkeys(("created_at", "updated_at", "queued_at"), rfc3339(came)),
            }
            own |= in_line(rank, came)
            item = {**pattern, **{key: {"S": value} for key, value in own.items()}, "rank": {"N": str(rank)}}
            self.parts.table.load(item)
        self.parts.table.load({"job_id": {"S": client_item(character)}, "rank": {"N": str(poses)}})
        gc.freeze()  # these objects stay: scanning them repeatedly takes half of the time

    def deploy(self, setting: Setting) -> None:
        """Deploy the stack with other parameters, for all later invocations."""
        self.setting = self.parts.setting = setting
        for name, handler in self._handlers().items():
            self.functions[name].handler = handler

    def gate(self) -> GateState:
        """Return the gate's state, without cost."""
        return self.parts.gate(self.parts.unmetered()).read(self.simulation.now)

    def close(self) -> None:
        """End the stack, to free its many items."""
        self.simulation.close()

    def run(self, seconds: float) -> None:
        """Run for some seconds. Raises the first error that the project's code did not expect."""
        with quiet():
            self.simulation.run(self.simulation.now + seconds)
        if self.unexpected:
            raise self.unexpected[0]

    @property
    def waiting(self) -> int:
        """Return how many jobs the provider has not accepted."""
        return len(self.jobs) - len(self.provider.posted)

    def numbers_sent(self) -> list[int]:
        """Return the numbers of the jobs in the order of their acceptance by the provider."""
        return [self.jobs[name].number for _, name in self.provider.posted]

    def jobs_of(self, function: str) -> int:
        """Return how many jobs a function has finished; 1 if there is none, for averages."""
        taken_in = self.functions["intake"].use.invocations
        return max(1, {"intake": taken_in, "deliver": self.delivered}.get(function, len(self.provider.posted)))

    # ---- the functions ---------------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Handler]:
        wake_dispatch = partial(self.simulation.spawn, self._run_dispatch, INVOKE_SECONDS)
        return {
            "intake": handlers.intake(self.parts, self._uploads),
            "dispatch": handlers.dispatch(self.parts, self.dispatch_seconds.append),
            "submit": handlers.submit(self.parts, self.workflows, wake_dispatch, self.unexpected.append),
        }

    def _execute(self, given: dict[str, Any]) -> None:
        """Run the execution of a sent job. If polls do not count, only their time passes."""
        if self.setting.counts == "submits":
            ended, inference = self.provider.forget(given["request_id"])
            self.simulation.sleep(ended + SEEN_SECONDS - self.simulation.now)
        else:
            state = ExecutionState.of(given)
            while not state.finished:
                self.simulation.sleep(state.wait_seconds + STEP_SECONDS)
                state = self.poll.invoke(state)
            assert state.error is None, state
            inference = self.provider.result(str(state.request_id)).inference_seconds or 0.0
        self._deliver(given["job_id"], inference)

    def _deliver(self, name: str, inference: float) -> None:
        """Make the writes of `deliver`, in order."""
        now = self.simulation.clock
        record = self._ledger.get(name)
        assert record is not None
        assert record.status is Status.SUBMITTED, record.status
        self.simulation.sleep(DELIVER_SECONDS)
        metrics = {"inference_seconds": round(inference, 2), "total_seconds": 36.2, "polls": 3, "cost_usd": JOB_COST}
        ended = self._ledger.succeed(record, [output(record.character, record.pose)], metrics, now())
        self._latency.observe(inference)
        self._budgets.settle(Charge(record.claimed.charged_usd, record.claimed.sent_at), JOB_COST, now())
        self._ledger.notified(ended, now())
        self.parts.table.delete(record.job_id)  # not counted: only to save memory
        self.delivered += 1

    def _schedule(self) -> None:
        while True:
            self.simulation.spawn(self._run_dispatch, self.simulation.random.uniform(0, SCHEDULE_DELAY))
            self.simulation.sleep(MINUTE)

    def _run_dispatch(self) -> None:
        self.functions["dispatch"].invoke({})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the functions' logs: they are many, and their times are simulated."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
