"""deliver: store the outputs of a finished job, and notify its end."""

import time
from dataclasses import dataclass
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
from posedrop.deliver.ending import Ending
from posedrop.deliver.fetching import Fetching
from posedrop.deliver.rescuing import Rescuing
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

HISTORY_SECONDS = 20.0
"""The time to read one part of the history. What can be read in it fits into Lambda's response limit of 6 MB."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """End the job of an execution, or handle another request (posedrop.contract.delivery_requests)."""

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    try:
        match parse_request(event):
            case HistoryRequest() as request:
                return deliver().history(request)
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
                name = execution_name(state.job_id, state.attempt)
                logger.append_keys(job_id=state.job_id, attempt=state.attempt, execution=name)
                return deliver().delivery.deliver(state, remaining)
    except Exception as exc:
        # The runtime logs the error too, but not as JSON, and without the job's keys.
        logger.warning("not delivered", reason=f"{type(exc).__name__}: {exc}")
        raise
    finally:
        flush()


@dataclass(frozen=True)
class Deliver:
    """The parts of the function."""

    delivery: Delivery
    rescuing: Rescuing
    rescue: Rescue
    account: CreditsStore
    segmind: Segmind
    limiter: RateLimiter

    def history(self, request: HistoryRequest) -> dict[str, Any]:
        """Read a part of the provider's request history for the operator's `reconcile`, which has no API key."""
        return self.rescue.requests(request.first, request.last, request.page, HISTORY_SECONDS)

    def refresh_credits(self) -> None:
        """Read the credits left on the provider's account, unless that was done recently."""
        self.account.refresh(self.segmind, self.limiter.pause)


@cache
def deliver() -> Deliver:
    """Return the parts of the function. They are made at the first event."""
    settings = from_environment(DeliverSettings)
    api_key = ApiKey(settings.segmind_secret_id)
    dynamodb = boto3.client("dynamodb")
    items = Items(dynamodb, settings.jobs_table)
    ledger = Ledger(dynamodb, settings.jobs_table, settings.record_retention_days)
    outputs = OutputBucket(s3_client(), settings.output_bucket)
    history_url, model = settings.segmind_history_url, settings.model
    rescue = Rescue(History(history_url, api_key, model=model) if history_url else None, clock=time.time)
    segmind = Segmind(settings.segmind_base_url, api_key, clock=time.time, model=model)
    limiter = RateLimiter(items, settings.limit)
    account = CreditsStore(items, clock=time.time, model=model)
    fetching = Fetching(
        ledger=ledger,
        segmind=segmind,
        api_key=api_key,
        downloader=Downloader(settings.segmind_base_url),
        outputs=outputs,
        limiter=limiter,
        account=account,
        rescue=rescue,
        clock=time.time,
    )
    ending = Ending(
        ledger=ledger,
        outputs=outputs,
        channels=Channels.of(settings, boto3.client),
        budgets=BudgetStore(items, settings.budget, model),
        latency=LatencyStore(dynamodb, settings.jobs_table, settings.typical_inference_seconds),
        link_seconds=settings.result_link_seconds,
        can_rescue=rescue.possible,
        clock=time.time,
    )
    return Deliver(
        Delivery(ledger, fetching, ending),
        Rescuing(ledger, fetching, ending, time.time),
        rescue,
        account,
        segmind,
        limiter,
    )
