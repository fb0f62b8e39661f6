"""Check the images of an attempt, and store them in the output bucket."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.output_bucket import OutputBucket
from posedrop.aws.record import Record
from posedrop.aws.resources import Resources
from posedrop.segmind.downloads import Downloader
from posedrop.segmind.model import MAX_IMAGES
from posedrop.segmind.outputs import InlineSource, Source
from posedrop.settings import DeliverSettings

logger = Logger(child=True)

RESERVE = 30.0
"""Seconds of the function's time that are reserved for storing and notifying."""


class Images:
    """Stores images. Those that the provider returned as URLs are downloaded first."""

    def __init__(self, settings: DeliverSettings, aws: Resources) -> None:
        self._outputs = OutputBucket(aws.s3, settings.output_bucket)
        self._downloader = Downloader(settings.segmind_base_url)

    def store(self, record: Record, sources: Sequence[Source], remaining: Callable[[], float]) -> list[dict[str, Any]]:
        """Check and store the images of an attempt. Return their entries for the notification.

        `remaining` returns the function's seconds left. Raises OutputInvalid, and DeliveryFailed if a later try may
        succeed.
        """
        folder = record.output_folder
        if len(sources) > MAX_IMAGES:
            logger.warning("more outputs than expected: the first are delivered", expected=MAX_IMAGES)
        outputs: list[dict[str, Any]] = []
        for source in sources[:MAX_IMAGES]:
            number = len(outputs) + 1
            if isinstance(source, InlineSource):
                if hashlib.sha256(source.data).hexdigest() in (output["sha256"] for output in outputs):
                    continue  # the response had the image twice: as a URL, and in base64
                outputs.append(self._outputs.store_image(folder, number, [source.data]))
            else:
                with self._downloader.open(source.url, remaining() - RESERVE) as chunks:
                    outputs.append(self._outputs.store_image(folder, number, chunks))
        return outputs
