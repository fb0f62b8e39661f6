"""The submitted jobs, and the state of each at a given time."""

import asyncio
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from local.segmind.faults import Fault
from local.segmind.inputs import Picture
from local.segmind.parameters import IMAGES, Parameters, Source
from local.segmind.render import Order

MODEL = "consistent-character-with-pose"
QUEUED, PROCESSING, COMPLETED, FAILED = "QUEUED", "PROCESSING", "COMPLETED", "FAILED"
QUEUED_SHARE, QUEUED_SECONDS = 0.1, 1.0  # a job is QUEUED for a tenth of its time, at most a second
BLOCKED_MARKER = "blocked-content"
BLOCKED_TEXT = "The request was blocked by our responsible AI policy. Please change the prompt or the images."
FAILED_TEXT = "Inference failed: the model stopped with an error."
KEPT_CHARACTERS = 4096  # of an image sent as text: 20 MiB per job would be too much


@dataclass
class Job:
    """One accepted request. `started` and all other times except `created` are seconds of the monotonic clock.

    `cost` is its cost when it is completed, in USD.
    """

    request_id: str
    parameters: Parameters
    body: dict[str, object]
    sources: dict[str, dict[str, object]]
    created: datetime
    started: float
    latency: float
    retention: float
    media_retention: float
    cost: float
    effect: Fault | None
    pictures: tuple[Picture, Picture] | None = None
    input_error: str | None = None
    prepared_at: float = 0.0
    prepared: asyncio.Event = field(default_factory=asyncio.Event)

    def finish_inputs(self, pictures: tuple[Picture, Picture] | None, error: str | None, now: float) -> None:
        """Record that face and pose are loaded, or why they are not."""
        self.pictures, self.input_error, self.prepared_at = pictures, error, now
        self.prepared.set()

    @property
    def error(self) -> str | None:
        """Return the error text of this job, or None."""
        if self.input_error:
            return self.input_error
        if self._struck_by("blocked") or BLOCKED_MARKER in self.parameters.prompt:
            return BLOCKED_TEXT
        return FAILED_TEXT if self._struck_by("failed") else None

    @property
    def finished_at(self) -> float | None:
        """Return when the job ends or has ended, or None while its inputs are being loaded."""
        if not self.prepared.is_set():
            return None
        return self.prepared_at if self.input_error else max(self.started + self._seconds, self.prepared_at)

    def state(self, now: float) -> str:
        """Return the state that the provider would report."""
        elapsed = now - self.started
        if self.finished_at is not None and now >= self.finished_at:
            return FAILED if self.error else COMPLETED
        if self.effect and self._struck_by("unknown-state") and elapsed < self.effect.seconds:
            return self.effect.state
        return QUEUED if elapsed < min(self.latency * QUEUED_SHARE, QUEUED_SECONDS) else PROCESSING

    def expired(self, now: float) -> bool:
        """Return whether the result has expired (source: provider's documentation; counted from the submission)."""
        if self.effect and self._struck_by("expired") and now >= self.started + self.effect.seconds:
            return True
        return now >= self.started + self.retention

    def removed(self, now: float) -> bool:
        """Return whether images and history row are removed (source: provider's documentation, logging)."""
        return now >= self.started + self.media_retention

    @property
    def metrics(self) -> dict[str, float]:
        """Return the provider's metrics; empty while the job runs."""
        return {} if self.finished_at is None else {"inference_time": round(self.finished_at - self.started, 3)}

    @property
    def completed(self) -> datetime | None:
        """Return when the job ends or has ended, by the wall clock."""
        if self.finished_at is None:
            return None
        return self.created + timedelta(seconds=self.finished_at - self.started)

    def order(self, sample: int) -> Order:
        """Return the drawing order of sample number `sample`, counted from 1."""
        assert self.pictures is not None
        wanted = self.parameters
        size = (wanted.custom_width, wanted.custom_height)
        if wanted.use_input_img_dimension:
            size = (self.pictures[1].width, self.pictures[1].height)
        return Order(*size, prompt=wanted.prompt, seed=wanted.seed + sample - 1)

    def summary(self, now: float) -> dict[str, object]:
        """Return the job's data for the control API: images by hash and source, never a signed URL."""
        images = {name: dict(self.sources[name]) for name in IMAGES}
        for name, picture in zip(IMAGES, self.pictures or (), strict=False):
            images[name]["sha256"] = picture.sha256
        completed = self.completed if self.state(now) in (COMPLETED, FAILED) else None
        return {
            "request_id": self.request_id,
            "submitted_at": timestamp(self.created),
            "completed_at": timestamp(completed) if completed else None,
            "status": self.state(now),
            "prompt": self.parameters.prompt,
            "parameters": {**asdict(self.parameters), **images},
            "error": self.error if self.state(now) == FAILED else None,
            "accepted": True,
        }

    @property
    def _seconds(self) -> float:
        return max(self.latency, self.effect.seconds if self.effect and self._struck_by("unknown-state") else 0)

    def _struck_by(self, fault: str) -> bool:
        return self.effect is not None and self.effect.fault == fault


def kept_body(body: dict[str, object]) -> dict[str, object]:
    """Return the inputs as they were sent; an image that was sent as text is shortened."""
    return {
        name: value[:KEPT_CHARACTERS] if name in IMAGES and isinstance(value, str) else value
        for name, value in body.items()
    }


def describe(source: Source) -> dict[str, object]:
    """Return where an image comes from, without its URL's query, which may contain a signature."""
    if source.url is None:
        return {"kind": "base64", "sha256": None}
    parts = urlsplit(source.url)
    return {"kind": "url", "sha256": None, "host": parts.netloc.rpartition("@")[2], "path": parts.path}


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
