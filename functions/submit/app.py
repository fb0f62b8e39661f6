"""submit: a message of the upload queue becomes a job at the provider, once."""

import time
from functools import cache, partial
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from posedrop.executions import Executions
from posedrop.ledger import Ledger
from posedrop.messages import UnreadableMessage, UploadMessage, parse_message
from posedrop.pacing import Governor
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind
from posedrop.settings import SubmitSettings, from_environment
from posedrop.submission import Deferred, Delivery, Submission, backoff

logger = Logger()
processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Handle the messages of an SQS event. A message that is not done yet is reported as failed: it comes back."""
    return process_partial_response(event, partial(handle, context), processor, context)


def handle(context: LambdaContext, record: SQSRecord) -> None:
    """Handle one message, or say when it comes back."""
    logger.append_keys(message_id=record.message_id)
    delivery = Delivery(
        int(record.attributes.approximate_receive_count), lambda: context.get_remaining_time_in_millis() / 1000
    )
    try:
        message = parse_message(record.body)
        if isinstance(message, UploadMessage):
            submission().upload(message, delivery)
        else:
            submission().pose(message, delivery)
    except UnreadableMessage as exc:
        set_aside(record, str(exc))
    except Deferred as exc:
        logger.info("deferred", reason=str(exc), seconds=exc.seconds)
        come_back(record, exc.seconds)
        raise
    except Exception:
        logger.exception("unexpected error")
        come_back(record, backoff(delivery.receive_count))
        raise
    finally:
        logger.remove_keys(["message_id", "character", "pose", "job_id"])


def come_back(record: SQSRecord, seconds: float) -> None:
    """Hide the message for so many seconds. SQS allows twelve hours (API reference, ChangeMessageVisibility)."""
    sqs().change_message_visibility(
        QueueUrl=settings().upload_queue_url,
        ReceiptHandle=record.receipt_handle,
        VisibilityTimeout=min(int(seconds + 0.5), 43200),
    )


def set_aside(record: SQSRecord, reason: str) -> None:
    """Put a message that no one can read into the dead-letter queue, with the reason."""
    logger.error("unreadable message", reason=reason)
    sqs().send_message(
        QueueUrl=settings().dead_letter_queue_url,
        MessageBody=record.body,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
    )


def settings() -> SubmitSettings:
    """The function's settings."""
    return from_environment(SubmitSettings)


@cache
def sqs() -> Any:
    """The SQS client."""
    return boto3.client("sqs")


@cache
def submission() -> Submission:
    """The submission of this process, made at its first message."""
    found = settings()
    dynamodb = boto3.client("dynamodb")
    api_key = ApiKey(found.segmind_secret_id)
    return Submission(
        found,
        s3=boto3.client("s3"),
        sqs=sqs(),
        ledger=Ledger(dynamodb, found.jobs_table, found.record_retention_days),
        governor=Governor(dynamodb, found.jobs_table, found.segmind_requests_per_minute),
        segmind=Segmind(found.segmind_base_url, api_key),
        api_key=api_key,
        executions=Executions(boto3.client("stepfunctions"), found.state_machine_arn),
        clock=time.time,
        sleep=time.sleep,
    )
