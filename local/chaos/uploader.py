"""Upload files in the background, some of them without an event, some events twice."""

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from local.chaos.scenario import Upload
from local.stack import LocalStack

UPLOADS_AT_ONCE = 4


class Uploader:
    """Uploads to the stack's bucket."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._bucket = stack.outputs["UploadBucketName"]
        self._queue = stack.outputs["UploadQueueUrl"]
        self._rule = stack.resource("UploadRule")
        self._pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload")
        self._under_way: list[Future[None]] = []
        self.expired: list[str] = []
        """The keys with a deleted old version."""

    def begin(self, upload: Upload, *, again: bool = False) -> None:
        """Upload a file. `again`: it was uploaded before, and this upload must have no effect."""
        if upload.event_lost:
            # All earlier uploads have sent their events.
            self.finish()
            self._without_event(upload)
        else:
            self._under_way.append(self._pool.submit(self._upload, upload, again=again))

    def expire(self, key: str) -> None:
        """Delete all versions of a file but the newest, as the bucket's lifecycle rule does after days."""
        self._under_way.append(self._pool.submit(self._expire, key))

    def finish(self) -> None:
        """Wait for all uploads. Raises their errors, which are botocore's."""
        while self._under_way:
            self._under_way.pop().result()

    def _upload(self, upload: Upload, *, again: bool) -> None:
        response = self._put(upload)
        if again:
            return
        for delay in upload.event_again:
            event = json.dumps(self._event(upload, response))
            self._stack.client("sqs").send_message(QueueUrl=self._queue, MessageBody=event, DelaySeconds=delay)

    def _without_event(self, upload: Upload) -> None:
        events = self._stack.client("events")
        events.disable_rule(Name=self._rule)
        self._put(upload)
        events.enable_rule(Name=self._rule)

    def _expire(self, key: str) -> None:
        s3 = self._stack.client("s3")
        found = s3.list_object_versions(Bucket=self._bucket, Prefix=key)["Versions"]
        for version in found:
            if version["Key"] == key and not version["IsLatest"]:
                s3.delete_object(Bucket=self._bucket, Key=key, VersionId=version["VersionId"])
                self.expired.append(key)

    def _put(self, upload: Upload) -> dict[str, Any]:
        response: dict[str, Any] = self._stack.client("s3").put_object(
            Bucket=self._bucket, Key=upload.key, Body=upload.body, Metadata=upload.metadata
        )
        return response

    def _event(self, upload: Upload, response: dict[str, Any]) -> dict[str, Any]:
        """Return the event that S3 sends for an upload through EventBridge."""
        stored = {
            "key": upload.key,
            "size": len(upload.body),
            "etag": response["ETag"].strip('"'),
            "version-id": response.get("VersionId"),
            "sequencer": "0",
        }
        return {
            "version": "0",
            "id": "00000000-0000-0000-0000-000000000000",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "account": "000000000000",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "region": self._stack.region,
            "resources": [f"arn:aws:s3:::{self._bucket}"],
            "detail": {"version": "0", "bucket": {"name": self._bucket}, "object": stored, "reason": "PutObject"},
        }
