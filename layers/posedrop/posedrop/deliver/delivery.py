"""The end of a job: fetch and store its outputs, write the ledger, notify."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.api_key import ApiKey
from posedrop.aws.channels import Channels
from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import count, count_failure, count_success
from posedrop.aws.notifier import notification
from posedrop.aws.output_bucket import OutputBucket
from posedrop.aws.record import RESCUABLE, Record, Status
from posedrop.aws.record_table import DAY, RESCUE, Conflict
from posedrop.contract.delivery_requests import ExecutionEnd, HistoryRequest, RescueRequest
from posedrop.contract.errors import (
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
from posedrop.contract.execution import ExecutionState, TaskFault
from posedrop.contract.job import output_folder
from posedrop.contract.times import epoch
from posedrop.gate.budget import BudgetStore, Charge
from posedrop.gate.credits import CreditsStore
from posedrop.gate.latency import LatencyStore
from posedrop.gate.rate_limit import RateLimiter
from posedrop.segmind.client import COMPLETED, FAILED, Segmind
from posedrop.segmind.downloads import Downloader
from posedrop.segmind.model import MAX_IMAGES
from posedrop.segmind.outputs import BadOutput, InlineSource, Source, parse_output
from posedrop.segmind.requests import Request, cost_of_attempt
from posedrop.segmind.rescue import CannotSay, Found, Rescue
from posedrop.segmind.responses import result_gone

logger = Logger(child=True)

# Lambda's error object begins with the message (AWS Lambda developer guide, Python function errors).
_ERROR_MESSAGE = re.compile(r'\s*\{\s*"errorMessage":\s*("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")')

RESERVE = 30.0
"""Seconds of the function's time that are kept for storing and notifying."""
HISTORY_SECONDS = 20.0
"""For one part of the history: what it holds then fits into Lambda's response of 6 MB."""
DEFERRALS = 10
"""So often a delivery waits for as long as the other side asks to; then it is retried as after any other fault."""
NOT_AN_END = (401, 403, 404, 408, 410, 429)
"""The 4xx of the result that may pass, or say that the result is gone. Any other one refuses to give it for good."""


class Superseded(PosedropError):
    """Another attempt of the job has begun: this one has nothing to end."""


class RecordMissing(PosedropError):
    """The ledger does not know the job."""


