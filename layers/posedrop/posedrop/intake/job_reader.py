"""Read a folder until its files are a job, or record what they wait for."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from posedrop.aws.messages import LONGEST_DELAY, PoseMessage, SourceUpload
from posedrop.aws.read_images import ReadImages
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.contents import Content
from posedrop.contract.errors import FolderUnsteady, UploadChanged
from posedrop.contract.upload_layout import UploadLayout, hint
from posedrop.intake.folder import JobCandidate, read_candidate
from posedrop.intake.waiting import Waiting
from posedrop.settings import IntakeSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

MAY_COME = 120.0
"""Seconds to wait for a picture after an empty file, or after another file with its stem. Some gateways write an empty
file first, and a phone's video may arrive before its picture."""
READS = 5
"""How often a folder is read if it keeps changing."""


class JobReader:
    """Reads the files of one pose. `clock` is for tests."""

    def __init__(
        self,
        settings: IntakeSettings,
        default_prompt: Callable[[], str],
        s3: "S3Client",
        images: ReadImages,
        waiting: Waiting,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._layout = UploadLayout(settings.upload_prefix)
        self._default_prompt = default_prompt
        self._s3 = s3
        self._images = images
        self._waiting = waiting
        self._clock = clock

    def read(self, message: PoseMessage) -> JobCandidate | None:
        """Return the job that the files make. If they are not a job yet, record what is missing and return None.

        Raises FolderUnsteady.
        """
        bucket = UploadBucket(self._s3, message.bucket, self._layout)
        own = message.upload.key if message.upload else ""
        before: JobFiles | None = None
        for _ in range(READS):
            files = bucket.files(message.character, message.pose, own)
            newer = later_upload(files, message.upload, self._settings.settle_seconds, self._clock())
            if newer:
                logger.info("left to the event of a newer file", key=newer.key)
                left = newer.modified.timestamp() + self._settings.settle_seconds - self._clock()
                self._read_again(replace(message, upload=None), left)
                return None
            if not files.pose and not files.pose_file:
                logger.info("ignored: the upload was deleted meanwhile")
                self._waiting.stop(message)
                return None
            missing, reason = files.missing, hint(files.missing, files.unknown_names)
            if not missing:
                try:
                    found = self._candidate(bucket, message, files)
                except UploadChanged as exc:
                    logger.info("a file changed while it was read", key=str(exc))
                    continue
                coming = self._coming(found)
                if not found.lacks_prompt and not coming:
                    return found
                missing, reason = list(coming) or ["prompt"], _pending_reason(coming)
                if coming and files != before:
                    youngest = max(listed.modified.timestamp() for listed, _ in coming.values())
                    self._read_again(message, youngest + MAY_COME - self._clock())
            if files == before:
                return None
            self._waiting.record(message, missing, reason)
            before = files  # read again, because a file may have arrived before the waiting record was written
        raise FolderUnsteady("the files keep changing")

    def _candidate(self, bucket: UploadBucket, message: PoseMessage, files: JobFiles) -> JobCandidate:
        return read_candidate(
            bucket,
            message.character,
            message.pose,
            files,
            self._default_prompt(),
            self._images,
            prepares=self._settings.prepare_images,
            model=self._settings.model,
        )

    def _coming(self, found: JobCandidate) -> dict[str, tuple[Listed, Content]]:
        """Return the recent files in whose place a picture may still arrive, by "face" and "pose"."""
        since = self._clock() - MAY_COME
        return {what: pair for what, pair in found.pending.items() if pair[0].modified.timestamp() > since}

    def _read_again(self, message: PoseMessage, seconds: float) -> None:
        """Send the message again with a delay, because a recent file's own event may be lost."""
        self._waiting.send([(message, min(max(1, math.ceil(seconds)), LONGEST_DELAY))])


def later_upload(files: JobFiles, upload: SourceUpload | None, settle_seconds: float, now: float) -> Listed | None:
    """Return a newer file whose own event should handle the job, or None if the job can be handled now.

    Such a file is younger than `settle_seconds` at `now` (seconds since the epoch), and newer than this event's own
    upload. The event of the newest file never waits, so one event of a folder always handles the job.
    """
    own = next((f for f in files.present() if upload and (f.key, f.etag.strip('"')) == (upload.key, upload.etag)), None)
    younger = [
        found
        for found in files.present()
        if found is not own
        and now - found.modified.timestamp() < settle_seconds
        and (own is None or found.modified > own.modified)
    ]
    return max(younger, key=lambda found: found.modified, default=None)


def _pending_reason(pending: dict[str, tuple[Listed, Content]]) -> str | None:
    named = [f"{listed.key} is {content.words}" for listed, content in pending.values()]
    return f"{', '.join(named)}: read again for two minutes" if named else None
