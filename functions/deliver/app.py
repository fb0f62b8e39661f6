"""deliver: stores the outputs of a job that has ended and notifies its end."""

import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.api_key import ApiKey
from posedrop.aws.channels import Channels
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import flush
from posedrop.aws.output_bucket import OutputBucket
from posedrop.aws.s3 import s3_client
from posedrop.contract.delivery_requests import (
    CreditsRequest,
    ExecutionEnd,
    HistoryRequest,
    RescueRequest,
    parse_request,
)
from posedrop.contract.execution import ExecutionState
from posedrop.contract.naming import execution_name
from posedrop.deliver.delivery import Delivery
from posedrop.gate.budget import BudgetStore
from posedrop.gate.credits import CreditsStore
from posedrop.gate.latency import LatencyStore
from posedrop.gate.rate_limit import RateLimiter
from posedrop.segmind.client import Segmind
from posedrop.segmind.downloads import Downloader
from posedrop.segmind.history import History
from posedrop.segmind.rescue import Rescue
from posedrop.settings import DeliverSettings, from_environment

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """End the job of an execution, or do what else is asked for (posedrop.contract.delivery_requests)."""

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    try:
        match parse_request(event):
            case HistoryRequest() as request:
                return delivery().history(request)
            case CreditsRequest():
                delivery().refresh_credits()
                return None
            case RescueRequest() as request:
                logger.append_keys(job_id=request.job_id, attempt=request.attempt)
                return delivery().rescue(request, remaining)
            case ExecutionEnd() as end:
                logger.append_keys(job_id=end.job_id, attempt=end.attempt, execution=end.name)
                delivery().report_execution(end, remaining)
                return None
            case ExecutionState() as state:
                name = execution_name(state.job_id, state.attempt)
                logger.append_keys(job_id=state.job_id, attempt=state.attempt, execution=name)
                return delivery().deliver(state, remaining)
    except Exception as exc:
        # What leaves the function is logged by the runtime too, but not as JSON, and without the job.
        logger.warning("not delivered", reason=f"{type(exc).__name__}: {exc}")
        raise
    finally:
        flush()


@cache
def delivery() -> Delivery:
    """The delivery of this process, made at its first event."""
    settings = from_environment(DeliverSettings)
    api_key = ApiKey(settings.segmind_secret_id)
    dynamodb = boto3.client("dynamodb")
    items = Items(dynamodb, settings.jobs_table)
    history_url, model = settings.segmind_history_url, settings.model
    history = History(history_url, api_key, model=model) if history_url else None
    return Delivery(
        ledger=Ledger(dynamodb, settings.jobs_table, settings.record_retention_days),
        segmind=Segmind(settings.segmind_base_url, api_key, clock=time.time, model=settings.model),
        api_key=api_key,
        downloader=Downloader(settings.segmind_base_url),
        outputs=OutputBucket(s3_client(), settings.output_bucket),
        channels=Channels.of(settings, boto3.client),
        link_seconds=settings.result_link_seconds,
        limiter=RateLimiter(items, settings.limit),
        budgets=BudgetStore(items, settings.budget, settings.model),
        latency=LatencyStore(dynamodb, settings.jobs_table, settings.typical_inference_seconds),
        rescue=Rescue(history, clock=time.time),
        account=CreditsStore(items, clock=time.time, model=settings.model),
        clock=time.time,
    )
