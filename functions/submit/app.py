"""submit: send each dispatched job to the provider, once."""

import os
import time
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.api_key import ApiKey
from posedrop.aws.executions import Executions
from posedrop.aws.inbox import Inbox
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import SubmitMessage, UnreadableMessage, parse_message
from posedrop.aws.metrics import flush
from posedrop.aws.prepared_pictures import PreparedPictures, response_seconds
from posedrop.aws.s3 import s3_client
from posedrop.contract.naming import execution_name
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.gate.latency import LatencyStore
from posedrop.segmind.client import Segmind
from posedrop.segmind.history import History
from posedrop.segmind.rescue import Rescue
from posedrop.settings import SubmitSettings, from_environment
from posedrop.submit.composition import make_submission
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.request_body import RequestBody
from posedrop.submit.submission import Submission
from posedrop.submit.wait_loop import WaitLoop

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the messages of an SQS event."""

    def handle(message: SQSRecord, received: int) -> None:
        advance(message, received, context)

    try:
        return inbox().process(event, handle)
    finally:
        flush()


def advance(message: SQSRecord, received: int, context: LambdaContext) -> None:
    """Resume the job that a message is about."""
    found = parse_message(message.body)
    if not isinstance(found, SubmitMessage):
        raise UnreadableMessage("the message belongs to another queue")
    record = ledger().get(found.job_id)
    if record is None:
        raise UnreadableMessage(f"no such job: {found.job_id}")
    logger.append_keys(
        job_id=record.job_id,
        attempt=record.attempt,
        character=record.character,
        pose=record.pose,
        execution=execution_name(record.job_id, record.attempt),
    )
    submission().advance(record, found, received, lambda: context.get_remaining_time_in_millis() / 1000)


@cache
def settings() -> SubmitSettings:
    """Return the function's settings."""
    found: SubmitSettings = from_environment(SubmitSettings)
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
def inbox() -> Inbox:
    """Return the queue of dispatched jobs."""
    return Inbox(boto3.client("sqs"), settings().submit_queue_url, settings().dead_letter_queue_url, "submits")


@cache
def submission() -> Submission:
    """Return the submission of this process."""
    found = settings()
    api_key = ApiKey(found.segmind_secret_id)
    segmind = Segmind(found.segmind_base_url, api_key, clock=time.time, model=found.model)
    items = Items(dynamodb(), found.jobs_table)
    gate = Gate(items, found.limit, found.budget, found.model)
    history = History(found.segmind_history_url, api_key, model=found.model) if found.segmind_history_url else None
    # Requests are found in the history by the file name in their image URLs. With base64 there are none.
    by_name = history if found.image_transport == "presigned-url" else None
    s3 = s3_client()
    executions = Executions(boto3.client("stepfunctions"), found.state_machine_arn)
    latency = LatencyStore(dynamodb(), found.jobs_table, found.typical_inference_seconds)
    return make_submission(
        found,
        ledger=ledger(),
        gate=gate,
        segmind=segmind,
        lookup=RequestLookup(ledger(), segmind, gate, by_name, Rescue(history, time.time), clock=time.time),
        api_key=api_key,
        body=RequestBody(found, s3, pictures(s3, found), time.time),
        wait_loop=WaitLoop(ledger(), executions, latency),
        wake_dispatch=wake_dispatch,
        account=CreditsStore(items, clock=time.time, model=found.model),
        clock=time.time,
        sleep=time.sleep,
    )


def pictures(s3: Any, found: SubmitSettings) -> PreparedPictures:
    """Return the prepared pictures. The client does not retry: without a response, SQS redelivers the message."""
    seconds = response_seconds(found.submit_timeout_seconds)
    config = Config(connect_timeout=5, read_timeout=seconds, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=config)
    return PreparedPictures(s3, client, found.output_bucket, found.prepare_function, seconds, time.time)


@cache
def functions() -> Any:
    """Return the Lambda client."""
    return boto3.client("lambda")


def wake_dispatch() -> None:
    """Invoke `dispatch` now. If the call is lost, the next run is within a minute."""
    try:
        functions().invoke(FunctionName=settings().dispatch_function, InvocationType="Event", Payload=b"{}")
    except (BotoCoreError, ClientError) as exc:
        logger.warning("dispatch could not be invoked", reason=str(exc))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    inbox(), submission(), functions()  # at the start of the process, not in its first event
