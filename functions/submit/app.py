"""submit: a message of the upload queue becomes a job at the provider, once."""

import time
from functools import cache, partial
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.arrivals import Arrivals, FolderUnsteady
from posedrop.deferral import Deferred
from posedrop.errors import TransientFault
from posedrop.executions import Executions
from posedrop.governor import Governor
from posedrop.history import History
from posedrop.latency_store import LatencyStore
from posedrop.ledger import Ledger
from posedrop.lookup import RequestLookup
from posedrop.messages import (
    PoseMessage,
    RetryMessage,
    SubmitMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)
from posedrop.naming import execution_name
from posedrop.record import Record
from posedrop.s3 import s3_client
from posedrop.secret import ApiKey
from posedrop.segmind import Segmind
from posedrop.settings import SubmitSettings, from_environment
from posedrop.submission import Submission, backoff
from posedrop.telemetry import flush

LONGEST_DELAY = 900
"""Seconds for which SQS delays a message at most (API reference, SendMessage)."""
LONGEST_VISIBILITY = 43200 - 900
"""Seconds. SQS counts its twelve hours from the receipt (API reference, ChangeMessageVisibility): less the longest that
a function runs."""
RENEWED_AFTER = 900
"""So often a message is received before a new one goes on in its place: the queue's maxReceiveCount is 1000..."""
LAST_RECEIVED = 950
"""...and after so many times it is set aside, with its reason."""

logger = Logger()
processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Handle the messages of an SQS event. A message that is not done yet is reported as failed: it comes back."""
    try:
        return process_partial_response(event, partial(handle, context), processor, context)
    finally:
        flush()


def handle(context: LambdaContext, record: SQSRecord) -> None:
    """Handle one message, or say when it comes back."""
    logger.append_keys(message_id=record.message_id)
    receive_count = int(record.attributes.approximate_receive_count)
    try:
        if receive_count > LAST_RECEIVED:
            raise UnreadableMessage(f"received {receive_count} times: the functions that had it have died")
        job = find_job(record)
        if job:
            advance(job, record, receive_count, context)
    except UnreadableMessage as exc:
        set_aside(record, str(exc))
    except (Deferred, TransientFault) as exc:
        seconds = exc.seconds if isinstance(exc, Deferred) else backoff(receive_count)
        logger.info("deferred", reason=str(exc), seconds=seconds)
        if receive_count < RENEWED_AFTER:
            come_back(record, seconds)
            raise
        # Waiting is not failing: at the queue's maxReceiveCount it would be a dead letter.
        send(record.body, seconds)
    except Exception as exc:
        if not isinstance(exc, FolderUnsteady):
            logger.exception("unexpected error")
        if receive_count < RENEWED_AFTER:
            come_back(record, backoff(receive_count))
            raise
        set_aside(record, f"{type(exc).__name__}: {exc}")
    finally:
        logger.remove_keys(["message_id", "character", "pose", "job_id", "attempt", "execution"])


def find_job(message: SQSRecord) -> Record | None:
    """The record of the job that a message is about, or None if there is nothing more to do."""
    match parse_message(message.body):
        case UploadMessage() as upload:
            return arrivals().upload(upload)
        case PoseMessage() as pose:
            return arrivals().pose(pose)
        case SubmitMessage(job_id):
            return known_job(job_id)
        case RetryMessage(job_id, buy_again):
            return arrivals().retry(known_job(job_id), message.message_id, buy_again=buy_again)


def advance(record: Record, message: SQSRecord, receive_count: int, context: LambdaContext) -> None:
    """Go on with a job. If it must wait, a message of its own does: the uploads may change meanwhile, the job not."""
    logger.append_keys(
        job_id=record.job_id,
        attempt=record.attempt,
        character=record.character,
        pose=record.pose,
        execution=execution_name(record.job_id, record.attempt),
    )
    own = SubmitMessage(record.job_id).to_json()
    # Who put the job off sends it a message of its own before it is done. One that is received again was not done.
    if message.body != own and receive_count == 1 and submission().is_held(record):
        logger.info("left to the job's own message", until=record.deferred_until)
        return
    try:
        submission().advance(record, receive_count, lambda: context.get_remaining_time_in_millis() / 1000)
    except Deferred as exc:
        if message.body == own:
            raise
        logger.info("deferred", reason=str(exc), seconds=exc.seconds)
        send(own, exc.seconds)
    except Exception:
        # This message comes back; but by then its uploads may make another job.
        if message.body != own and receive_count == 1:
            send(own, backoff(receive_count))
        raise


def known_job(job_id: str) -> Record:
    """The record of a job. Raises UnreadableMessage if there is none."""
    record = ledger().get(job_id)
    if record is None:
        raise UnreadableMessage(f"no such job: {job_id}")
    return record


def come_back(message: SQSRecord, seconds: float) -> None:
    """Hide a message for so many seconds, or for the longest that SQS allows; then it is deferred again."""
    sqs().change_message_visibility(
        QueueUrl=settings().upload_queue_url,
        ReceiptHandle=message.receipt_handle,
        VisibilityTimeout=min(round(seconds), LONGEST_VISIBILITY),
    )


def send(body: str, seconds: float) -> None:
    """Send a message that comes after so many seconds, or after the longest that SQS allows."""
    sqs().send_message(
        QueueUrl=settings().upload_queue_url, MessageBody=body, DelaySeconds=min(round(seconds), LONGEST_DELAY)
    )


def set_aside(message: SQSRecord, reason: str) -> None:
    """Put a message that no one can read into the dead-letter queue, with the reason."""
    logger.error("unreadable message", reason=reason)
    sqs().send_message(
        QueueUrl=settings().dead_letter_queue_url,
        MessageBody=message.body,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
    )


def settings() -> SubmitSettings:
    """The function's settings."""
    found: SubmitSettings = from_environment(SubmitSettings)
    return found


@cache
def sqs() -> Any:
    """The SQS client."""
    return boto3.client("sqs")


@cache
def dynamodb() -> Any:
    """The DynamoDB client."""
    return boto3.client("dynamodb")


@cache
def s3() -> Any:
    """The S3 client."""
    return s3_client()


@cache
def ledger() -> Ledger:
    """The ledger."""
    return Ledger(dynamodb(), settings().jobs_table, settings().record_retention_days)


@cache
def arrivals() -> Arrivals:
    """What handles uploads in this process."""
    return Arrivals(settings(), s3=s3(), sqs=sqs(), ledger=ledger(), clock=time.time)


@cache
def submission() -> Submission:
    """What submits jobs in this process."""
    found = settings()
    api_key = ApiKey(found.segmind_secret_id)
    segmind = Segmind(found.segmind_base_url, api_key, clock=time.time)
    governor = Governor(dynamodb(), found.jobs_table, found.limits)
    # Only a URL can carry the job's name into the history.
    has_history = found.segmind_history_url and found.image_transport == "presigned-url"
    history = History(found.segmind_history_url, api_key) if has_history else None
    return Submission(
        found,
        s3=s3(),
        ledger=ledger(),
        governor=governor,
        segmind=segmind,
        lookup=RequestLookup(ledger(), segmind, governor, history, clock=time.time),
        api_key=api_key,
        executions=Executions(boto3.client("stepfunctions"), found.state_machine_arn),
        latency=LatencyStore(dynamodb(), found.jobs_table, found.typical_inference_seconds),
        clock=time.time,
        sleep=time.sleep,
    )
