"""intake: read uploads, and put each job in line."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.metrics import flush
from posedrop.intake.composition import IntakeFunction
from posedrop.settings import IntakeSettings, from_environment

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the messages of an SQS event."""
    try:
        return intake().handle(event)
    finally:
        flush()


@cache
def intake() -> IntakeFunction:
    """Return the function's objects."""
    return IntakeFunction(from_environment(IntakeSettings), boto3.client, time.time)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    intake()  # at the start of the process, not in its first event
