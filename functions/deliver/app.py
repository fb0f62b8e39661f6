"""deliver: store the outputs of a finished job, and notify its end."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.metrics import flush
from posedrop.contract.delivery_requests import (
    CreditsRequest,
    ExecutionEnd,
    HistoryRequest,
    RescueRequest,
    parse_request,
)
from posedrop.contract.execution import ExecutionState
from posedrop.deliver.composition import DeliverFunction
from posedrop.settings import DeliverSettings, from_environment

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """End the job of an execution, or handle another request (posedrop.contract.delivery_requests)."""

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    try:
        match parse_request(event):
            case HistoryRequest(first, last, page):
                return deliver().history(first, last, page)
            case CreditsRequest():
                deliver().refresh_credits()
                return None
            case RescueRequest() as request:
                logger.append_keys(job_id=request.job_id, attempt=request.attempt)
                return deliver().rescuing.rescue(request, remaining)
            case ExecutionEnd() as end:
                logger.append_keys(job_id=end.job_id, attempt=end.attempt, execution=end.name)
                deliver().delivery.report_execution(end, remaining)
                return None
            case ExecutionState() as state:
                logger.append_keys(job_id=state.job_id, attempt=state.attempt, execution=state.execution_name)
                return deliver().delivery.deliver(state, remaining)
    except Exception as exc:
        # The runtime logs the error too, but not as JSON, and without the job's keys.
        logger.warning("not delivered", reason=f"{type(exc).__name__}: {exc}")
        raise
    finally:
        flush()


@cache
def deliver() -> DeliverFunction:
    """Return the function's objects."""
    return DeliverFunction(from_environment(DeliverSettings), boto3.client, time.time)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    deliver()  # at the start of the process, not in its first event
