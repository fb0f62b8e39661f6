"""prepare: convert an upload to the picture that is sent: upright, in sRGB, without metadata, within the limits."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.aws.s3 import s3_client
from posedrop.prepare.preparer import Preparer
from posedrop.settings import PrepareSettings, from_environment

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Prepare the event's picture, and return where it is stored, or why it cannot be prepared."""
    logger.append_keys(upload=event.get("key"), sha256=event.get("sha256"))
    try:
        return preparer(context.memory_limit_in_mb).handle(event, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        logger.remove_keys(["upload", "sha256"])


@cache
def preparer(memory_megabytes: int) -> Preparer:
    """Return the preparer of this process."""
    found: PrepareSettings = from_environment(PrepareSettings)
    return Preparer(s3_client(), found.output_bucket, int(memory_megabytes))
