"""End an attempt: write the ledger, settle the budget, learn the latency."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.metrics import count
from posedrop.aws.record import Record
from posedrop.aws.resources import Resources
from posedrop.contract.errors import JobError
from posedrop.contract.execution import ExecutionState
from posedrop.deliver.fetching import Made
from posedrop.gate.budget import BudgetStore, Charge
from posedrop.gate.latency import LatencyStore
from posedrop.settings import DeliverSettings

logger = Logger(child=True)


class Ending:
    """Ends attempts. Each method raises Conflict if the record has changed meanwhile. `clock` is for tests."""

    def __init__(
        self, settings: DeliverSettings, aws: Resources, budgets: BudgetStore, clock: Callable[[], float]
    ) -> None:
        self._ledger = aws.table.ledger
        self._budgets = budgets
        self._latency = LatencyStore(aws.dynamodb, settings.jobs_table, settings.typical_inference_seconds)
        self._clock = clock

    def succeed(self, record: Record, state: ExecutionState | None, made: Made, *, rescued: bool = False) -> Record:
        """Record a success in the ledger, and return the record. Raises Conflict if another run ended the attempt."""
        requests = record.with_cost(made.cost_usd)
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
        requests = record.with_cost(made.cost_usd)
        metrics = self._metrics(replace(record, attempt=attempt, requests=requests), None, made.inference_seconds)
        metrics["rescued"] = True
        ended = self._ledger.rescued(record, attempt, made.outputs, metrics, self._clock(), requests=requests)
        logger.info("rescued", attempt=attempt, outputs=len(made.outputs), **metrics)
        self._settle(record, made.cost_usd, delivered=True)
        return ended

    def fail(self, record: Record, error: JobError, state: ExecutionState | None) -> Record:
        """Record a failure in the ledger, and return the record. Raises Conflict if another run ended the attempt."""
        requests = record.with_cost(error.cost_usd)
        metrics = self._metrics(replace(record, requests=requests), state, None)
        ended = self._ledger.fail_attempt(record, error, metrics, self._clock(), requests=requests)
        logger.warning("failed", error_type=error.type, reason=str(error))
        if error.cost_usd is not None:
            self._settle(record, error.cost_usd, delivered=False)
        return ended

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
            "cost_usd": record.cost_of_attempt,
            "rescued": False,
        }
