"""sweep: resume stuck jobs, hourly or when invoked by hand. An event may set ages: {"ages": {"waiting": 0}}."""

import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from posedrop.aws.channels import Channels
from posedrop.aws.ledger import Ledger
from posedrop.settings import SweepSettings, from_environment
from posedrop.sweep.sweeper import Ages, Sweep

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Sweep once, and return how many records of each status were resumed."""
    ages = Ages(**event.get("ages", {}))
    counts = sweep().run(ages, lambda: context.get_remaining_time_in_millis() / 1000)
    logger.info("swept", counts=counts)
    return counts


def settings() -> SweepSettings:
    """Return the function's settings."""
    found: SweepSettings = from_environment(SweepSettings)
    return found


@cache
def dynamodb() -> Any:
    """Return the DynamoDB client."""
    return boto3.client("dynamodb")


@cache
def sweep() -> Sweep:
    """Return the sweep of this process."""
    found = settings()
    return Sweep(
        ledger=Ledger(dynamodb(), found.jobs_table, found.record_retention_days),
        sqs=boto3.client("sqs"),
        # Adaptive: with very many records, the sweep slows down to the quotas of Step Functions.
        sfn=boto3.client("stepfunctions", config=Config(retries={"mode": "adaptive", "total_max_attempts": 5})),
        channels=Channels.of(found, boto3.client),
        invoker=boto3.client("lambda"),
        upload_queue_url=found.upload_queue_url,
        submit_queue_url=found.submit_queue_url,
        state_machine_arn=found.state_machine_arn,
        deliver_function=found.deliver_function,
        alert_hours=found.waiting_alert_hours,
        clock=time.time,
    )
