"""Find the pictures of a paid request whose result is gone. The provider's history has their URLs for some days.

The history is not part of the documented API. If it cannot be read, nothing is rescued, and the job ends as it would
without the history.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.contract.errors import HistoryUnavailable, RescueDeferred
from posedrop.segmind.history import History
from posedrop.segmind.outputs import Source
from posedrop.segmind.requests import Request

logger = Logger(child=True)

LONGEST = 60.0
"""The most seconds to search the history. On a busy account it has many pages."""
SHORTEST = 5.0


@dataclass(frozen=True)
class Found:
    """What a request made. `sources` is empty if nothing can be fetched. Values missing in the history are None."""

    sources: tuple[Source, ...] = ()
    inference_seconds: float | None = None
    cost_usd: float | None = None


class Rescue:
    """Finds the outcome of requests in the history. `history` is None if it is turned off. `clock` is for tests."""

    def __init__(self, history: History | None, clock: Callable[[], float] = time.time) -> None:
        self._history = history
        self._clock = clock

    def requests(self, first: float, last: float, page: int, seconds: float) -> dict[str, Any]:
        """Return the requests between two times (seconds since the epoch) as plain values, starting at `page`.

        `next` is the next page, or None at the end. `error` says why the history could not be read, or None.
        """
        if self._history is None:
            return {"requests": [], "next": None, "error": "the history is turned off (SegmindHistoryUrl)"}
        try:
            found, next_page = self._history.between(first, last, page, seconds)
        except HistoryUnavailable as exc:
            return {"requests": [], "next": None, "error": str(exc)}
        requests = [
            {
                "request_id": past.request_id,
                "state": past.state,
                "names": sorted(past.names),
                "created_at": past.created_at,
                "cost_usd": past.cost_usd,
            }
            for past in found
        ]
        return {"requests": requests, "next": next_page, "error": None}

    @property
    def possible(self) -> bool:
        """Whether the history is turned on."""
        return self._history is not None

    def find(self, request: Request | None, images: int, seconds: float) -> Found:
        """Return what an accepted request made. It takes about `seconds` at most. Raises RescueDeferred.

        `images` is how many images the request should have made.
        """
        if self._history is None or request is None or request.request_id is None:
            return Found()
        if self._clock() >= request.kept_until:
            return Found()
        if seconds < SHORTEST:
            raise RescueDeferred("too little time is left to read the provider's history")
        try:
            past = self._history.get(request.request_id, request.sent_at, images, min(seconds, LONGEST))
        except HistoryUnavailable as exc:
            if exc.final:
                logger.warning("nothing to rescue: the history cannot be read", reason=str(exc))
                return Found()
            raise RescueDeferred(str(exc)) from exc
        if past is None:
            return Found()
        sources = past.sources if past.state in (None, "COMPLETED") else ()
        logger.info("the history was read", state=past.state, pictures=len(sources))
        return Found(sources, past.seconds, past.cost_usd)