class Delivery:
    """Ends jobs. For `link_seconds` a notification's links to its images work; 0 for none. `clock` is for tests."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        segmind: Segmind,
        api_key: ApiKey,
        downloader: Downloader,
        outputs: OutputBucket,
        channels: Channels,
        link_seconds: float = 0.0,
        limiter: RateLimiter,
        budgets: BudgetStore,
        latency: LatencyStore,
        rescue: Rescue,
        account: CreditsStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._segmind = segmind
        self._api_key = api_key
        self._downloader = downloader
        self._outputs = outputs
        self._channels = channels
        self._link_seconds = link_seconds
        self._limiter = limiter
        self._budgets = budgets
        self._latency = latency
        self._rescue = rescue
        self._account = account
        self._clock = clock

    def deliver(self, state: ExecutionState, remaining: Callable[[], float]) -> dict[str, Any]:
        """End the attempt of an execution and notify its end; `remaining` gives the function's seconds left.

        Ending it twice changes nothing. Where the other side asks for some time, it returns the state to go on with
        after it. Raises DeliveryFailed where trying again may help, RecordMissing.
        """
        try:
            record = self._record(state.job_id, state.attempt)
            if not record.ended:
                record = self._end(record, state, remaining)
        except Superseded as exc:
            logger.warning("superseded", reason=str(exc))
            error = InternalError(str(exc))
            return {**state.to_dict(), "status": "SUPERSEDED", "error": {"type": error.type, "message": str(error)}}
        except DeliveryFailed as exc:
            if not exc.retry_after or state.faults >= DEFERRALS:
                raise
            logger.warning("deferred", reason=str(exc), seconds=exc.retry_after)
            return _deferred(state, exc.retry_after)
        self._notify(record, state, last=state.deliver_fault is not None)
        return {
            "job_id": record.job_id,
            "attempt": record.attempt,
            "status": str(record.status),
            "error": record.error,
            "outputs": [output["uri"] for output in record.outputs],
        }

    def rescue(self, request: RescueRequest, remaining: Callable[[], float]) -> dict[str, Any]:
        """Fetch the pictures of a failed job that the provider still keeps, and notify that as a new attempt.

        Where it may work soon, the sweep tries it again; `rescued` says whether it did. Raises
        RecordMissing.
        """
        record = self._ledger.get(request.job_id)
        if record is None:
            raise RecordMissing(f"{request.job_id} has no record")
        logger.append_keys(character=record.character, pose=record.pose)
        if record.attempt == request.attempt and record.status is Status.SUCCEEDED and record.unfinished == RESCUE:
            return self._add_result(record)
        if record.attempt != request.attempt or not record.rescuable or not record.notified_at:
            logger.info("nothing to rescue: the job has gone on", status=record.status)
            return {"job_id": record.job_id, "rescued": False}
        if not self._rescue.possible:
            self._ledger.rescue_at(record, None)
            return {"job_id": record.job_id, "rescued": False}
        attempt = self._ledger.next_attempt(record)
        try:
            found = self._rescue.find(record.paid, self._images_made(record), remaining() - RESERVE)
            outputs = self._store_images(replace(record, attempt=attempt), found.sources, remaining)
            rescued = self._succeed_later(record, attempt, found, outputs) if outputs else None
        except (CannotSay, DeliveryFailed) as exc:
            logger.warning("not rescued yet", reason=str(exc))
            self._try_again(record)
            return {"job_id": record.job_id, "rescued": False}
        except OutputInvalid as exc:
            logger.warning("not rescued", reason=str(exc))
            rescued = None
        if rescued is None:
            self._try_again(record, DAY)
            return {"job_id": record.job_id, "rescued": False}
        self._notify(rescued, None, last=True)
        return {"job_id": record.job_id, "rescued": True}

    def _succeed_later(
        self, record: Record, attempt: int, found: Found, outputs: list[dict[str, Any]]
    ) -> Record | None:
        """Write the new attempt into the ledger; None if the job has gone on meanwhile."""
        requests = self._with_cost(record, found.cost_usd)
        metrics = self._metrics(replace(record, attempt=attempt, requests=requests), None, found.inference_seconds)
        metrics["rescued"] = True
        try:
            now = self._clock()
            ended = self._ledger.rescued(record, attempt, outputs, metrics, now, requests=requests)
        except Conflict:
            logger.info("the job went on while its pictures were fetched")
            return None
        logger.info("rescued", attempt=attempt, outputs=len(outputs), **metrics)
        self._settle(record, found.cost_usd, delivered=True)
        return ended

    def _add_result(self, record: Record) -> dict[str, Any]:
        """Store the result.json of a success that was notified without it."""
        if stored := self._store_result(record, last=True):
            with suppress(Conflict):  # the job went on
                self._ledger.rescue_at(record, None)
        else:
            self._try_again(record)
        return {"job_id": record.job_id, "rescued": stored}

    def _try_again(self, record: Record, after: float = 0.0) -> None:
        """Let a sweep try the rescue once more, the next one or one so many seconds later."""
        try:
            self._ledger.rescue_at(record, self._clock() + after)
        except Conflict:
            logger.info("the job has gone on")

    def history(self, request: HistoryRequest) -> dict[str, Any]:
        """Read a part of the provider's request history, for the operator's `reconcile`: the key stays in here."""
        return self._rescue.requests(request.first, request.last, request.page, HISTORY_SECONDS)

    def refresh_credits(self) -> None:
        """Ask the provider what is left on the account, unless that is known well enough."""
        self._account.refresh(self._segmind, self._limiter.pause)

    def report_execution(self, end: ExecutionEnd, remaining: Callable[[], float]) -> None:
        """End and notify the job of an execution that ended badly, if it is not notified yet.

        Raises RecordMissing.
        """
        try:
            record = self._record(end.job_id, end.attempt)
        except Superseded as exc:
            logger.info("superseded", reason=str(exc))
            return
        if record.notified_at:
            return
        if not record.ended:
            text = f"the execution ended as {end.status}" + (f": {end.cause[:500]}" if end.cause else "")
            error = InternalError(text)
            record = self._rescue_now(record, None, error, remaining) or self._fail(record, error, None)
        logger.error("the execution did not notify its job's end", status=end.status)
        count("ExecutionWithoutNotification")
        self._notify(record, None, last=True)

    def _record(self, job_id: str, attempt: int) -> Record:
        record = self._ledger.get(job_id)
        if record is None:
            raise RecordMissing(f"{job_id} has no record")
        logger.append_keys(character=record.character, pose=record.pose)
        if record.attempt != attempt:
            raise Superseded(f"{job_id} is at attempt {record.attempt}, this is attempt {attempt}")
        return record

    def _end(self, record: Record, state: ExecutionState, remaining: Callable[[], float]) -> Record:
        """Find out how the attempt ended, store what it made, and write it into the ledger."""
        try:
            if state.error:
                error = JOB_ERRORS[state.error["type"]](state.error["message"])
                error.cost_usd = state.cost_usd
                raise error
            if state.deliver_fault:
                raise _final(state.deliver_fault, state.poll_fault)
            return self._store(record, state, remaining)
        except JobError as exc:
            return self._rescue_now(record, state, exc, remaining) or self._fail(record, exc, state)

    def _rescue_now(
        self, record: Record, state: ExecutionState | None, error: JobError, remaining: Callable[[], float]
    ) -> Record | None:
        """Deliver an attempt that is about to fail from the provider's history; None where that does not work.

        It is tried once: the sweep goes on with it later.
        """
        if error.type not in RESCUABLE or record.request_id is None:
            return None
        try:
            found = self._rescue.find(record.paid, self._images_made(record), remaining() - RESERVE)
            outputs = self._store_images(record, found.sources, remaining)
        except (CannotSay, DeliveryFailed, OutputInvalid) as exc:
            logger.warning("not rescued", reason=str(exc))
            return None
        if not outputs:
            error.cost_usd = found.cost_usd
            return None
        logger.warning("rescued: its result was gone", error_type=error.type, reason=str(error))
        return self._succeed(record, state, outputs, found.inference_seconds, found.cost_usd, rescued=True)

    def _store(self, record: Record, state: ExecutionState, remaining: Callable[[], float]) -> Record:
        if record.request_id is None:
            raise InternalError("the job has no request id")
        sources, inference_seconds, cost_usd = self._result(record, record.request_id)
        outputs = self._store_images(record, sources, remaining)
        return self._succeed(record, state, outputs, inference_seconds, cost_usd)

    def _store_images(
        self, record: Record, sources: Sequence[Source], remaining: Callable[[], float]
    ) -> list[dict[str, Any]]:
        """Check and store the images of an attempt; return what the notification says of them.

        Raises OutputInvalid, and DeliveryFailed where it may work later.
        """
        folder = output_folder(record.character, record.pose, record.job_id, record.attempt)
        if len(sources) > MAX_IMAGES:
            logger.warning("more outputs than expected: the first are delivered", expected=MAX_IMAGES)
        outputs: list[dict[str, Any]] = []
        for source in sources[:MAX_IMAGES]:
            number = len(outputs) + 1
            if isinstance(source, InlineSource):
                if hashlib.sha256(source.data).hexdigest() in (output["sha256"] for output in outputs):
                    continue  # the response had the image twice: as a URL, and in base64
                outputs.append(self._outputs.store_image(folder, number, [source.data]))
            else:
                with self._downloader.open(source.url, remaining() - RESERVE) as chunks:
                    outputs.append(self._outputs.store_image(folder, number, chunks))
        return outputs

    def _succeed(
        self,
        record: Record,
        state: ExecutionState | None,
        outputs: list[dict[str, Any]],
        inference_seconds: float | None,
        cost_usd: float | None,
        *,
        rescued: bool = False,
    ) -> Record:
        requests = self._with_cost(record, cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, inference_seconds)
        metrics["rescued"] = rescued
        try:
            ended = self._ledger.succeed(record, outputs, metrics, self._clock(), requests=requests)
        except Conflict:
            return self._record(record.job_id, record.attempt)
        logger.info("succeeded", outputs=len(outputs), **metrics)
        if state and not rescued:
            self._learn(record, state, inference_seconds)
        self._settle(record, cost_usd, delivered=True)
        return ended

    def _images_made(self, record: Record) -> int:
        return self._segmind.model.images_made(record.parameters)

    def _with_cost(self, record: Record, cost_usd: float | None) -> list[Request]:
        """The record's requests with the cost of the accepted one, if that is known now."""
        paid = record.paid
        if cost_usd is None or paid is None:
            return record.requests
        return record.with_fate(paid, paid.fate, cost_usd=cost_usd)

    def _learn(self, record: Record, state: ExecutionState, inference_seconds: float | None) -> None:
        """Learn how long jobs take. An attempt that adopted an earlier request says nothing about that."""
        elapsed, wait = state.elapsed_seconds, state.wait_seconds
        if elapsed is None or record.attempt > 1:
            return
        # The provider's own figure may leave out its queue: the job ended between the last two looks.
        seconds = min(max(inference_seconds or elapsed - wait / 2, elapsed - wait), elapsed)
        try:
            self._latency.observe(seconds)
        except (BotoCoreError, ClientError) as exc:
            logger.warning("the latency was not learned", reason=str(exc))

    def _settle(self, record: Record, cost_usd: float | None, *, delivered: bool) -> None:
        """Replace what the budget was charged for the attempt's request by its cost, once that is known."""
        paid = record.paid
        if paid is not None and paid.cost_usd is not None:
            cost_usd = None  # it was settled before
        charge = Charge(paid.charged_usd, paid.sent_at) if paid else Charge(0.0, self._clock())
        try:
            self._budgets.settle(charge, cost_usd, self._clock(), record.parameters, delivered=delivered)
            if cost_usd is not None:
                count("Spend", cost_usd)
        except (BotoCoreError, ClientError) as exc:
            logger.warning("the budget was not settled", reason=str(exc))

    def _result(self, record: Record, request_id: str) -> tuple[list[Source], float | None, float | None]:
        try:
            response = self._segmind.result(request_id)
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
        self._account.note(response.remaining_credits)
        if response.state == FAILED:
            failed = InferenceFailed(response.error or "the provider gave no reason")
            failed.cost_usd = response.cost_usd
            raise failed
        if response.state != COMPLETED:
            # Where poll itself has failed the job may still be running: the retries are its time.
            raise DeliveryFailed(f"the result is not there yet: the provider says {response.state}")
        try:
            return parse_output(response.output), response.inference_seconds, response.cost_usd
        except BadOutput as exc:
            raise OutputInvalid(str(exc)) from exc

    def _not_found(self, record: Record) -> None:
        now = self._clock()
        first = self._ledger.not_found(record, now)
        if result_gone(first, now, epoch(record.submitted_at or record.created_at)):
            raise ResultExpired("the provider does not know the request id, or no longer")

    def _fail(self, record: Record, error: JobError, state: ExecutionState | None) -> Record:
        requests = self._with_cost(record, error.cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, None)
        try:
            ended = self._ledger.fail_attempt(record, error, metrics, self._clock(), requests=requests)
        except Conflict:
            return self._record(record.job_id, record.attempt)
        logger.warning("failed", error_type=error.type, reason=str(error))
        if error.cost_usd is not None:
            self._settle(record, error.cost_usd, delivered=False)
        return ended

    def _notify(self, record: Record, state: ExecutionState | None, *, last: bool) -> None:
        """Notify an end. `last`: nobody tries again, so that it is notified without its result.json too."""
        if record.notified_at:
            return
        lacks_result = False
        if record.status is Status.SUCCEEDED:
            lacks_result = not self._store_result(record, last=last)
        message = notification(record)
        if self._link_seconds:
            message = message.with_links(lambda key: self._outputs.link(key, self._link_seconds))
        self._channels.publish(message, record.published, lambda channels: self._ledger.published(record, channels))
        self._ledger.notified(record, self._clock(), rescue=self._rescue.possible, lacks_result=lacks_result)
        if record.error:
            count_failure(record, record.error["type"])
        else:
            count_success(record, state.elapsed_seconds if state else None)
        if record.metrics.get("rescued"):
            count("Rescued")

    def _store_result(self, record: Record, *, last: bool) -> bool:
        """Write result.json, once the ledger says that this attempt has succeeded: no other one leaves such a file.

        Returns whether it is there. Raises DeliveryFailed unless this is the last try.
        """
        folder = output_folder(record.character, record.pose, record.job_id, record.attempt)
        try:
            self._outputs.store_result(folder, notification(record).to_dict())
        except DeliveryFailed:
            if not last:
                raise
            logger.exception("no result.json yet: the end is notified without it, the sweep has it stored later")
            return False
        return True

    def _metrics(self, record: Record, state: ExecutionState | None, inference_seconds: float | None) -> dict[str, Any]:
        return {
            "inference_seconds": inference_seconds,
            "total_seconds": round(self._clock() - epoch(record.created_at), 3),
            "polls": state.polls if state else None,
            "cost_usd": cost_of_attempt(record.requests, record.attempt),
            "rescued": False,
        }


