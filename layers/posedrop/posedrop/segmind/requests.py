"""The requests that a job has sent to the provider, and the outcome of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from posedrop.contract.times import DAY

IDS_KEPT = 30 * DAY
"""Seconds for which a request id stays reserved for its job, much longer than the provider keeps the request."""
IMAGES_KEPT = 7 * DAY
"""Seconds for which the provider keeps the images (its documentation, logging). A rescue is possible until then."""


class RequestStatus(StrEnum):
    """The outcome of a request, as far as it is known."""

    SENT = "SENT"
    """The request is being sent, or the function died while it was sending it."""
    ACCEPTED = "ACCEPTED"
    """The provider accepted the request and gave it an id."""
    SERVER_FAULT = "SERVER_FAULT"
    """The provider answered 500, 502 or 503. The request may exist, so the history must be searched."""
    UNKNOWN = "UNKNOWN"
    """There was no usable response. The request may exist, so the history must be searched."""
    ABSENT = "ABSENT"
    """The history does not have the request."""
    UNRESOLVED = "UNRESOLVED"
    """The history could not be searched within the time allowed."""
    FAILED = "FAILED"
    """The request failed at the provider."""
    GONE = "GONE"
    """The provider no longer knows the request's id."""


MAY_EXIST = (RequestStatus.SENT, RequestStatus.SERVER_FAULT, RequestStatus.UNKNOWN)


@dataclass(frozen=True)
class Request:
    """A request that may exist at the provider.

    - sent_at: when its job was claimed (seconds since the epoch).
    - not_found_at: when the provider first did not know its id (seconds since the epoch), or None.
    - history_page: the page of the provider's history at which the next search begins.
    - charged_usd: the amount charged to the budget, 0 after it was given back.
    - cost_usd: the cost that the provider reported, or None.
    """

    attempt: int
    sent_at: float
    status: RequestStatus = RequestStatus.SENT
    request_id: str | None = None
    not_found_at: float | None = None
    history_page: int = 1
    charged_usd: float = 0.0
    cost_usd: float | None = None

    @property
    def kept_until(self) -> float:
        """Until when (seconds since the epoch) the provider keeps its images."""
        return self.sent_at + IMAGES_KEPT


def cost_of(requests: Iterable[Request]) -> float | None:
    """Return the total cost of requests (USD), or None if the cost of any of them is unknown. Pure.

    A request that the history does not have costs nothing.
    """
    costs = [0.0 if request.status is RequestStatus.ABSENT else request.cost_usd for request in requests]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if len(known) == len(costs) else None


def cost_of_attempt(requests: Iterable[Request], attempt: int) -> float | None:
    """Return the total cost (USD) of the requests that one attempt sent, 0 if it sent none. Pure."""
    return cost_of(request for request in requests if request.attempt == attempt)
