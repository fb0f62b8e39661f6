"""A bucket with any number of files, whose listing is generated on request, and an empty ledger."""

import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from ops.act.backfill.finding import Finder
from ops.act.backfill.windows import WINDOW
from ops.stack import Stack
from posedrop.aws.upload_bucket import Listed

PAGE = 1000
"""Keys in one page (API reference, ListObjectsV2)."""


class ManyFiles:
    """S3 with a bucket of so many poses, 500 per character; the pages of a listing are generated on request."""

    def __init__(self, characters: int, poses: int = 500) -> None:
        self.characters = characters
        self.poses = poses
        self.calls = 0

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of the bucket, in order."""
        for character in range(self.characters):
            folder = f"incoming/client/{character:06}/"
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            for key in (f"{folder}face.png", f"{folder}job.json"):
                if key.startswith(prefix):
                    yield key
            for pose in range(self.poses):
                if (key := f"{folder}poses/{pose:06}.png").startswith(prefix):
                    yield key

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_objects_v2"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, Prefix: str, Delimiter: str = "", **_: Any) -> Iterator[dict[str, Any]]:
        page: list[dict[str, Any]] = []
        folders: set[str] = set()
        for key in self.keys(Prefix):
            below = key[len(Prefix) :].partition(Delimiter)[0] if Delimiter and Delimiter in key[len(Prefix) :] else ""
            if below:
                folders.add(f"{Prefix}{below}/")
                continue
            page.append(self._entry(key))
            if len(page) == PAGE:
                yield self._page(page, folders)
                page = []
        yield self._page(page, folders)

    def _entry(self, key: str) -> dict[str, Any]:
        modified = datetime(2026, 11, 26, tzinfo=UTC) - timedelta(days=1)
        return {"Key": key, "ETag": '"e"', "Size": 1, "LastModified": modified}

    def _page(self, page: list[dict[str, Any]], folders: set[str]) -> dict[str, Any]:
        self.calls += 1
        return {"Contents": page, "CommonPrefixes": [{"Prefix": folder} for folder in sorted(folders)]}

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {}  # no outputs

    def get_object(self, **_: Any) -> dict[str, Any]:
        body = b'{"prompt": "x"}'
        stream = SimpleNamespace(read=lambda limit: body)
        return {"ContentLength": len(body), "ETag": '"e"', "Body": _Body(stream)}


class _Body:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> Any:
        return self._stream

    def __exit__(self, *_: object) -> None:
        return None


class NoRecords:
    """DynamoDB without a record."""

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: iter([{"Items": []}]))

    def batch_get_item(self, RequestItems: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"Responses": {}}


def many_files(characters: int, window: int = WINDOW) -> tuple[ManyFiles, Finder]:
    """Return a bucket of many files, and a finder for it."""
    s3 = ManyFiles(characters)
    clients = {"s3": s3, "dynamodb": NoRecords()}
    parameters = {
        "DefaultPrompt": "",
        "UploadPrefix": "incoming/",
        "RecordRetentionDays": "0",
        "SegmindRequestsPerMinute": "50",
    }
    parameters |= {"LimitCounts": "submits", "DailyBudget": "0", "MonthlyBudget": "0"}
    outputs = {"UploadBucketName": "uploads", "OutputBucketName": "outputs", "JobsTableName": "jobs"}
    stack = Stack(
        name="posedrop",
        region="eu-central-1",
        outputs=outputs,
        parameters=parameters,
        client=lambda service, config=None: clients[service],
    )
    return s3, Finder(stack, window)


class Watched(Listed):
    """A file of a listing. `alive` is the number of files that are still referenced, `most` its maximum so far."""

    alive: ClassVar[weakref.WeakSet[Listed]]
    most: ClassVar[int]

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        Watched.alive.add(self)
        Watched.most = max(Watched.most, len(Watched.alive))
