"""prepare: makes of an upload the picture that is sent: upright, sRGB, without metadata, of a size that is taken."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from posedrop.prepare.preparer import Preparer
from posedrop.s3 import s3_client
from posedrop.settings import PrepareSettings, from_environment

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Prepare the picture that the event names, and return where it is, or why there is none."""
    logger.append_keys(upload=event.get("key"), sha256=event.get("sha256"))
    try:
        return preparer(context.memory_limit_in_mb).answer(event, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        logger.remove_keys(["upload", "sha256"])


@cache
def preparer(memory_megabytes: int) -> Preparer:
    """Return what prepares pictures in this process."""
    found: PrepareSettings = from_environment(PrepareSettings)
    return Preparer(s3_client(), found.output_bucket, int(memory_megabytes))
