"""The notification that subscribers get. Its JSON Schema is events/schemas/notification.schema.json."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Notification:
    """The end of a job, or uploads that have waited for too long. Times are RFC 3339. Unknown values are None."""

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
        """Return the notification as JSON. All keys are always present."""
        return dict(vars(self))

    def with_links(self, link: Callable[[str], str]) -> Self:
        """Return the notification with a URL for each image. `link` makes a URL from an object's key."""
        return replace(self, outputs=[{**output, "url": link(output["key"])} for output in self.outputs])
