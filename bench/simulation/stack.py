"""The project's own gate, line, entrance, dispatcher, submission and ledger in a simulated stack, as deployed.

Of `intake` and `deliver` what they do with S3 and the provider only takes its time here; the line, the ledger and the
budget they write as they do on AWS. What stands in for the services around is in outside.py; sizes and limits come from
template.yaml.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from bench.simulation.dynamodb import Client, Meter, Table
from bench.simulation.engine import Simulation
from bench.simulation.functions import MINUTE, EventSource, Function, Handler, Queue
from bench.simulation.outside import BUCKET, JOB_COST, Key, ObjectStore, Provider, Setting, Workflows
from bench.simulation.template import TABLE, indexes, intake_concurrency, parameter, submit_settings, template
from posedrop.aws.executions import Executions
from posedrop.aws.inbox import Inbox
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import SubmitMessage, parse_message
from posedrop.aws.parallel import WORKERS
from posedrop.aws.places import client_item, in_line
from posedrop.aws.record import Status
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.contract.deferral import Deferred
from posedrop.contract.execution import ExecutionState
from posedrop.contract.job import Input, Job
from posedrop.contract.times import epoch, rfc3339
from posedrop.contract.upload_layout import UploadLayout
from posedrop.dispatch.dispatcher import Dispatched, Dispatcher
from posedrop.gate.budget import Budget, Charge
from posedrop.gate.gate import Gate, GateState
from posedrop.gate.latency import LatencyStore
from posedrop.gate.rate_limit import RateLimit
from posedrop.line.entrance import Entrance
from posedrop.line.line import Line
from posedrop.poll.status_poller import StatusPoller
from posedrop.segmind.rescue import Rescue
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.submission import Submission

logger = Logger()
"""The parent of the package's loggers, which they cannot do without."""

START = 1_798_761_600.0
"""2027-01-01, midnight UTC, to which the scenarios' hours are added."""

SCHEDULE_DELAY = 10.0
"""Seconds by which a run of each minute's schedule may be late. "Several seconds" (EventBridge user guide, rules that
run on a schedule)."""
INVOKE_SECONDS = 0.1
"""Until a function runs that was invoked asynchronously."""
START_SECONDS: dict[str, float] = {"intake": 0.6, "dispatch": 0.6, "submit": 0.9, "poll": 0.7}
"""Of a new environment: half a CPU or less imports boto3 and the package, and makes the clients."""
CALL_SECONDS = 0.002
"""Of the half of a processor that comes with 1,024 MB, for one call of AWS. So `dispatch` writes at most 500 records a
second, in however many threads. Botocore alone takes 1.1 ms of a whole one here."""
INTAKE_SECONDS = 0.35
"""What intake takes for one pose besides the line and the ledger: two listings, reading face, pose and job file (a few
MB), checking both. Assumed."""
STEP_SECONDS = 0.05
"""From the end of a state of an execution to the start of the next one's function. Assumed."""
SEEN_SECONDS = 2.5
"""From a job's end until it is seen where polls are not simulated: the median of bench/polling.py."""
DELIVER_SECONDS = 1.0
"""For fetching the picture and storing it. Assumed."""
IMAGE_BYTES = 2_000_000
PROMPT = "the same person, looking through a camera on a tripod"


@dataclass
class Waiting:
    """A job as the benchmark knows it: its number in the order of arrival, and when it came."""

    number: int
    since: float


