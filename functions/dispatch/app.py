"""dispatch: take the next jobs out of the line and send them to `submit`, each minute and when the gate opens."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from posedrop.aws.items import Items
from posedrop.aws.metrics import count, flush, seconds
from posedrop.aws.parallel import WORKERS
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.contract.reasons import BUDGETS, ReasonCode
from posedrop.dispatch.dispatcher import Dispatched, Dispatcher
from posedrop.dispatch.new_key import key_changed_at
from posedrop.gate.credits import Credits, CreditsStore
from posedrop.gate.gate import Gate
from posedrop.line.line import Line
from posedrop.settings import DispatchSettings, from_environment

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Dispatch once, and return how many jobs were dispatched and how many were put back in line."""
    done = dispatcher().run(lambda: context.get_remaining_time_in_millis() / 1000)
    measure(done, credits_store().read())
    return {"sent": done.sent, "returned": done.returned}


def measure(done: Dispatched, left: Credits | None) -> None:
    """Emit the metrics of a run, also if they are zero, so that alarms have no missing data. `left` None: unknown."""
    code = done.closed.code if done.closed else None
    seconds("OldestJobSeconds", done.oldest_seconds)
    seconds("NoSuccessSeconds", done.idle_seconds)
    count("Paused", code is ReasonCode.PAUSED)
    count("WaitingForBudget", code in BUDGETS and done.oldest_seconds > 0)
    if left is not None:
        count("RemainingCredits", left.usd)
        count("JobsPaidFor", left.jobs)
    flush()


@cache
def items() -> Items:
    """Return the items of the table."""
    settings: DispatchSettings = from_environment(DispatchSettings)
    return Items(boto3.client("dynamodb", config=Config(max_pool_connections=WORKERS)), settings.jobs_table)


@cache
def credits_store() -> CreditsStore:
    """Return the store of the credits."""
    settings: DispatchSettings = from_environment(DispatchSettings)
    return CreditsStore(items(), clock=time.time, model=settings.model)


@cache
def dispatcher() -> Dispatcher:
    """Return the dispatcher of this process."""
    settings: DispatchSettings = from_environment(DispatchSettings)
    many = Config(max_pool_connections=WORKERS)
    return Dispatcher(
        Gate(items(), settings.limit, settings.budget, settings.model),
        Line(items()),
        SubmitQueue(boto3.client("sqs", config=many), settings.submit_queue_url),
        clock=time.time,
        key_changed_at=key_changed_at(boto3.client("secretsmanager"), settings.segmind_secret_id),
    )


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    dispatcher(), credits_store()  # at the start of the process, not in its first event
