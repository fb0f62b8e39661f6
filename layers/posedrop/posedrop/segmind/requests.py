"""The requests of a job: what was sent to the provider, and what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

IMAGES_KEPT = 7 * 86400
"""Seconds for which the provider keeps the images (its documentation, logging). A rescue is tried for so long."""


class Fate(StrEnum):
    """What became of a request."""

    SENT = "SENT"
    """It is being sent, or the function that sent it has died."""
    ACCEPTED = "ACCEPTED"
    """It has a request id."""
    SERVER_FAULT = "SERVER_FAULT"
    """Answered 500, 502 or 503: it may exist. The history is to be asked."""
    UNKNOWN = "UNKNOWN"
    """No usable response: it may exist. The history is to be asked."""
    ABSENT = "ABSENT"
    """The history does not have it."""
    UNRESOLVED = "UNRESOLVED"
    """The history could not say, for as long as it was waited for."""
    FAILED = "FAILED"
    """It failed at the provider."""
    GONE = "GONE"
    """The provider does not know its id any more."""


MAY_EXIST = (Fate.SENT, Fate.SERVER_FAULT, Fate.UNKNOWN)


@dataclass(frozen=True)
class Request:
    """A request that may exist at the provider.

    sent_at: when it was claimed. not_found_at: when the provider first did not know its id. Both are seconds since the
    epoch. history_page: the page of the provider's history at which the next search for it begins. charged_usd: what
    the budget was charged for it, 0 once that was given back. cost_usd: what it cost, as the provider said; None while
    that is unknown.
    """

    attempt: int
    sent_at: float
    fate: Fate = Fate.SENT
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
    """Return what some requests cost together (USD), or None if that is unknown of one of them. Pure.

    One that the history does not have cost nothing.
    """
    costs = [0.0 if request.fate is Fate.ABSENT else request.cost_usd for request in requests]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if len(known) == len(costs) else None


def cost_of_attempt(requests: Iterable[Request], attempt: int) -> float | None:
    """Return what the requests cost that an attempt sent: nothing if it sent none. Pure."""
    return cost_of(request for request in requests if request.attempt == attempt)
