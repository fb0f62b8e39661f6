"""poll: poll a job's status once, and return what the state machine does next."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.api_key import ApiKey
from posedrop.aws.items import Items
from posedrop.contract.execution import ExecutionState
from posedrop.gate.rate_limit import RateLimiter
from posedrop.poll.status_poller import StatusPoller
from posedrop.segmind.client import Segmind
from posedrop.settings import PollSettings, from_environment

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Return the new state of the event's job: finished, or with whole seconds to wait."""
    state = ExecutionState.of(event)
    logger.append_keys(
        job_id=state.job_id,
        attempt=state.attempt,
        character=state.character,
        pose=state.pose,
        execution=state.execution_name,
    )
    try:
        response = status_poller().poll(state)
    except Exception as exc:
        # The runtime logs the error too, but not as JSON, and without the job's keys.
        logger.warning("not checked", reason=f"{type(exc).__name__}: {exc}")
        raise
    logger.info("checked", polls=response.polls, finished=response.finished, wait_seconds=response.wait_seconds)
    return response.to_dict()


@cache
def status_poller() -> StatusPoller:
    """Return the status poller of this process."""
    settings: PollSettings = from_environment(PollSettings)
    api_key = ApiKey(settings.segmind_secret_id)
    return StatusPoller(
        Segmind(settings.segmind_base_url, api_key, clock=time.time, model=settings.model, renew_key=api_key.renew),
        RateLimiter(Items(boto3.client("dynamodb"), settings.jobs_table), settings.limit),
        timeout_seconds=settings.job_timeout_seconds,
        typical_seconds=settings.typical_inference_seconds,
        clock=time.time,
        sleep=time.sleep,
    )


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    status_poller()  # at the start of the process, not in its first event
