"""End an attempt: write the ledger, settle the budget, learn the latency, notify."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.channels import Channels
from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import count, count_failure, count_success
from posedrop.aws.notifier import notification
from posedrop.aws.output_bucket import OutputBucket
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import DeliveryFailed, JobError
from posedrop.contract.execution import ExecutionState
from posedrop.contract.job import output_folder
from posedrop.deliver.fetching import Made
from posedrop.gate.budget import BudgetStore, Charge
from posedrop.gate.latency import LatencyStore
from posedrop.segmind.requests import Request, cost_of_attempt

logger = Logger(child=True)


class Ending:
    """Ends attempts. `link_seconds` is how long the image URLs in a notification work; 0 means no URLs.

    `can_rescue`: whether the provider's history can be searched for the pictures of a failed attempt. `clock` is for
    tests.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        outputs: OutputBucket,
        channels: Channels,
        budgets: BudgetStore,
        latency: LatencyStore,
        link_seconds: float,
        can_rescue: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._outputs = outputs
        self._channels = channels
        self._budgets = budgets
        self._latency = latency
        self._link_seconds = link_seconds
        self._can_rescue = can_rescue
        self._clock = clock

    def succeed(self, record: Record, state: ExecutionState | None, made: Made, *, rescued: bool = False) -> Record:
        """Record a success in the ledger, and return the record. Raises Conflict if another run ended the attempt."""
        requests = self._with_cost(record, made.cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, made.inference_seconds)
        metrics["rescued"] = rescued
        ended = self._ledger.succeed(record, made.outputs, metrics, self._clock(), requests=requests)
        logger.info("succeeded", outputs=len(made.outputs), **metrics)
        if state and not rescued:
            self._learn(record, state, made.inference_seconds)
        self._settle(record, made.cost_usd, delivered=True)
        return ended

    def succeed_later(self, record: Record, attempt: int, made: Made) -> Record:
        """Record the success of a failed job as its next attempt, and return the record.

        Raises Conflict if the job has changed.
        """
        requests = self._with_cost(record, made.cost_usd)
        metrics = self._metrics(replace(record, attempt=attempt, requests=requests), None, made.inference_seconds)
        metrics["rescued"] = True
        ended = self._ledger.rescued(record, attempt, made.outputs, metrics, self._clock(), requests=requests)
        logger.info("rescued", attempt=attempt, outputs=len(made.outputs), **metrics)
        self._settle(record, made.cost_usd, delivered=True)
        return ended

    def fail(self, record: Record, error: JobError, state: ExecutionState | None) -> Record:
        """Record a failure in the ledger, and return the record. Raises Conflict if another run ended the attempt."""
        requests = self._with_cost(record, error.cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, None)
        ended = self._ledger.fail_attempt(record, error, metrics, self._clock(), requests=requests)
        logger.warning("failed", error_type=error.type, reason=str(error))
        if error.cost_usd is not None:
            self._settle(record, error.cost_usd, delivered=False)
        return ended

    def notify(self, record: Record, state: ExecutionState | None, *, last: bool) -> None:
        """Notify the end of an attempt. `last`: the last try, so notify even if result.json cannot be stored."""
        if record.notified_at:
            return
        lacks_result = False
        if record.status is Status.SUCCEEDED:
            lacks_result = not self.store_result(record, last=last)
        message = notification(record)
        if self._link_seconds:
            message = message.with_links(lambda key: self._outputs.link(key, self._link_seconds))
        self._channels.publish(message, record.published, lambda channels: self._ledger.published(record, channels))
        self._ledger.notified(record, self._clock(), rescue=self._can_rescue, lacks_result=lacks_result)
        if record.error:
            count_failure(record, record.error["type"])
        else:
            count_success(record, state.elapsed_seconds if state else None)
        if record.metrics.get("rescued"):
            count("Rescued")

    def store_result(self, record: Record, *, last: bool) -> bool:
        """Store result.json, and return whether it is stored. Raises DeliveryFailed unless this is the last try.

        Call it only after the ledger has the success, so that only successful attempts have a result.json.
        """
        folder = output_folder(record.character, record.pose, record.job_id, record.attempt)
        try:
            self._outputs.store_result(folder, notification(record).to_dict())
        except DeliveryFailed:
            if not last:
                raise
            logger.exception("result.json is not stored: the sweep has it stored later, the end is notified now")
            return False
        return True

    def _with_cost(self, record: Record, cost_usd: float | None) -> list[Request]:
        """Return the record's requests, with the cost of the accepted one if it is known now."""
        paid = record.paid
        if cost_usd is None or paid is None:
            return record.requests
        return record.with_status(paid, paid.status, cost_usd=cost_usd)

    def _learn(self, record: Record, state: ExecutionState, inference_seconds: float | None) -> None:
        """Learn how long jobs take. Later attempts are skipped: they may have adopted an earlier request."""
        elapsed, wait = state.elapsed_seconds, state.wait_seconds
        if elapsed is None or record.attempt > 1:
            return
        # The provider's figure may exclude its queue. The job certainly ended between the last two polls.
        seconds = min(max(inference_seconds or elapsed - wait / 2, elapsed - wait), elapsed)
        try:
            self._latency.observe(seconds)
        except (BotoCoreError, ClientError) as exc:
            logger.warning("the latency was not recorded", reason=str(exc))

    def _settle(self, record: Record, cost_usd: float | None, *, delivered: bool) -> None:
        """Replace the charge for the attempt's request by its real cost, if that is known."""
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

    def _metrics(self, record: Record, state: ExecutionState | None, inference_seconds: float | None) -> dict[str, Any]:
        return {
            "inference_seconds": inference_seconds,
            "total_seconds": round(self._clock() - record.created_at, 3),
            "polls": state.polls if state else None,
            "cost_usd": cost_of_attempt(record.requests, record.attempt),
            "rescued": False,
        }
