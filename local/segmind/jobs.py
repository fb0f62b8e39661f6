"""The jobs: what was submitted, and in which state each is at a given time."""

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
QUEUED_SHARE, QUEUED_SECONDS = 0.1, 1.0  # a job is QUEUED for a tenth of its time, a second at most
BLOCKED_MARKER = "blocked-content"
BLOCKED_TEXT = "The request was blocked by our responsible AI policy. Please change the prompt or the images."
FAILED_TEXT = "Inference failed: the model stopped with an error."
KEPT_CHARACTERS = 4096  # of an image that was sent as text: keeping 20 MiB for each job would not do


@dataclass
class Job:
    """One request that was accepted. `started` and all other times but `created` are seconds of the monotonic clock.

    `cost` is what it costs once it is completed, in USD.
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
        """Record that face and pose are here, or why they are not."""
        self.pictures, self.input_error, self.prepared_at = pictures, error, now
        self.prepared.set()

    @property
    def error(self) -> str | None:
        """The text with which this job fails, if it does."""
        if self.input_error:
            return self.input_error
        if self._struck_by("blocked") or BLOCKED_MARKER in self.parameters.prompt:
            return BLOCKED_TEXT
        return FAILED_TEXT if self._struck_by("failed") else None

    @property
    def finished_at(self) -> float | None:
        """When it ends or has ended, or None while its inputs are still on their way."""
        if not self.prepared.is_set():
            return None
        return self.prepared_at if self.input_error else max(self.started + self._seconds, self.prepared_at)

    def state(self, now: float) -> str:
        """The state that the provider would give."""
        elapsed = now - self.started
        if self.finished_at is not None and now >= self.finished_at:
            return FAILED if self.error else COMPLETED
        if self.effect and self._struck_by("unknown-state") and elapsed < self.effect.seconds:
            return self.effect.state
        return QUEUED if elapsed < min(self.latency * QUEUED_SHARE, QUEUED_SECONDS) else PROCESSING

    def expired(self, now: float) -> bool:
        """Whether the provider has forgotten it (source: provider's documentation: counted from the submission)."""
        if self.effect and self._struck_by("expired") and now >= self.started + self.effect.seconds:
            return True
        return now >= self.started + self.retention

    def removed(self, now: float) -> bool:
        """Whether its images and its row in the history are gone (source: provider's documentation, logging)."""
        return now >= self.started + self.media_retention

    @property
    def metrics(self) -> dict[str, float]:
        """What the provider measured; empty while it runs."""
        return {} if self.finished_at is None else {"inference_time": round(self.finished_at - self.started, 3)}

    @property
    def completed(self) -> datetime | None:
        """When it ends or has ended, by the wall clock."""
        if self.finished_at is None:
            return None
        return self.created + timedelta(seconds=self.finished_at - self.started)

    def order(self, sample: int) -> Order:
        """What to draw as sample number `sample`, counted from 1."""
        assert self.pictures is not None
        wanted = self.parameters
        size = (wanted.custom_width, wanted.custom_height)
        if wanted.use_input_img_dimension:
            size = (self.pictures[1].width, self.pictures[1].height)
        return Order(*size, prompt=wanted.prompt, seed=wanted.seed + sample - 1)

    def summary(self, now: float) -> dict[str, object]:
        """What the control API says of it: images by hash and source, never a signed URL."""
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
    """The inputs as they were sent; of an image that was sent as text, its beginning."""
    return {
        name: value[:KEPT_CHARACTERS] if name in IMAGES and isinstance(value, str) else value
        for name, value in body.items()
    }


def describe(source: Source) -> dict[str, object]:
    """Where an image comes from, without the query of its URL: that may hold a signature."""
    if source.url is None:
        return {"kind": "base64", "sha256": None}
    parts = urlsplit(source.url)
    return {"kind": "url", "sha256": None, "host": parts.netloc.rpartition("@")[2], "path": parts.path}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
