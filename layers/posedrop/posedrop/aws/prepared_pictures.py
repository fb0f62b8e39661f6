"""Get prepared pictures for `submit`: find them in the bucket, or invoke the function `prepare`."""

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ReadTimeoutError

from posedrop.aws.stored_uploads import GONE
from posedrop.contract.errors import Deferred, InvalidInput, TransientFault, UploadChanged
from posedrop.contract.prepared import CHANGES, LIFETIME, REFUSED, SHA256, TYPES, Prepared, PrepareRequest, prefix
from posedrop.contract.reasons import InputFault, Problem, ReasonCode

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

LONGEST_SECONDS = 70.0
"""The longest wait for the response of `prepare`: more than its timeout of 60 seconds."""
MARGIN = 5.0
"""Seconds that are left of `submit` after the longest wait for `prepare`."""
STILL_RUNNING = 15.0
"""Seconds until the next try, if a picture was not ready in time."""
THROTTLED = 5.0
"""Seconds until the next try, if Lambda throttles `prepare`."""


def response_seconds(submit_timeout_seconds: float) -> float:
    """Return the read timeout of the client that invokes `prepare`. It depends on the timeout of `submit`."""
    return max(1.0, min(LONGEST_SECONDS, submit_timeout_seconds - MARGIN))


class PreparedPictures:
    """The prepared pictures in one bucket. The client `functions` waits `seconds` for a response and never retries."""

    def __init__(
        self,
        s3: "S3Client",
        functions: "LambdaClient",
        bucket: str,
        function: str,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._s3 = s3
        self._functions = functions
        self._bucket = bucket
        self._function = function
        self._seconds = seconds
        self._clock = clock

    def get(self, stored: Mapping[str, Any], remaining: Callable[[], float]) -> Prepared:
        """Return the prepared picture of an input of the ledger. Prepare it if it is missing or about to expire.

        `remaining` returns the function's seconds left. Raises InvalidInput if the picture cannot be prepared,
        UploadChanged if the upload is gone, and Deferred or TransientFault if a later try may succeed.
        """
        return self._find(stored) or self._make(stored, remaining)

    def _find(self, stored: Mapping[str, Any]) -> Prepared | None:
        made_since = self._clock() - LIFETIME
        listed = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=f"{prefix(stored['sha256'])}.")
        for entry in listed.get("Contents", []):
            if entry["LastModified"].timestamp() < made_since:
                continue
            try:
                if entry["Key"].endswith(REFUSED):
                    body = self._s3.get_object(Bucket=self._bucket, Key=entry["Key"])["Body"].read()
                    raise _refused(stored, json.loads(body)["reason"])
                response = self._s3.head_object(Bucket=self._bucket, Key=entry["Key"])
            except ClientError as exc:
                if exc.response["Error"]["Code"] in GONE:
                    continue
                raise
            if entry["Key"].endswith(tuple(TYPES)) and SHA256 in response["Metadata"]:
                etag, metadata = response["ETag"].strip('"'), response["Metadata"]
                changes = tuple(metadata.get(CHANGES, "").split())
                return Prepared(self._bucket, entry["Key"], etag, metadata[SHA256], changes)
        return None

    def _make(self, stored: Mapping[str, Any], remaining: Callable[[], float]) -> Prepared:
        if remaining() < self._seconds + 1:
            raise Deferred(ReasonCode.BUSY, "too little time is left to prepare a picture", 1)
        payload = json.dumps(PrepareRequest.of(stored).to_dict()).encode()
        try:
            response = self._functions.invoke(FunctionName=self._function, Payload=payload)
        except ReadTimeoutError as exc:
            raise Deferred(ReasonCode.BUSY, "a picture is still being prepared", STILL_RUNNING) from exc
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "TooManyRequestsException":
                raise
            # The account's concurrency is used up, in part by functions that wait for `prepare`. So do not wait here.
            raise Deferred(
                ReasonCode.BUSY, "Lambda's concurrency is used up, so no picture can be prepared now", THROTTLED
            ) from exc
        found = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise RuntimeError(f"prepare failed: {found.get('errorType')}: {found.get('errorMessage')}"[:500])
        if "error" in found:
            kind, message = found["error"]["type"], found["error"]["message"]
            if kind == UploadChanged.__name__:
                raise UploadChanged(stored["key"])
            if kind == InvalidInput.__name__:
                raise _refused(stored, message)
            raise TransientFault(message)
        made = found["prepared"]
        logger.info("prepared", key=made["key"], changes=made["what"])
        return Prepared(self._bucket, made["key"], made["etag"], made["sha256"], tuple(made["what"]))


def _refused(stored: Mapping[str, Any], reason: str) -> InvalidInput:
    return InvalidInput(Problem(reason, InputFault.IMAGE, stored["key"]))
