"""What tests drop on the console's page, and what is uploaded by that."""

from tests.console.conftest import Console, Dropped
from tests.integration.conftest import BUCKET
from tests.support import image

FACE = ("face.png", image("png", (10, 10), "white"))
"""A face as it is dropped."""


def pose(name: str, color: str = "black") -> Dropped:
    """A pose as it is dropped."""
    return f"{name}.png", image("png", (12, 8), color)


def keys(console: Console) -> list[str]:
    """What is uploaded."""
    found = console.pipeline.s3.list_objects_v2(Bucket=BUCKET, Prefix="incoming/").get("Contents", [])
    return [entry["Key"] for entry in found]
