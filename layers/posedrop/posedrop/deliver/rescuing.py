"""Rescue failed jobs: fetch pictures that the provider still keeps, up to seven days after the request."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Record, Status
from posedrop.aws.record_table import RESCUE
from posedrop.contract.delivery_requests import RescueRequest
from posedrop.contract.errors import Conflict, DeliveryFailed, OutputInvalid, RecordMissing, RescueDeferred
from posedrop.contract.times import DAY
from posedrop.deliver.ending import Ending
from posedrop.deliver.fetching import Fetching
from posedrop.deliver.notifying import Notifying

logger = Logger(child=True)


class Rescuing:
    """Delivers the pictures of failed jobs later. `clock` is for tests."""

    def __init__(
        self,
        ledger: Ledger,
        fetching: Fetching,
        ending: Ending,
        notifying: Notifying,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._fetching = fetching
        self._ending = ending
        self._notifying = notifying
        self._clock = clock

    def rescue(self, request: RescueRequest, remaining: Callable[[], float]) -> dict[str, Any]:
        """Fetch the pictures of a failed job and notify a new attempt, or store a missing result.json.

        Return whether it was `rescued`. If a later try may succeed, the sweep tries again. Raises RecordMissing.
        """
        record = self._ledger.get(request.job_id)
        if record is None:
            raise RecordMissing(f"{request.job_id} has no record")
        logger.append_keys(character=record.character, pose=record.pose)
        if record.attempt == request.attempt and record.status is Status.SUCCEEDED and record.unfinished == RESCUE:
            rescued = self._add_result(record)
        elif record.attempt != request.attempt or not record.rescuable or not record.notified_at:
            logger.info("nothing to rescue: the job has changed", status=record.status)
            rescued = False
        elif not self._fetching.can_rescue:
            self._ledger.rescue_at(record, None)
            rescued = False
        else:
            rescued = self._fetch(record, remaining)
        return {"job_id": record.job_id, "rescued": rescued}

    def _fetch(self, record: Record, remaining: Callable[[], float]) -> bool:
        attempt = self._ledger.next_attempt(record)
        try:
            made = self._fetching.rescue(record, remaining, attempt)
            rescued = self._ending.succeed_later(record, attempt, made) if made.outputs else None
        except (RescueDeferred, DeliveryFailed) as exc:
            logger.warning("not rescued yet", reason=str(exc))
            self._try_again(record)
            return False
        except OutputInvalid as exc:
            logger.warning("not rescued", reason=str(exc))
            rescued = None
        except Conflict:
            logger.info("the job changed while its pictures were fetched")
            rescued = None
        if rescued is None:
            self._try_again(record, DAY)
            return False
        self._notifying.notify(rescued, None, last=True)
        return True

    def _add_result(self, record: Record) -> bool:
        """Store the result.json of a success that was notified without it."""
        stored = self._notifying.store_result(record, last=True)
        if stored:
            with suppress(Conflict):  # the job has changed
                self._ledger.rescue_at(record, None)
        else:
            self._try_again(record)
        return stored

    def _try_again(self, record: Record, after: float = 0.0) -> None:
        """Schedule another rescue by a sweep, at least `after` seconds from now."""
        try:
            self._ledger.rescue_at(record, self._clock() + after)
        except Conflict:
            logger.info("the job has changed")
