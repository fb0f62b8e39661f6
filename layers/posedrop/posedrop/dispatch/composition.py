"""Create the objects that `dispatch` works with."""

from collections.abc import Callable
from typing import Any

from botocore.config import Config

from posedrop.aws.items import Items
from posedrop.aws.parallel import WORKERS
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.dispatch.dispatcher import Dispatcher
from posedrop.dispatch.measures import measure
from posedrop.dispatch.new_key import key_changed_at
from posedrop.gate.gate import Gate
from posedrop.line.line import Line
from posedrop.settings import DispatchSettings


class DispatchFunction:
    """The function: its dispatcher and its metrics. `make_client` makes the boto3 client of a service."""

    def __init__(self, settings: DispatchSettings, make_client: Callable[..., Any], clock: Callable[[], float]) -> None:
        many = Config(max_pool_connections=WORKERS)
        items = Items(make_client("dynamodb", config=many), settings.jobs_table)
        gate = Gate(items, settings.limit, settings.budget, settings.model)
        self._credits = gate.credits
        self._dispatcher = Dispatcher(
            gate,
            Line(items),
            SubmitQueue(make_client("sqs", config=many), settings.submit_queue_url),
            clock=clock,
            key_changed_at=key_changed_at(make_client("secretsmanager"), settings.segmind_secret_id),
        )

    def run(self, remaining: Callable[[], float]) -> dict[str, int]:
        """Dispatch once, and return how many jobs were dispatched and how many were put back in line."""
        done = self._dispatcher.run(remaining)
        measure(done, self._credits.read())
        return {"sent": done.sent, "returned": done.returned}
