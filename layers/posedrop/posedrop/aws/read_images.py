"""Remember for a day what was read from an image, so that a face with a thousand poses is read only once."""

import hashlib
import json
from collections.abc import Callable

from posedrop.aws.items import Item, Items
from posedrop.contract.job import Input
from posedrop.contract.times import DAY


class ReadImages:
    """Valid images by their S3 versions, which never change. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items, clock: Callable[[], float]) -> None:
        self._items = items
        self._clock = clock

    def get(self, bucket: str, key: str, version_id: str, etag: str) -> Input | None:
        """Return what was read from a version, or None if it is not remembered. The result has the given `etag`."""
        (item,) = self._items.get(item_key(bucket, key, version_id))
        if not item:
            return None
        sha256, content_type = str(item["sha256"]), str(item["content_type"])
        changes = tuple(filter(None, str(item.get("changes", "")).split()))
        return Input(bucket, key, version_id, etag, int(item["bytes"]), sha256, content_type, changes)

    def put(self, image: Input) -> None:
        """Remember a valid image if it has a version."""
        if image.version_id and image.sha256 and image.content_type:
            values: Item = {"sha256": image.sha256, "content_type": image.content_type, "bytes": image.size}
            values["changes"] = " ".join(image.changes)
            values["expires_at"] = int(self._clock() + DAY)
            self._items.update(item_key(image.bucket, image.key, image.version_id), values=values)


def item_key(*version: str) -> str:
    """Return the key of the item that remembers a version: its bucket, key and version id."""
    # Raise the number when the remembered values change: then older items are ignored.
    return f"read/{hashlib.sha256(json.dumps([*version, 2]).encode()).hexdigest()}"
