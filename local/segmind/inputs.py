"""The two images of a job: fetched or decoded, checked, and stored on disk by their hash."""

import asyncio
import hashlib
import io
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from PIL import Image

from local.segmind.cache import BoundedCache
from local.segmind.parameters import Source

MAX_IMAGE_BYTES = 64 * 1024 * 1024
FETCH_SECONDS = 20.0
CONCURRENT_FETCHES = 8
DECODED_BYTES = 64 * 1024 * 1024


class InputError(Exception):
    """An input image cannot be loaded, or is not an image; the text says which and why, without a URL's signature."""


@dataclass(frozen=True)
class Picture:
    """A checked image, sizes in pixels."""

    sha256: str
    width: int
    height: int


class Inputs:
    """Fetches images and stores them in `directory`; recently used decoded ones stay in memory."""

    def __init__(self, directory: Path, executor: Executor) -> None:
        self._directory = directory
        self._executor = executor
        self._decoded: BoundedCache[Image.Image] = BoundedCache(DECODED_BYTES)
        self._slots = asyncio.Semaphore(CONCURRENT_FETCHES)
        # A proxy from the environment must not be used between two programs on one machine.
        self._http = httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=True, trust_env=False)

    async def close(self) -> None:
        """Close the connections to the images' hosts."""
        await self._http.aclose()

    async def take(self, name: str, source: Source) -> Picture:
        """Return the checked image of the parameter `name`. Raises InputError."""
        async with self._slots:
            data = source.data if source.data is not None else await self._fetch(name, source.url or "")
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(self._executor, self._keep, data)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise InputError(f"{name} is not an image that can be read ({len(data)} bytes)") from error

    def image(self, picture: Picture) -> Image.Image:
        """Return the decoded image (RGB), from memory or from disk."""
        found = self._decoded.get(picture.sha256)
        return found if found is not None else self._decode(picture.sha256, self._path(picture.sha256).read_bytes())

    async def _fetch(self, name: str, url: str) -> bytes:
        host = urlsplit(url).hostname
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != 200:
                    raise InputError(f"{name} could not be fetched: {host} answered {response.status_code}")
                data = bytearray()
                async for part in response.aiter_bytes():
                    data += part
                    if len(data) > MAX_IMAGE_BYTES:
                        raise InputError(f"{name} is larger than {MAX_IMAGE_BYTES} bytes")
                return bytes(data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(f"{name} could not be fetched from {host}: {type(error).__name__}") from error

    def _keep(self, data: bytes) -> Picture:
        sha256 = hashlib.sha256(data).hexdigest()
        image = self._decoded.get(sha256)
        if image is None:
            image = self._decode(sha256, data)
            self._path(sha256).write_bytes(data)
        return Picture(sha256, image.width, image.height)

    def _decode(self, sha256: str, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        self._decoded.put(sha256, image, image.width * image.height * 3)
        return image

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256
