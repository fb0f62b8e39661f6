"""The end of a job: fetch and store its outputs, write the ledger, tell it."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.channels import Channels, EventBus
from posedrop.checking import expired
from posedrop.clock import epoch
from posedrop.downloads import Downloader
from posedrop.errors import (
    JOB_ERRORS,
    DeliveryFailed,
    InferenceFailed,
    InternalError,
    JobError,
    OutputInvalid,
    PosedropError,
    ResultExpired,
    StatusUnavailable,
)
from posedrop.gate.budget import BudgetStore, Charge
from posedrop.gate.rate_limit import RateLimiter
from posedrop.job import output_folder
from posedrop.latency_store import LatencyStore
from posedrop.ledger import Conflict, Ledger, Record, Status
from posedrop.notification import notification
from posedrop.outputs import MAX_IMAGES, BadOutput, InlineSource, Source, parse_output
from posedrop.secret import ApiKey
from posedrop.segmind import COMPLETED, FAILED, Segmind
from posedrop.storage import OutputBucket
from posedrop.telemetry import count, count_failure, count_success

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

logger = Logger(child=True)

# Lambda's error object begins with the message (AWS Lambda developer guide, Python function errors).
_ERROR_MESSAGE = re.compile(r'\s*\{\s*"errorMessage":\s*("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")')

RESERVE = 30.0
"""Seconds of the function's time that are kept for storing and telling."""
DEFERRALS = 10
"""So often a delivery waits for as long as the other side asks to; then it is retried as after any other fault."""
NOT_AN_END = (401, 403, 404, 408, 410, 429)
"""The 4xx of the result that may pass, or say that the result is gone. Any other one refuses to give it for good."""


class Superseded(PosedropError):
    """Another attempt of the job has begun: this one has nothing to end."""


class RecordMissing(PosedropError):
    """The ledger does not know the job."""


