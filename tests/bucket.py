"""A bucket in memory with the part of S3 that uploads and outputs need: tens of thousands of files, in order."""

import hashlib
import io
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

PAGE = 1000
"""Keys in one page (API reference, ListObjectsV2)."""


class MemoryBucket:
    """An S3 client with one versioned bucket. `calls` counts its requests by name and key or prefix."""

    def __init__(self, files: Mapping[str, bytes], modified: float) -> None:
        self.files = dict(files)
        self.calls: Counter[tuple[str, str]] = Counter()
        self._keys = sorted(self.files, key=str.encode)
        self._metadata: dict[str, dict[str, str]] = {}
        self._modified = dict.fromkeys(self.files, datetime.fromtimestamp(modified, UTC))

    def etag(self, key: str) -> str:
        """Return the ETag of a file."""
        return f'"{hashlib.md5(self.files[key], usedforsecurity=False).hexdigest()}"'

    def put_object(self, modified: float, **request: Any) -> dict[str, Any]:
        """Store a file at a time (seconds since the epoch)."""
        key = request["Key"]
        if key not in self.files:
            insort(self._keys, key, key=str.encode)
        self.files[key] = request["Body"]
        self._modified[key] = datetime.fromtimestamp(modified, UTC)
        self._metadata[key] = request.get("Metadata", {})
        return {"ETag": self.etag(key), "VersionId": f"v-{self.etag(key)}"}

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        prefix, delimiter = request["Prefix"], request.get("Delimiter")
        self.calls["list", prefix] += 1
        after = request.get("ContinuationToken", request.get("StartAfter", ""))
        at = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        contents: list[dict[str, Any]] = []
        folders: list[dict[str, str]] = []
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            if len(contents) == request.get("MaxKeys", PAGE):
                last = contents[-1]["Key"]
                more = {"IsTruncated": True, "NextContinuationToken": last}
                return {"Contents": contents, "CommonPrefixes": folders, **more}
            key = self._keys[at]
            folder = key[len(prefix) :].partition("/")[0] if delimiter and "/" in key[len(prefix) :] else None
            if folder is not None:
                folders.append({"Prefix": f"{prefix}{folder}/"})
                at = bisect_left(self._keys, f"{prefix}{folder}0")  # "0" is the character after the slash
                continue
            size = len(self.files[key])
            contents.append({"Key": key, "ETag": self.etag(key), "Size": size, "LastModified": self._modified[key]})
            at += 1
        return {"Contents": contents, "CommonPrefixes": folders, "IsTruncated": False}

    def get_paginator(self, _: str) -> "MemoryBucket":
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self.list_objects_v2(**request, **token)
            yield page
            if not page["IsTruncated"]:
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def head_object(self, **request: Any) -> dict[str, Any]:
        return self._object("head", request)

    def get_object(self, **request: Any) -> dict[str, Any]:
        key = request["Key"]
        body, metadata = io.BytesIO(self.files[key]), self._metadata.get(key, {})
        return self._object("get", request) | {"Body": body, "Metadata": metadata}

    def _object(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        key = request["Key"]
        self.calls[call, key] += 1
        assert request["IfMatch"] == self.etag(key)
        return {"VersionId": f"v-{self.etag(key)}", "ETag": self.etag(key), "ContentLength": len(self.files[key])}
