"""Draw the outputs on request, off the event loop, a few at a time; keep the latest."""

import asyncio
from concurrent.futures import Executor

from local.segmind.cache import BoundedCache
from local.segmind.inputs import Inputs, Picture
from local.segmind.jobs import Job
from local.segmind.render import Order, compose, encode

KEPT_BYTES = 64 * 1024 * 1024


class Artist:
    """Draws and caches encoded pictures. A picture that is drawn again has the same bytes."""

    def __init__(self, inputs: Inputs, executor: Executor) -> None:
        self._inputs = inputs
        self._executor = executor
        self._kept: BoundedCache[bytes] = BoundedCache(KEPT_BYTES)

    async def draw(self, job: Job, sample: int, output_format: str | None = None) -> bytes:
        """Return sample number `sample` (from 1) of a completed job, in its own format or in another one."""
        assert job.pictures is not None
        face, pose = job.pictures
        order = job.order(sample)
        output_format = output_format or job.parameters.output_format
        key = (face.sha256, pose.sha256, order, output_format, job.parameters.quality)
        found = self._kept.get(key)
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(
                self._executor, self._draw, face, pose, order, output_format, job.parameters.quality
            )
            self._kept.put(key, found, len(found))
        return found

    def _draw(self, face: Picture, pose: Picture, order: Order, output_format: str, quality: int) -> bytes:
        return encode(compose(self._inputs.image(face), self._inputs.image(pose), order), output_format, quality)
