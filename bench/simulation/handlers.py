"""The handlers of `intake`, `dispatch`, `submit` and `poll` in the simulated stack: the project's own code."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.metrics import Metrics
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from bench.simulation.functions import Handler
from bench.simulation.outside import Workflows
from bench.simulation.parts import Parts
from bench.simulation.samples import sample_job
from bench.simulation.template import parameter, submit_settings
from posedrop.aws.parallel import WORKERS
from posedrop.aws.queue_resources import QueueResources
from posedrop.contract.errors import Deferred
from posedrop.dispatch.dispatcher import Dispatched, Dispatcher
from posedrop.line.entrance import Entrance
from posedrop.line.line import Line
from posedrop.poll.status_poller import StatusPoller
from posedrop.segmind.provider import Provider
from posedrop.segmind.rescue import Rescue
from posedrop.submit.composition import make_submission

INTAKE_SECONDS = 0.35
"""Seconds of intake for one pose, without the line and the ledger: two listings, reading face, pose and job file (a few
MB), checking both. Assumed."""


def intake(parts: Parts, uploads: dict[str, tuple[str, str]]) -> Handler:
    """Return the handler of `intake`. `uploads`: the character and pose of each message."""
    ledger, simulation = parts.ledger("intake"), parts.simulation
    line = Line(parts.items("intake"))
    entrance = Entrance(parts.gate(parts.client("intake")), line, parts.sender(), simulation.clock)

    def handler(event: Any, remaining: Callable[[], float]) -> dict[str, Any]:
        name = event["Records"][0]["body"]
        character, pose = uploads.pop(name)
        simulation.sleep(INTAKE_SECONDS)
        place = entrance.place(character)
        entrance.send(ledger.queue(sample_job(character, pose, name), place, simulation.clock()), place)
        for waiting in (pose, ""):
            ledger.stop_waiting(character, waiting)
        return {"batchItemFailures": []}

    return handler


def dispatch(parts: Parts, observe: Callable[[float], None]) -> Handler:
    """Return the handler of `dispatch`. `observe` is called with the seconds of each run."""
    dispatcher = Dispatcher(
        parts.gate(parts.client("dispatch")),
        Line(parts.items("dispatch")),
        parts.sender(),
        clock=parts.simulation.clock,
        key_changed_at=lambda: 0.0,
        parallel=parts.simulation.parallel(WORKERS),
    )

    def handler(event: Any, remaining: Callable[[], float]) -> Dispatched:
        began = parts.simulation.now
        done = dispatcher.run(remaining)
        observe(parts.simulation.now - began)
        Metrics().metric_set.clear()
        return done

    return handler


def submit(
    parts: Parts,
    workflows: Workflows,
    wake_dispatch: Callable[[], None],
    unexpected: Callable[[Exception], None],
) -> Handler:
    """Return the handler of `submit`. `unexpected` is called with each unexpected error."""
    clients = {
        "dynamodb": parts.client("submit"),
        "s3": parts.objects,
        "sqs": parts.submit_queue,
        "stepfunctions": workflows,
        "lambda": None,  # the simulation's pictures need no preparation
    }
    settings = submit_settings(parts.setting)
    aws = QueueResources(settings, lambda service, config=None: clients[service])
    submission = make_submission(
        settings,
        aws,
        parts.gate(parts.client("submit")),
        Provider(parts.provider, None, Rescue(None)),
        wake_dispatch=wake_dispatch,
        refresh_credits=lambda: None,
        clock=parts.simulation.clock,
        sleep=parts.simulation.sleep,
    )
    inbox = aws.inbox(settings.submit_queue_url, settings.dead_letter_queue_url, "submits")

    def handler(event: Any, remaining: Callable[[], float]) -> dict[str, Any]:
        def handle(message: SQSRecord, received: int) -> None:
            try:
                submission.handle(message.body, received, remaining)
            except Exception as exc:
                if not isinstance(exc, Deferred):
                    unexpected(exc)
                raise

        response = inbox.process(event, handle)
        Metrics().metric_set.clear()
        return response

    return handler


def poll(parts: Parts) -> Handler:
    """Return the handler of `poll`."""
    poller = StatusPoller(
        parts.provider,
        parts.gate(parts.client("poll")).limiter,
        timeout_seconds=parameter("JobTimeoutSeconds"),
        typical_seconds=parameter("TypicalInferenceSeconds"),
        clock=parts.simulation.clock,
        sleep=parts.simulation.sleep,
    )
    return lambda state, remaining: poller.poll(state)
