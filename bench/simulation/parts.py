"""The parts of the simulated stack: the project's gate, ledger and line on the simulated table, for each function."""

from typing import Any, cast

from bench.simulation.dynamodb import Client, Meter, Table
from bench.simulation.engine import Simulation
from bench.simulation.functions import Function, Handler, Queue
from bench.simulation.outside import ObjectStore, Provider, Setting
from bench.simulation.template import TABLE, indexes, parameter, template
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.parallel import WORKERS
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.gate.budget import Budget
from posedrop.gate.gate import Gate
from posedrop.gate.latency import LatencyStore
from posedrop.gate.rate_limit import RateLimit
from posedrop.segmind.model import CONSISTENT_CHARACTER

START_SECONDS: dict[str, float] = {"intake": 0.6, "dispatch": 0.6, "submit": 0.9, "poll": 0.7}
"""Seconds of a new environment: half a CPU or less imports boto3 and the package, and creates the clients."""
CALL_SECONDS = 0.002
"""Seconds of the half processor that 1,024 MB include, for one AWS call. So `dispatch` writes at most 500 records a
second, with any number of threads. Botocore alone takes 1.1 ms of a whole processor here."""


class Parts:
    """Creates the parts of the functions. `meters` count the reads and writes of each function."""

    def __init__(self, simulation: Simulation, setting: Setting) -> None:
        self.simulation = simulation
        self.setting = setting
        self.provider = Provider(simulation, setting)
        self.objects = ObjectStore(simulation)
        self.meters = {name: Meter() for name in ("intake", "dispatch", "submit", "poll", "deliver")}
        self.table = Table(simulation, "job_id", indexes())
        visibility = parameter("QueueVisibilitySeconds")
        self.upload_queue = Queue(simulation, visibility)
        self.submit_queue = Queue(simulation, visibility)

    def client(self, function: str) -> Any:
        """Return a function's client of DynamoDB."""
        processor = CALL_SECONDS if function == "dispatch" else 0.0  # the others make their calls one after the other
        return Client(self.simulation, self.table, self.meters[function], processor=processor)

    def unmetered(self) -> Any:
        """Return a client whose calls take no time and are not counted."""
        return Client(self.simulation, self.table, Meter(), timed=False)

    def items(self, function: str) -> Items:
        """Return a function's access to single items."""
        return Items(self.client(function), TABLE)

    def gate(self, client: Any) -> Gate:
        """Return the gate as it is deployed now."""
        limit = RateLimit(self.setting.requests_per_minute, self.setting.counts)
        return Gate(Items(client, TABLE), limit, Budget(self.setting.daily_budget), CONSISTENT_CHARACTER)

    def ledger(self, function: str) -> Ledger:
        """Return a function's ledger."""
        return Ledger(self.client(function), TABLE)

    def latency(self, function: str) -> LatencyStore:
        """Return a function's latency store."""
        return LatencyStore(self.client(function), TABLE, parameter("TypicalInferenceSeconds"))

    def sender(self) -> SubmitQueue:
        """Return the sender of messages to `submit`."""
        return SubmitQueue(cast(Any, self.submit_queue), "submits", self.simulation.parallel(WORKERS))

    def function(self, name: str, handler: Handler) -> Function:
        """Return a function with the memory and timeout of the template."""
        made = template()["Resources"][f"{name.title()}Function"]["Properties"]
        timeout = made["Timeout"]
        return Function(
            self.simulation,
            handler,
            memory_mb=made["MemorySize"],
            timeout=parameter(timeout["Ref"]) if isinstance(timeout, dict) else float(timeout),
            start_seconds=START_SECONDS[name],
        )
