"""dispatch: take the next jobs out of the line and send them to `submit`, each minute and when the gate opens."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.dispatch.composition import DispatchFunction
from posedrop.settings import DispatchSettings, from_environment

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Dispatch once, and return how many jobs were dispatched and how many were put back in line."""
    return dispatch().run(lambda: context.get_remaining_time_in_millis() / 1000)


@cache
def dispatch() -> DispatchFunction:
    """Return the function's objects."""
    return DispatchFunction(from_environment(DispatchSettings), boto3.client, time.time)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    dispatch()  # at the start of the process, not in its first event
