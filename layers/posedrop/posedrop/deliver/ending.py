"""How an attempt ends: written into the ledger, settled with the budget, learned from, notified."""

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
    """Ends attempts. For `link_seconds` a notification's links to its images work; 0 for none. `clock` is for tests.

    `can_rescue`: whether the provider's history may have the pictures of an attempt that has failed.
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
        """Write a success into the ledger, and return its record. Raises Conflict if another run ended the attempt."""
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
        """Write the success of a job that had failed as its next attempt, and return its record.

        Raises Conflict if the job has gone on meanwhile.
        """
        requests = self._with_cost(record, made.cost_usd)
        metrics = self._metrics(replace(record, attempt=attempt, requests=requests), None, made.inference_seconds)
        metrics["rescued"] = True
        ended = self._ledger.rescued(record, attempt, made.outputs, metrics, self._clock(), requests=requests)
        logger.info("rescued", attempt=attempt, outputs=len(made.outputs), **metrics)
        self._settle(record, made.cost_usd, delivered=True)
        return ended

    def fail(self, record: Record, error: JobError, state: ExecutionState | None) -> Record:
        """Write a failure into the ledger, and return its record. Raises Conflict if another run ended the attempt."""
        requests = self._with_cost(record, error.cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, None)
        ended = self._ledger.fail_attempt(record, error, metrics, self._clock(), requests=requests)
        logger.warning("failed", error_type=error.type, reason=str(error))
        if error.cost_usd is not None:
            self._settle(record, error.cost_usd, delivered=False)
        return ended

    def notify(self, record: Record, state: ExecutionState | None, *, last: bool) -> None:
        """Notify an end. `last`: nobody tries again, so that it is notified without its result.json too."""
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
        # The provider's own figure may leave out its queue: the job ended between the last two polls.
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

    def _metrics(self, record: Record, state: ExecutionState | None, inference_seconds: float | None) -> dict[str, Any]:
        return {
            "inference_seconds": inference_seconds,
            "total_seconds": round(self._clock() - record.created_at, 3),
            "polls": state.polls if state else None,
            "cost_usd": cost_of_attempt(record.requests, record.attempt),
            "rescued": False,
        }
