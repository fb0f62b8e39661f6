"""sweep: resume stuck jobs, hourly or when invoked by hand. An event may set ages: {"ages": {"waiting": 0}}."""

import os
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
from posedrop.sweep.waiting_uploads import WaitingSweep

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
    ledger, sqs = Ledger(dynamodb(), found.jobs_table, found.record_retention_days), boto3.client("sqs")
    channels = Channels.of(found, boto3.client)
    return Sweep(
        ledger=ledger,
        sqs=sqs,
        # Adaptive: with very many records, the sweep slows down to the quotas of Step Functions.
        sfn=boto3.client("stepfunctions", config=Config(retries={"mode": "adaptive", "total_max_attempts": 5})),
        waiting=WaitingSweep(ledger, sqs, found.upload_queue_url, channels, found.waiting_alert_hours, time.time),
        invoker=boto3.client("lambda"),
        submit_queue_url=found.submit_queue_url,
        state_machine_arn=found.state_machine_arn,
        deliver_function=found.deliver_function,
        clock=time.time,
    )


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    sweep()  # at the start of the process, not in its first event
