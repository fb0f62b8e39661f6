"""The provider without HTTP: accepts and runs jobs, and has the account."""

import asyncio
import logging
import random
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from local.segmind import outputs
from local.segmind.artist import Artist
from local.segmind.faults import JOB, Plan
from local.segmind.inputs import InputError, Inputs, Picture
from local.segmind.jobs import COMPLETED, FAILED, Job, describe, kept_body
from local.segmind.limits import RateLimiter
from local.segmind.misbehaviour import TEXTS
from local.segmind.parameters import IMAGES, ParameterError, Source, Submission, parse
from local.segmind.settings import Settings

logger = logging.getLogger("local.segmind")

ENDLESS = 1000.0
"""USD of an account with unlimited credits."""


class ApiError(Exception):
    """An error with an HTTP status and a text."""

    def __init__(self, status: int, text: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(text or TEXTS[status])
        self.status = status
        self.headers = headers


class Provider:
    """The account, its limits, and its jobs, which live as long as this object."""

    def __init__(self, settings: Settings, plan: Plan, directory: Path, executor: Executor, base_url: str) -> None:
        """`directory` is for the input images, `executor` decodes and draws, `base_url` is the server's address."""
        self.settings = settings
        self.plan = plan
        self.base_url = base_url
        self.jobs: dict[str, Job] = {}
        self.key_leaks = 0
        self.refuse: Callable[[float], Awaitable[None]]
        """Closes the listening socket for a number of seconds. The server sets it."""
        self._limiter = RateLimiter()
        self._latencies = random.Random(f"{settings.seed}/latency")  # nosec B311 # the same each time
        self._inputs = Inputs(directory, executor)
        self._artist = Artist(self._inputs, executor)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop all running jobs."""
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inputs.close()

    def authenticate(self, key: str | None) -> None:
        """Raise ApiError if this is not the account's key."""
        if key is None or not secrets.compare_digest(key.encode(), self.settings.api_key.encode()):
            raise ApiError(401)

    def check_limit(self) -> None:
        """Raise ApiError if the plan's limit is reached."""
        seconds = self._limiter.retry_after(self.settings.rpm)
        if seconds:
            raise ApiError(429, headers={"retry-after": str(seconds)})

    def count_call(self) -> None:
        """Count a call against the plan's limit."""
        self._limiter.take()

    def submit(self, body: object) -> Job:
        """Accept a job, and begin to fetch its images. Raises ApiError."""
        try:
            submission = parse(body)
        except ParameterError as error:
            raise ApiError(400, str(error)) from error
        if self.settings.credits is not None:
            if self.settings.credits <= 0:
                raise ApiError(406)
            self.settings.credits -= 1
        job = self._new_job(submission, body if isinstance(body, dict) else {})
        self.jobs[job.request_id] = job
        task = asyncio.create_task(self._prepare(job, submission))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        parameters = job.parameters
        logger.info(
            "accepted %s: %d sample(s), %s, seed %d, %.1f s",
            *(job.request_id, parameters.samples, parameters.output_format, parameters.seed, job.latency),
        )
        return job

    def remaining_credits(self) -> float:
        """Return the account's remaining credits, in USD."""
        left = self.settings.credits
        return ENDLESS if left is None else round(left * self.settings.price, 6)

    def metrics(self, job: Job) -> dict[str, float]:
        """Return the metrics in the result of a job that has ended."""
        if self.settings.cost is None or self.state(job) != COMPLETED:
            return job.metrics
        return {**job.metrics, "cost": job.cost, "remaining_credits": self.remaining_credits()}

    def job(self, request_id: str) -> Job:
        """Return a job whose result has not expired. Raises ApiError."""
        job = self.jobs.get(request_id)
        if job is None or job.expired(time.monotonic()):
            raise ApiError(404, "Request not found")
        return job

    def state(self, job: Job) -> str:
        """Return the job's state now."""
        return job.state(time.monotonic())

    async def finished(self, job: Job) -> None:
        """Wait until the job ends."""
        await job.prepared.wait()
        assert job.finished_at is not None
        while (remaining := job.finished_at - time.monotonic()) > 0:
            await asyncio.sleep(remaining)

    def output_urls(self, job: Job) -> list[str]:
        """Return the public links of its images."""
        ending = job.parameters.output_format
        return [
            f"{self.base_url}/media/{job.request_id}/{sample}.{ending}"
            for sample in range(1, job.parameters.samples + 1)
        ]

    async def output(self, job: Job) -> object:
        """Return the value of `output` of a completed job, or outputs.MISSING."""
        return await outputs.output(job, self.output_urls(job), lambda sample: self.image(job, sample))

    async def image(self, job: Job, sample: int, output_format: str | None = None) -> bytes:
        """Return an image of a completed job; `sample` counts from 1."""
        return await self._artist.draw(job, sample, output_format)

    def output_job(self, request_id: str, name: str) -> tuple[Job, int]:
        """Return the job and sample number of an output's link. Raises ApiError."""
        job = self.jobs.get(request_id)
        if job is not None and self.state(job) == COMPLETED and not job.removed(time.monotonic()):
            for sample in range(1, job.parameters.samples + 1):
                if name == f"{sample}.{job.parameters.output_format}":
                    return job, sample
        raise ApiError(404)

    def ended(self, job: Job) -> bool:
        """Return whether the job is in a terminal state."""
        return self.state(job) in (COMPLETED, FAILED)

    def _new_job(self, submission: Submission, body: dict[str, object]) -> Job:
        settings = self.settings
        sources = dict(zip(IMAGES, map(describe, (submission.face, submission.pose)), strict=True))
        return Job(
            request_id=str(uuid.uuid4()),
            parameters=submission.parameters,
            body=kept_body(body),
            sources=sources,
            created=datetime.now(UTC),
            started=time.monotonic(),
            latency=settings.latency.draw(self._latencies),
            retention=settings.retention,
            media_retention=settings.media_retention,
            cost=round(settings.price * (submission.parameters.samples if settings.cost_per == "sample" else 1), 6),
            effect=self.plan.draw(JOB, submission.parameters.prompt),
        )

    async def _prepare(self, job: Job, submission: Submission) -> None:
        try:
            face, pose = await asyncio.gather(
                self._picture("face_image", submission.face), self._picture("pose_image", submission.pose)
            )
        except InputError as error:
            job.finish_inputs(None, str(error), time.monotonic())
        else:
            job.finish_inputs((face, pose), None, time.monotonic())

    async def _picture(self, name: str, source: Source) -> Picture:
        return await self._inputs.take(name, source)