class Delivery:
    """Ends jobs. `clock` is for tests."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        segmind: Segmind,
        api_key: ApiKey,
        downloader: Downloader,
        outputs: OutputBucket,
        sns: "SNSClient",
        topic_arn: str,
        event_bus: EventBus | None = None,
        limiter: RateLimiter,
        budgets: BudgetStore,
        latency: LatencyStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._segmind = segmind
        self._api_key = api_key
        self._downloader = downloader
        self._outputs = outputs
        self._channels = Channels(sns, topic_arn, event_bus)
        self._limiter = limiter
        self._budgets = budgets
        self._latency = latency
        self._clock = clock

    def deliver(self, event: dict[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
        """End the attempt of a state machine's event and tell it; `remaining` gives the function's seconds left.

        Ending it twice changes nothing. Where the other side asks for some time, the answer is the state to go on with
        after it. Raises DeliveryFailed where trying again may help, RecordMissing.
        """
        try:
            record = self._record(event["job_id"], event["attempt"])
            if not record.ended:
                record = self._end(record, event, remaining)
        except Superseded as exc:
            logger.warning("superseded", reason=str(exc))
            error = InternalError(str(exc))
            return {**event, "status": "SUPERSEDED", "error": {"type": error.type, "message": str(error)}}
        except DeliveryFailed as exc:
            if not exc.retry_after or event.get("faults", 0) >= DEFERRALS:
                raise
            logger.warning("deferred", reason=str(exc), seconds=exc.retry_after)
            return _deferred(event, exc.retry_after)
        self._tell(record, event)
        return {
            "job_id": record.job_id,
            "attempt": record.attempt,
            "status": str(record.status),
            "error": record.error,
            "outputs": [output["uri"] for output in record.outputs],
        }

    def report_execution(self, event: dict[str, Any]) -> None:
        """End and tell the job of an execution that ended badly, if it is not told yet.

        `event` is EventBridge's "Step Functions Execution Status Change". Raises RecordMissing.
        """
        detail = event["detail"]
        given = json.loads(detail["input"])
        logger.append_keys(job_id=given["job_id"], attempt=given["attempt"])
        try:
            record = self._record(given["job_id"], given["attempt"])
        except Superseded as exc:
            logger.info("superseded", reason=str(exc))
            return
        if record.notified_at:
            return
        if not record.ended:
            cause = " ".join(str(detail[key]) for key in ("error", "cause") if detail.get(key))
            text = f"the execution ended as {detail['status']}" + (f": {cause[:500]}" if cause else "")
            record = self._fail(record, InternalError(text), {})
        logger.error("the execution did not tell its job's end", status=detail["status"])
        count("ExecutionUntold")
        self._tell(record, {})

    def _record(self, job_id: str, attempt: int) -> Record:
        record = self._ledger.get(job_id)
        if record is None:
            raise RecordMissing(f"{job_id} has no record")
        logger.append_keys(character=record.character, pose=record.pose)
        if record.attempt != attempt:
            raise Superseded(f"{job_id} is at attempt {record.attempt}, this is attempt {attempt}")
        return record

    def _end(self, record: Record, event: dict[str, Any], remaining: Callable[[], float]) -> Record:
        """Find out how the attempt ended, store what it made, and write it into the ledger."""
        try:
            if event.get("error"):
                raise JOB_ERRORS[event["error"]["type"]](event["error"]["message"])
            if event.get("deliver_fault"):
                raise _final(event["deliver_fault"], event.get("poll_fault"))
            return self._store(record, event, remaining)
        except JobError as exc:
            return self._fail(record, exc, event)

    def _store(self, record: Record, event: dict[str, Any], remaining: Callable[[], float]) -> Record:
        if record.request_id is None:
            raise InternalError("the job has no request id")
        sources, inference_seconds, cost_usd = self._result(record, record.request_id)
        folder = output_folder(record.character, record.pose, record.job_id, record.attempt)
        if len(sources) > MAX_IMAGES:
            logger.warning("more outputs than expected: the first are delivered", expected=MAX_IMAGES)
        outputs: list[dict[str, Any]] = []
        for source in sources[:MAX_IMAGES]:
            number = len(outputs) + 1
            if isinstance(source, InlineSource):
                if hashlib.sha256(source.data).hexdigest() in (output["sha256"] for output in outputs):
                    continue  # the answer had the image twice: as a URL, and in base64
                outputs.append(self._outputs.store_image(folder, number, [source.data]))
            else:
                with self._downloader.open(source.url, remaining() - RESERVE) as chunks:
                    outputs.append(self._outputs.store_image(folder, number, chunks))
        return self._succeed(record, event, outputs, self._metrics(record, event, inference_seconds), cost_usd)

    def _succeed(
        self,
        record: Record,
        event: dict[str, Any],
        outputs: list[dict[str, Any]],
        metrics: dict[str, Any],
        cost_usd: float | None,
    ) -> Record:
        try:
            ended = self._ledger.succeed(record, outputs, metrics, self._clock())
        except Conflict:
            return self._record(record.job_id, record.attempt)
        logger.info("succeeded", outputs=len(outputs), **metrics)
        self._learn(record, event, metrics["inference_seconds"])
        self._settle(record, cost_usd)
        return ended

    def _learn(self, record: Record, event: dict[str, Any], inference_seconds: float | None) -> None:
        """Let later jobs be asked for when they end. An attempt that took over an earlier request tells nothing."""
        elapsed, wait = event.get("elapsed_seconds"), event.get("wait_seconds")
        if elapsed is None or wait is None or record.attempt > 1:
            return
        # The provider's own figure may leave out its queue: the job ended between the last two looks.
        seconds = min(max(inference_seconds or elapsed - wait / 2, elapsed - wait), elapsed)
        try:
            self._latency.observe(seconds)
        except (BotoCoreError, ClientError) as exc:
            logger.warning("the latency was not learned", reason=str(exc))

    def _settle(self, record: Record, cost_usd: float | None) -> None:
        """Replace what the budget was charged for the delivered request by its cost, as far as that is known."""
        found = next((request for request in record.requests if request.request_id == record.request_id), None)
        charge = Charge(found.charged_usd, found.sent_at) if found else Charge(0.0, self._clock())
        try:
            self._budgets.settle(charge, cost_usd, self._clock())
        except (BotoCoreError, ClientError) as exc:
            logger.warning("the budget was not settled", reason=str(exc))

    def _result(self, record: Record, request_id: str) -> tuple[list[Source], float | None, float | None]:
        try:
            answer = self._segmind.result(request_id)
        except StatusUnavailable as exc:
            if exc.gone:
                self._not_found(record)
            if exc.status == 401:
                self._api_key.renew()
            if exc.status == 429:
                self._limiter.pause(self._clock(), exc.retry_after)
                count("RateLimited")
            if 400 <= (exc.status or 0) < 500 and exc.status not in NOT_AN_END:
                raise InferenceFailed(str(exc)) from exc
            raise DeliveryFailed(f"the result cannot be fetched: {exc}", exc.retry_after) from exc
        if answer.state == FAILED:
            raise InferenceFailed(answer.error or "the provider gave no reason")
        if answer.state != COMPLETED:
            # Where poll itself has failed the job may still be running: the retries are its time.
            raise DeliveryFailed(f"the result is not there yet: the provider says {answer.state}")
        try:
            return parse_output(answer.output), answer.inference_seconds, answer.cost_usd
        except BadOutput as exc:
            raise OutputInvalid(str(exc)) from exc

    def _not_found(self, record: Record) -> None:
        now = self._clock()
        first = self._ledger.not_found(record, now)
        if expired(first, now, epoch(record.submitted_at or record.created_at)):
            raise ResultExpired("the provider does not know the request id, or no longer")

    def _fail(self, record: Record, error: JobError, event: dict[str, Any]) -> Record:
        try:
            ended = self._ledger.fail_attempt(record, error, self._metrics(record, event, None), self._clock())
        except Conflict:
            return self._record(record.job_id, record.attempt)
        logger.warning("failed", error_type=error.type, reason=str(error))
        return ended

    def _tell(self, record: Record, event: dict[str, Any]) -> None:
        if record.notified_at:
            return
        if record.status is Status.SUCCEEDED:
            self._store_result(record, event)
        self._channels.publish(
            notification(record), record.published, lambda channels: self._ledger.published(record, channels)
        )
        self._ledger.notified(record, self._clock())
        if record.error:
            count_failure(record, record.error["type"])
        else:
            count_success(record, event.get("elapsed_seconds"))

    def _store_result(self, record: Record, event: dict[str, Any]) -> None:
        """Write result.json, once the ledger says that this attempt has succeeded: no other one leaves such a file."""
        folder = output_folder(record.character, record.pose, record.job_id, record.attempt)
        try:
            self._outputs.store_result(folder, notification(record))
        except DeliveryFailed:
            if not event.get("deliver_fault"):
                raise
            logger.exception("no result.json: the end is told without it")

    def _metrics(self, record: Record, event: dict[str, Any], inference_seconds: float | None) -> dict[str, Any]:
        return {
            "inference_seconds": inference_seconds,
            "total_seconds": round(self._clock() - epoch(record.created_at), 3),
            "polls": event.get("polls"),
        }


def _deferred(event: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The state of an execution whose delivery is tried again after so many seconds: its loop waits, no function does.

    poll asks for no status of a job that is `completed`, and puts back the wait that is kept here.
    """
    return {
        **event,
        "status": "DEFERRED",
        "finished": False,
        "completed": True,
        "wait_seconds": math.ceil(seconds),
        "look_wait_seconds": event.get("wait_seconds", 1),
        "faults": event.get("faults", 0) + 1,
    }


def _final(fault: dict[str, str], poll_fault: dict[str, str] | None) -> JobError:
    """The error of a job whose delivery was given up: what Step Functions says of the last try."""
    cause = fault.get("cause", "")
    if poll_fault:
        return InternalError(f"the status could not be asked for: {poll_fault.get('error')}: {_message(cause)}")
    if fault.get("error") == DeliveryFailed.__name__:
        return OutputInvalid(f"the output could not be delivered: {_message(cause)}")
    return InternalError(f"the delivery failed: {fault.get('error')}: {_message(cause)}")


def _message(cause: str) -> str:
    """The error message in a cause, which is JSON as Lambda writes it, perhaps cut off in its stack trace."""
    found = _ERROR_MESSAGE.match(cause)
    return str(json.loads(found[1])) if found else cause