def _deferred(state: ExecutionState, seconds: float) -> dict[str, Any]:
    """The state of an execution whose delivery is tried again after so many seconds: its loop waits, no function does.

    poll asks for no status of a job that is `completed`, and puts back the wait that is kept here.
    """
    waiting = replace(
        state,
        finished=False,
        completed=True,
        wait_seconds=math.ceil(seconds),
        look_wait_seconds=state.wait_seconds,
        faults=state.faults + 1,
        poll_fault=None,
    )
    return {**waiting.to_dict(), "status": "DEFERRED"}


def _final(fault: TaskFault, poll_fault: TaskFault | None) -> JobError:
    """The error of a job whose delivery was given up: what Step Functions says of the last try."""
    if poll_fault:
        return InternalError(f"the status could not be asked for: {poll_fault.error}: {_message(fault.cause)}")
    if fault.error == DeliveryFailed.__name__:
        return OutputInvalid(f"the output could not be delivered: {_message(fault.cause)}")
    return InternalError(f"the delivery failed: {fault.error}: {_message(fault.cause)}")


def _message(cause: str) -> str:
    """The error message in a cause, which is JSON as Lambda writes it, perhaps cut off in its stack trace."""
    found = _ERROR_MESSAGE.match(cause)
    return str(json.loads(found[1])) if found else cause
