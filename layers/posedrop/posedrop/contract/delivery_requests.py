"""The events that `deliver` accepts: from the state machine, an EventBridge rule, `sweep` and the operator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posedrop.contract.execution import ExecutionState


@dataclass(frozen=True)
class ExecutionEnd:
    """An execution that failed, timed out or was aborted: EventBridge's "Step Functions Execution Status Change"."""

    name: str
    job_id: str
    attempt: int
    status: str
    cause: str


@dataclass(frozen=True)
class RescueRequest:
    """A request to fetch the pictures of a failed job, while the provider still keeps them."""

    job_id: str
    attempt: int

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"rescue": self.job_id, "attempt": self.attempt}


@dataclass(frozen=True)
class CreditsRequest:
    """A request for the credits that are left on the provider's account."""

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"credits": True}


@dataclass(frozen=True)
class HistoryRequest:
    """A request for the provider's history between two times (seconds since the epoch), starting at a page."""

    first: float
    last: float
    page: int

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"history": {"first": self.first, "last": self.last, "page": self.page}}


DeliveryRequest = ExecutionState | ExecutionEnd | RescueRequest | CreditsRequest | HistoryRequest


def parse_request(event: Mapping[str, Any]) -> DeliveryRequest:
    """Parse an event of `deliver`. Raises KeyError or ValueError if it is none of the five."""
    if event.get("detail-type") == "Step Functions Execution Status Change":
        detail = event["detail"]
        given = json.loads(detail["input"])
        cause = " ".join(str(detail[key]) for key in ("error", "cause") if detail.get(key))
        return ExecutionEnd(detail["name"], given["job_id"], given["attempt"], detail["status"], cause)
    if "history" in event:
        wanted = event["history"]
        return HistoryRequest(wanted["first"], wanted["last"], wanted["page"])
    if "credits" in event:
        return CreditsRequest()
    if "rescue" in event:
        return RescueRequest(event["rescue"], event["attempt"])
    return ExecutionState.of(event)
