"""Send a message for each pose of a character whose face or job file was uploaded."""

import math
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.messages import PoseMessage
from posedrop.aws.upload_bucket import UploadBucket
from posedrop.contract.upload_layout import UploadLayout, hint
from posedrop.intake.waiting import Waiting

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

OWN_EVENT_DELAY = 60
"""Seconds to wait for a pose's own event. After that the pose is handled without it, because it may be lost."""
PAGE = 1000
"""Files of a character that are listed at once: the most that S3 allows (API reference, ListObjectsV2)."""


class FanOut:
    """Expands a message about a character into messages about its poses. `settle_seconds` is SettleSeconds."""

    def __init__(self, s3: "S3Client", layout: UploadLayout, waiting: Waiting, settle_seconds: float) -> None:
        self._s3 = s3
        self._layout = layout
        self._waiting = waiting
        self._settle_seconds = settle_seconds

    def expand(self, message: PoseMessage) -> None:
        """Send a message for each pose on a page of the listing, and one for the next page.

        So the queue never has many more messages than one page of a character. If the function dies, the page is done
        again.
        """
        bucket = UploadBucket(self._s3, message.bucket, self._layout)
        own = message.upload.key if message.upload else ""
        poses, after = bucket.some_poses(message.character, message.after, PAGE, own)
        if not poses and not message.after:
            found = bucket.files(message.character, "", own)
            if not found.present():
                logger.info("ignored: the upload was deleted meanwhile")
                self._waiting.stop(message)
                return
            missing = ["pose"] if found.face else ["face", "pose"]
            self._waiting.record(message, missing, hint(missing, found.unknown_names))
            poses, after = bucket.some_poses(message.character, "", PAGE, own)  # a pose may have arrived meanwhile
        delays = {pose: self._delay(modified, message.done_at) for pose, modified in poses.items()}
        messages = [(replace(message, pose=pose, after=""), delay) for pose, delay in delays.items()]
        for start in range(0, len(messages), 10):
            self._waiting.send(messages[start : start + 10])
        if after:
            self._waiting.send([(replace(message, after=after), max(delays.values()))])
        logger.info("expanded", poses=len(poses), later=sum(delay > 0 for delay in delays.values()), after=after)

    def _delay(self, modified: datetime, done_at: float | None) -> int:
        """Return the delay in seconds of the message for a pose, after a face or job file was uploaded at `done_at`.

        A pose that was settled by then is handled at once. A younger pose has an event of its own, which sees the new
        file. That event should handle the pose first, so this message is delayed.
        """
        # + 1: S3 truncates its times to seconds.
        settled_before = (done_at or math.inf) + 1 - self._settle_seconds
        return 0 if modified.timestamp() < settled_before else OWN_EVENT_DELAY
