"""The notification, as subscribers get it: its fields are those of events/schemas/notification.schema.json."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Notification:
    """A job's end, or uploads that wait for too long. Times are RFC 3339; None where nothing is known."""

    version: str = VERSION
    job_id: str
    attempt: int
    status: str
    character: str
    pose: str | None
    request_id: str | None
    inputs: dict[str, dict[str, Any] | None]
    parameters: dict[str, Any] | None
    outputs: list[dict[str, Any]]
    error: dict[str, str] | None
    metrics: dict[str, Any]
    context: dict[str, Any] | None
    submitted_at: str | None
    completed_at: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: all keys are always there."""
        return dict(vars(self))

    def with_links(self, link: Callable[[str], str]) -> Self:
        """Return it with a link to each image; `link` makes one of an object's key."""
        return replace(self, outputs=[{**output, "url": link(output["key"])} for output in self.outputs])