class Stack:
    """A simulated stack. `jobs` are all that came, by their id; those that are delivered leave the table."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.simulation = Simulation(setting.seed, START + setting.begin)
        self.provider = Provider(self.simulation, setting)
        self.objects = ObjectStore(self.simulation)
        self.workflows = Workflows(self.simulation, self._execute)
        self.meters = {name: Meter() for name in ("intake", "dispatch", "submit", "poll", "deliver")}
        self.dispatch_seconds: list[float] = []
        """What each run of `dispatch` took."""
        self.jobs: dict[str, Waiting] = {}
        self.delivered = 0
        self.unexpected: list[Exception] = []
        """Errors that the project's code did not expect. It survives them; a simulation must not hide them."""
        self.concurrency = setting.submit_concurrency or int(parameter("SubmitConcurrency"))
        self._table = Table(self.simulation, "job_id", indexes())
        visibility = parameter("QueueVisibilitySeconds")
        self.upload_queue = Queue(self.simulation, visibility)
        self.submit_queue = Queue(self.simulation, visibility)
        self._uploads: dict[str, tuple[str, str]] = {}
        self._ledger, self._budgets = self._ledger_of("deliver"), self._gate("deliver").budgets
        self._latency = LatencyStore(self._client("deliver"), TABLE, parameter("TypicalInferenceSeconds"))
        handlers = self._handlers()
        self.functions = {name: self._function(name, handler) for name, handler in handlers.items()}
        self.poll = self._function("poll", self._poll())
        EventSource(self.simulation, self.upload_queue, self.functions["intake"], intake_concurrency())
        EventSource(self.simulation, self.submit_queue, self.functions["submit"], self.concurrency)
        self.simulation.spawn(self._schedule, self.simulation.random.uniform(0, MINUTE))

    # ---- what happens to it ----------------------------------------------------------------------------------------

    def upload(self, character: str, poses: int) -> list[str]:
        """Upload so many poses at once; return their job ids."""
        made = []
        for _ in range(poses):
            number = len(self.jobs)
            pose = f"pose-{number:06}"
            name = _name(character, pose, number)
            self._uploads[name] = (character, pose)
            self.jobs[name] = Waiting(number, self.simulation.now)
            self.upload_queue.send(name, int(parameter("SettleSeconds")))
            made.append(name)
        return made

    def let_wait(self, character: str, poses: int) -> None:
        """Let so many jobs of one client stand in line already.

        The first is written by the ledger, the others are its copies with keys of their own.
        """
        gc.unfreeze()
        gc.collect()  # what is left of the stack before
        pattern: dict[str, Any] = {}
        since = self.simulation.now
        for number in range(poses):
            pose, rank = f"pose-{number:06}", number + 1
            name = _name(character, pose, number)
            came = since - (poses - number) * 0.1
            self.jobs[name] = Waiting(len(self.jobs), came)
            if not pattern:
                pattern = self._first_in_line(character, pose, name, rank, came)
            own = {
                "job_id": name,
                "pose": pose,
                **dict.fromkeys(("created_at", "updated_at", "queued_at"), rfc3339(came)),
            }
            own |= in_line(rank, own["queued_at"])
            item = {**pattern, **{key: {"S": value} for key, value in own.items()}, "rank": {"N": str(rank)}}
            self._table.load(item)
        self._table.load({"job_id": {"S": client_item(character)}, "rank": {"N": str(poses)}})
        gc.freeze()  # many objects that stay: to look through them again and again takes half of the time

    def deploy(self, setting: Setting) -> None:
        """Deploy the stack with other parameters: from now on each invocation has them."""
        self.setting = setting
        for name, handler in self._handlers().items():
            self.functions[name].handler = handler

    def gate(self) -> GateState:
        """Return the gate's state, at no cost."""
        client = Client(self.simulation, self._table, Meter(), timed=False)
        return self._gate_of(client).read(self.simulation.now)

    def close(self) -> None:
        """End the stack: its items are many."""
        self.simulation.close()

    def run(self, seconds: float) -> None:
        """Let time pass. Raises the first error that the project's code did not expect."""
        with quiet():
            self.simulation.run(self.simulation.now + seconds)
        if self.unexpected:
            raise self.unexpected[0]

    @property
    def waiting(self) -> int:
        """How many jobs have not been accepted by the provider."""
        return len(self.jobs) - len(self.provider.posted)

    def numbers_sent(self) -> list[int]:
        """Return the numbers of the jobs in the order in which the provider accepted them."""
        return [self.jobs[name].number for _, name in self.provider.posted]

    def jobs_of(self, function: str) -> int:
        """Return how many jobs a function has been through with; 1 if there is none, for averages."""
        taken_in = self.functions["intake"].use.invocations
        return max(1, {"intake": taken_in, "deliver": self.delivered}.get(function, len(self.provider.posted)))

    # ---- the functions ---------------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Handler]:
        return {"intake": self._intake(), "dispatch": self._dispatch(), "submit": self._submit()}

    def _intake(self) -> Handler:
        ledger, gate, clock = self._ledger_of("intake"), self._gate("intake"), self.simulation.clock
        entrance = Entrance(gate, Line(self._items("intake")), self._queue(), clock)

        def handler(event: Any, remaining: Callable[[], float]) -> dict[str, Any]:
            name = event["Records"][0]["body"]
            character, pose = self._uploads.pop(name)
            self.simulation.sleep(INTAKE_SECONDS)
            job = _job(character, pose, name)
            place = entrance.place(character)
            entrance.send(ledger.queue(job, place, clock()), place)
            for waiting in (pose, ""):
                ledger.stop_waiting(character, waiting)
            return {"batchItemFailures": []}

        return handler

    def _dispatch(self) -> Handler:
        dispatcher = Dispatcher(
            self._gate("dispatch"),
            Line(self._items("dispatch")),
            self._queue(),
            clock=self.simulation.clock,
            key_changed_at=lambda: 0.0,
            parallel=self.simulation.parallel(WORKERS),
        )

        def handler(event: Any, remaining: Callable[[], float]) -> Dispatched:
            began = self.simulation.now
            done = dispatcher.run(remaining)
            self.dispatch_seconds.append(self.simulation.now - began)
            Metrics().metric_set.clear()
            return done

        return handler

    def _submit(self) -> Handler:
        simulation, ledger, gate = self.simulation, self._ledger_of("submit"), self._gate("submit")
        key = Key()
        submission = Submission(
            submit_settings(self.setting),
            s3=cast(Any, self.objects),
            ledger=ledger,
            gate=gate,
            segmind=self.provider,
            lookup=RequestLookup(ledger, self.provider, gate, None, Rescue(None), clock=simulation.clock),
            api_key=key,
            executions=Executions(cast(Any, self.workflows), "arn:stateMachine:jobs"),
            latency=LatencyStore(self._client("submit"), TABLE, parameter("TypicalInferenceSeconds")),
            pictures=cast(Any, None),  # no picture of the simulation needs to be prepared
            wake_dispatch=lambda: simulation.spawn(self._run_dispatch, INVOKE_SECONDS),
            clock=simulation.clock,
            sleep=simulation.sleep,
        )
        inbox = Inbox(cast(Any, self.submit_queue), "submits", "dead letters", "submits")

        def handler(event: Any, remaining: Callable[[], float]) -> dict[str, Any]:
            def handle(message: SQSRecord, received: int) -> None:
                found = parse_message(message.body)
                assert isinstance(found, SubmitMessage)
                record = ledger.get(found.job_id)
                assert record is not None, found.job_id
                try:
                    submission.advance(record, found, received, remaining)
                except Exception as exc:
                    if not isinstance(exc, Deferred):
                        self.unexpected.append(exc)
                    raise

            response = inbox.process(event, handle)
            Metrics().metric_set.clear()
            return response

        return handler

    def _poll(self) -> Handler:
        watch = StatusPoller(
            self.provider,
            self._gate("poll").limiter,
            Key(),
            timeout_seconds=parameter("JobTimeoutSeconds"),
            typical_seconds=parameter("TypicalInferenceSeconds"),
            clock=self.simulation.clock,
            sleep=self.simulation.sleep,
        )
        return lambda state, remaining: watch.look(state)

    def _execute(self, given: dict[str, Any]) -> None:
        """The execution of a job that was sent. Where polls do not count, only their time passes."""
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
        """What `deliver` writes, in its order."""
        now = self.simulation.clock
        record = self._ledger.get(name)
        assert record is not None
        assert record.status is Status.SUBMITTED, record.status
        self.simulation.sleep(DELIVER_SECONDS)
        metrics = {"inference_seconds": round(inference, 2), "total_seconds": 36.2, "polls": 3, "cost_usd": JOB_COST}
        ended = self._ledger.succeed(record, [_output(record.character, record.pose)], metrics, now())
        self._latency.observe(inference)
        self._budgets.settle(Charge(record.claimed.charged_usd, epoch(record.claimed.sent_at)), JOB_COST, now())
        self._ledger.notified(ended, now())
        self._table.delete(record.job_id)  # not counted: only to save memory
        self.delivered += 1

    def _schedule(self) -> None:
        while True:
            self.simulation.spawn(self._run_dispatch, self.simulation.random.uniform(0, SCHEDULE_DELAY))
            self.simulation.sleep(MINUTE)

    def _run_dispatch(self) -> None:
        self.functions["dispatch"].invoke({})

    # ---- its parts -------------------------------------------------------------------------------------------------

    def _client(self, function: str) -> Any:
        processor = CALL_SECONDS if function == "dispatch" else 0.0  # the others make one call after the other
        return Client(self.simulation, self._table, self.meters[function], processor=processor)

    def _items(self, function: str) -> Items:
        return Items(self._client(function), TABLE)

    def _gate(self, function: str) -> Gate:
        return self._gate_of(self._client(function))

    def _gate_of(self, client: Any) -> Gate:
        limit = RateLimit(self.setting.requests_per_minute, self.setting.counts)
        return Gate(Items(client, TABLE), limit, Budget(self.setting.daily_budget))

    def _ledger_of(self, function: str) -> Ledger:
        return Ledger(self._client(function), TABLE)

    def _queue(self) -> SubmitQueue:
        return SubmitQueue(cast(Any, self.submit_queue), "submits", self.simulation.parallel(WORKERS))

    def _function(self, name: str, handler: Handler) -> Function:
        made = template()["Resources"][f"{name.title()}Function"]["Properties"]
        timeout = made["Timeout"]
        return Function(
            self.simulation,
            handler,
            memory_mb=made["MemorySize"],
            timeout=parameter(timeout["Ref"]) if isinstance(timeout, dict) else float(timeout),
            start_seconds=START_SECONDS[name],
        )

    def _first_in_line(self, character: str, pose: str, name: str, rank: int, came: float) -> dict[str, Any]:
        """Let the ledger write a job in line, and return its item, which is in the table only for that."""
        aside = Table(self.simulation, "job_id", {})
        ledger = Ledger(cast(Any, Client(self.simulation, aside, Meter(), timed=False)), TABLE)
        queued_at = rfc3339(came)
        place = {"rank": rank, "dispatch_number": 1, "queued_at": queued_at, **in_line(rank, queued_at)}
        ledger.queue(_job(character, pose, name), place, came)
        return dict(aside.items[name])


# ---- what is written ------------------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the functions' logs to themselves: they are many, and of another time."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _name(character: str, pose: str, number: int) -> str:
    return f"{character.replace('/', '-')}-{pose}-{number:016x}"


def _job(character: str, pose: str, name: str) -> Job:
    folder = UploadLayout().folder(character)
    inputs = {
        kind: Input(
            bucket=BUCKET,
            key=f"{key}.png",
            version_id="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY",
            etag="70ee1738b6b21e2c8a43f3a5ab0eee71",
            size=IMAGE_BYTES,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            content_type="image/png",
        )
        for kind, key in (("face", folder.face), ("pose", folder.pose(pose)))
    }
    return Job(name, BUCKET, character, pose, inputs, {"prompt": PROMPT, "samples": 1}, {})


def _output(character: str, pose: str) -> dict[str, Any]:
    key = f"outputs/{character}/{pose}/{character}-{pose}-0123456789abcdef/1/1.png"
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    stored = {"bucket": "outputs", "key": key, "uri": f"s3://outputs/{key}", "content_type": "image/png"}
    return {**stored, "bytes": IMAGE_BYTES, "sha256": digest, "width": 1024, "height": 1024}
