"""The body of a request: the parameters, and the two images, as URLs or in base64."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.config import Config

from posedrop.aws.prepared_pictures import PreparedPictures, response_seconds
from posedrop.aws.record import Record
from posedrop.aws.resources import Resources
from posedrop.aws.stored_uploads import check_stored, presigned_url, read_stored
from posedrop.contract.errors import InvalidInput, UploadChanged
from posedrop.contract.prepared import Prepared
from posedrop.contract.reasons import InputFault, Problem
from posedrop.settings import SubmitSettings

URL_SECONDS = 3600
FRESH = 3600.0
"""Seconds for which an object version that was read is assumed to exist. Buckets expire old versions after days."""


class RequestBody:
    """Makes the bodies of requests."""

    def __init__(self, settings: SubmitSettings, aws: Resources, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._s3 = aws.s3
        self._pictures = _pictures(settings, aws, clock)
        self._clock = clock

    def prepare(self, record: Record, remaining: Callable[[], float]) -> dict[str, Prepared]:
        """Return the prepared pictures that are sent in place of a job's uploads, by "face" and "pose".

        Raises InvalidInput, Deferred and TransientFault.
        """
        if not self._settings.prepare_images:
            return {}
        # A picture without `changes` is sent as it was uploaded. Old records do not have this field.
        wanted = {name: stored for name, stored in record.inputs.items() if stored.get("changes")}
        with _gone_is_invalid():
            return {name: self._pictures.get(stored, remaining) for name, stored in wanted.items()}

    def make(self, record: Record, prepared: Mapping[str, Prepared]) -> dict[str, Any]:
        """Return the request body for a job and its prepared pictures. Raises InvalidInput."""
        with _gone_is_invalid():
            images = {name: self._image(record, name, prepared.get(name)) for name in ("face", "pose")}
        return self._settings.model.request(record.parameters, images)

    def _image(self, record: Record, name: str, prepared: Prepared | None) -> str:
        stored = prepared.stored() if prepared else record.inputs[name]
        if self._settings.image_transport == "base64":
            return base64.b64encode(read_stored(self._s3, stored)).decode()
        if not prepared and (not stored["version_id"] or self._clock() - record.created_at > FRESH):
            # If the object is gone, the request would be paid in vain. Without versioning, the provider gets whatever
            # the key has when it fetches the URL. This check shows at least that nothing has changed until now.
            check_stored(self._s3, stored)
        return presigned_url(self._s3, stored, record.execution_name, URL_SECONDS)


def _pictures(settings: SubmitSettings, aws: Resources, clock: Callable[[], float]) -> PreparedPictures:
    """Return the prepared pictures. The client does not retry: without a response, SQS redelivers the message."""
    seconds = response_seconds(settings.submit_timeout_seconds)
    config = Config(connect_timeout=5, read_timeout=seconds, retries={"total_max_attempts": 1})
    client = aws.make_client("lambda", config=config)
    return PreparedPictures(aws.s3, client, settings.output_bucket, settings.prepare_function, seconds, clock)


@contextmanager
def _gone_is_invalid() -> Iterator[None]:
    """Turn UploadChanged into InvalidInput: S3 no longer has the image that was read."""
    try:
        yield
    except UploadChanged as exc:
        problem = Problem("replaced or deleted before the job was sent", InputFault.GONE, str(exc))
        raise InvalidInput(problem) from exc
