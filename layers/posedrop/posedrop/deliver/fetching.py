"""Fetch the result of an attempt from the provider, and have its images stored."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import count
from posedrop.aws.record import Record
from posedrop.contract.errors import (
    DeliveryFailed,
    InferenceFailed,
    InternalError,
    OutputInvalid,
    ResultExpired,
    StatusUnavailable,
)
from posedrop.deliver.images import RESERVE, Images
from posedrop.gate.gate import Gate
from posedrop.segmind.client import COMPLETED, FAILED, Segmind
from posedrop.segmind.outputs import BadOutput, Source, parse_output
from posedrop.segmind.rescue import Rescue
from posedrop.segmind.responses import result_gone

logger = Logger(child=True)

NOT_AN_END = (401, 403, 404, 408, 410, 429)
"""The 4xx statuses that may be temporary, or that mean that the result is gone. Any other 4xx fails the job."""


@dataclass(frozen=True)
class Made:
    """What an attempt made. `outputs` are the notification's entries for the stored images. Unknown values are None."""

    outputs: list[dict[str, Any]]
    inference_seconds: float | None
    cost_usd: float | None


class Fetching:
    """Reads results. `clock` is for tests."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        segmind: Segmind,
        rescue: Rescue,
        images: Images,
        gate: Gate,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._segmind = segmind
        self._rescue = rescue
        self._images = images
        self._gate = gate
        self._clock = clock

    def fetch(self, record: Record, remaining: Callable[[], float]) -> Made:
        """Fetch the outputs of an attempt, check them and store them.

        Raises a JobError if the attempt has failed, and DeliveryFailed if a later try may succeed.
        """
        if record.request_id is None:
            raise InternalError("the job has no request id")
        sources, inference_seconds, cost_usd = self._result(record, record.request_id)
        return Made(self._images.store(record, sources, remaining), inference_seconds, cost_usd)

    @property
    def can_rescue(self) -> bool:
        """Whether the provider's history can be searched for images whose result is gone."""
        return self._rescue.possible

    def rescue(self, record: Record, remaining: Callable[[], float], attempt: int | None = None) -> Made:
        """Fetch the images of a request through the provider's history, and store them. It may have no images.

        The images are stored under the record's attempt, or under `attempt`. Raises RescueDeferred, DeliveryFailed and
        OutputInvalid.
        """
        images = self._segmind.model.images_made(record.parameters)
        found = self._rescue.find(record.paid, images, remaining() - RESERVE)
        outputs = self._images.store(replace(record, attempt=attempt or record.attempt), found.sources, remaining)
        return Made(outputs, found.inference_seconds, found.cost_usd)

    def _result(self, record: Record, request_id: str) -> tuple[list[Source], float | None, float | None]:
        try:
            response = self._segmind.result(request_id)
        except StatusUnavailable as exc:
            if exc.gone:
                self._not_found(record)
            if exc.status == 401:
                self._segmind.renew_key()
            if exc.status == 429:
                self._gate.limiter.pause(self._clock(), exc.retry_after)
                count("RateLimited")
            if 400 <= (exc.status or 0) < 500 and exc.status not in NOT_AN_END:
                raise InferenceFailed(str(exc)) from exc
            raise DeliveryFailed(f"the result cannot be fetched: {exc}", exc.retry_after) from exc
        self._gate.credits.note(response.remaining_credits, self._clock())
        if response.state == FAILED:
            failed = InferenceFailed(response.error or "the provider gave no reason")
            failed.cost_usd = response.cost_usd
            raise failed
        if response.state != COMPLETED:
            # If poll itself failed, the job may still be running. The retries of deliver give it time.
            raise DeliveryFailed(f"the result is not there yet: the provider says {response.state}")
        try:
            return parse_output(response.output), response.inference_seconds, response.cost_usd
        except BadOutput as exc:
            raise OutputInvalid(str(exc)) from exc

    def _not_found(self, record: Record) -> None:
        now = self._clock()
        first = self._ledger.not_found(record, now)
        if result_gone(first, now, record.submitted_at or record.created_at):
            raise ResultExpired("the provider does not know the request id")
