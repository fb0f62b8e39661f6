"""submit: send each dispatched job to the provider, once."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.metrics import flush
from posedrop.settings import SubmitSettings, from_environment
from posedrop.submit.composition import SubmitFunction

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the messages of an SQS event."""
    try:
        return submit().handle(event, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        flush()


@cache
def submit() -> SubmitFunction:
    """Return the function's objects."""
    return SubmitFunction(from_environment(SubmitSettings), boto3.client, time.time, time.sleep)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    submit()  # at the start of the process, not in its first event
