"""What `deliver` is asked for besides ending the job of an execution: by a rule, the sweep and the operator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posedrop.contract.execution import ExecutionState


@dataclass(frozen=True)
class ExecutionEnd:
    """An execution that ended badly, as EventBridge reports it ("Step Functions Execution Status Change")."""

    name: str
    job_id: str
    attempt: int
    status: str
    cause: str


@dataclass(frozen=True)
class RescueRequest:
    """Fetch the pictures of a failed job that the provider still keeps."""

    job_id: str
    attempt: int

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"rescue": self.job_id, "attempt": self.attempt}


@dataclass(frozen=True)
class CreditsRequest:
    """Ask what is left on the provider's account."""

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"credits": True}


@dataclass(frozen=True)
class HistoryRequest:
    """Read a part of the provider's request history: between two times (seconds since the epoch), from a page on."""

    first: float
    last: float
    page: int

    def to_dict(self) -> dict[str, Any]:
        """Return the function's event."""
        return {"history": {"first": self.first, "last": self.last, "page": self.page}}


DeliveryRequest = ExecutionState | ExecutionEnd | RescueRequest | CreditsRequest | HistoryRequest


def parse_request(event: Mapping[str, Any]) -> DeliveryRequest:
    """Read an event of `deliver`. Raises KeyError and ValueError where it is none."""
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
