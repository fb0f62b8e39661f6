"""intake: read uploads, and put each job in line."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.executions import Executions
from posedrop.aws.inbox import Inbox
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import (
    CancelMessage,
    PoseMessage,
    RetryMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)
from posedrop.aws.metrics import flush
from posedrop.aws.read_images import ReadImages
from posedrop.aws.record import Record
from posedrop.aws.s3 import s3_client
from posedrop.aws.submit_queue import SubmitQueue
from posedrop.contract.errors import Conflict, Deferred
from posedrop.contract.naming import execution_name
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.gate import Gate
from posedrop.intake.cancellation import Cancellation
from posedrop.intake.fan_out import FanOut
from posedrop.intake.job_reader import JobReader
from posedrop.intake.upload_intake import UploadIntake
from posedrop.intake.waiting import Waiting
from posedrop.line.entrance import Entrance
from posedrop.line.line import Line
from posedrop.settings import IntakeSettings, from_environment

logger = Logger()

BUSY_SECONDS = 5.0
"""Seconds until a message is handled again, if another function has changed its job meanwhile."""


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the messages of an SQS event."""
    try:
        return inbox().process(event, handle)
    finally:
        flush()


def handle(message: SQSRecord, received: int) -> None:
    """Handle one message. If its job ended unsent, start an execution that notifies the end."""
    try:
        record = read(message)
    except Conflict as exc:
        raise Deferred(ReasonCode.BUSY, "another function has changed the job", BUSY_SECONDS) from exc
    if record is None:
        return
    name = execution_name(record.job_id, record.attempt)
    logger.append_keys(job_id=record.job_id, attempt=record.attempt, execution=name)
    logger.info("recorded", status=record.status, stands=record.stands, rank=record.rank, reason=record.reason)
    if record.ended and not record.notified_at:
        ledger().use_attempt(record)
        executions().start_ended(record)


def read(message: SQSRecord) -> Record | None:
    """Return the record of the job that a message is about, or None if there is none."""
    match parse_message(message.body):
        case UploadMessage() as upload:
            return upload_intake().upload(upload)
        case PoseMessage() as pose:
            return upload_intake().pose(pose)
        case RetryMessage(job_id, buy_again):
            record = ledger().get(job_id)
            if record is None:
                raise UnreadableMessage(f"no such job: {job_id}")
            return upload_intake().retry(record, message.message_id, buy_again=buy_again)
        case CancelMessage() as cancel:
            return Cancellation(ledger(), time.time).cancel(cancel)
    raise UnreadableMessage("the message belongs to another queue")


@cache
def settings() -> IntakeSettings:
    """Return the function's settings."""
    found: IntakeSettings = from_environment(IntakeSettings)
    return found


@cache
def dynamodb() -> Any:
    """Return the DynamoDB client."""
    return boto3.client("dynamodb")


@cache
def ledger() -> Ledger:
    """Return the ledger."""
    return Ledger(dynamodb(), settings().jobs_table, settings().record_retention_days)


@cache
def executions() -> Executions:
    """Return the executions."""
    return Executions(boto3.client("stepfunctions"), settings().state_machine_arn)


@cache
def upload_intake() -> UploadIntake:
    """Return the upload intake of this process."""
    found, s3, sqs = settings(), s3_client(), boto3.client("sqs")
    layout = UploadLayout(found.upload_prefix)
    items = Items(dynamodb(), found.jobs_table)
    gate = Gate(items, found.limit, found.budget, found.model)
    waiting = Waiting(ledger(), sqs, found.upload_queue_url, time.time)
    return UploadIntake(
        layout,
        ledger=ledger(),
        reader=JobReader(found, default_prompt, s3, ReadImages(items, time.time), waiting, time.time),
        fan_out=FanOut(s3, layout, waiting, found.settle_seconds),
        entrance=Entrance(gate, Line(items), SubmitQueue(sqs, found.submit_queue_url), time.time),
        clock=time.time,
    )


@cache
def inbox() -> Inbox:
    """Return the upload queue."""
    return Inbox(boto3.client("sqs"), settings().upload_queue_url, settings().dead_letter_queue_url, "uploads")


def default_prompt() -> str:
    """Return the prompt of jobs without one. A changed prompt is used after at most five minutes."""
    name = settings().default_prompt_parameter
    return str(parameters.get_parameter(name, max_age=300)) if name else ""


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    inbox(), upload_intake(), executions()  # at the start of the process, not in its first event
