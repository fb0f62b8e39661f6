"""poll: asks the provider once how a job is doing, and tells the state machine what to do next."""

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from posedrop.checking import JobState, check
from posedrop.polling import Latency
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind
from posedrop.settings import PollSettings, from_environment

if TYPE_CHECKING:
    from posedrop.pacing import Governor

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer the state of the event's job: finished, or how many whole seconds to wait."""
    state = JobState.of(event)
    logger.append_keys(job_id=state.job_id, attempt=state.attempt, character=state.character, pose=state.pose)
    settings = from_environment(PollSettings)
    answer = check(
        state,
        segmind(),
        latency=Latency.typical(settings.typical_inference_seconds),
        timeout_seconds=settings.job_timeout_seconds,
        clock=time.time,
        on_rate_limit=lambda seconds: governor().rate_limited(time.time(), seconds),
        on_refused_key=api_key().renew,
    )
    logger.info("checked", polls=answer.polls, finished=answer.finished, wait_seconds=answer.wait_seconds)
    return answer.to_dict()


@cache
def api_key() -> ApiKey:
    """The provider's API key."""
    return ApiKey(from_environment(PollSettings).segmind_secret_id)


@cache
def segmind() -> Segmind:
    """The client of this process."""
    return Segmind(from_environment(PollSettings).segmind_base_url, api_key())


@cache
def governor() -> "Governor":
    """The shared schedule of calls, made when it is first needed."""
    from posedrop.pacing import Governor

    settings = from_environment(PollSettings)
    return Governor(boto3.client("dynamodb"), settings.jobs_table, settings.segmind_requests_per_minute)
