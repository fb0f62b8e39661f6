"""Uploads of which a record knows the version: their bytes, their URLs, whether they are still there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.errors import is_transient
from posedrop.contract.errors import InvalidInput
from posedrop.contract.reasons import InputFault, Problem

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

CHUNK = 1024 * 1024
"""Bytes of an image that are held at once."""
GONE = ("PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404")
"""What S3 says of a file that is not as it was listed or read."""


FORBIDDEN = "the function may not read the file: allow its role in the bucket's policy and key, then `retry` the job"
UNREADABLE = {
    "InvalidObjectState": "the file is archived: restore it, then `retry` the job",
    "AccessDenied": FORBIDDEN,
    "403": FORBIDDEN,
}
"""What S3 says of a file that is there and cannot be read (API reference, GetObject), and what to do."""


class UploadChanged(Exception):
    """A file was replaced or deleted after it was listed."""


def presigned_url(s3: "S3Client", stored: Mapping[str, Any], name: str, seconds: int) -> str:
    """A URL that serves an input of the ledger, the version that was read, under the file name `name`.

    It lives for `seconds`, but never longer than the session of the role that signs it.
    """
    parameters = {
        "Bucket": stored["bucket"],
        "Key": stored["key"],
        "ResponseContentType": stored["content_type"],
        "ResponseContentDisposition": f'inline; filename="{name}"',
    }
    if stored["version_id"]:
        parameters["VersionId"] = stored["version_id"]
    return s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)


def read_stored(s3: "S3Client", stored: Mapping[str, Any]) -> bytes:
    """The bytes of an input of the ledger, the version that was read.

    Raises UploadChanged if it is not there any more, InvalidInput if it may not be read.
    """
    with open_stored(s3, stored) as (body, _):
        return bytes(body.read())


@contextmanager
def open_stored(s3: "S3Client", stored: Mapping[str, Any]) -> Iterator[tuple["StreamingBody", int]]:
    """Open an input of the ledger, the version that was read; yield its body and its size in bytes.

    Raises UploadChanged if it is not there any more, InvalidInput if it may not be read.
    """
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    with translated(stored["key"], InputFault.IMAGE):
        response = s3.get_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    with response["Body"] as body:
        yield body, response["ContentLength"]


def check_stored(s3: "S3Client", stored: Mapping[str, Any]) -> None:
    """Make sure that an input of the ledger is still there. Raises UploadChanged."""
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    try:
        s3.head_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    except ClientError as exc:
        if exc.response["Error"]["Code"] in GONE:
            raise UploadChanged(stored["key"]) from exc
        raise


@contextmanager
def translated(key: str, fault: InputFault) -> Iterator[None]:
    """Translate what S3 says of a file that cannot be read: UploadChanged, InvalidInput with this fault."""
    try:
        yield
    except ClientError as exc:
        code = exc.response["Error"]["Code"]
        if code in GONE:
            raise UploadChanged(key) from exc
        if code in UNREADABLE or (code.startswith("KMS.") and not is_transient(exc)):
            raise InvalidInput(Problem(f"{UNREADABLE.get(code, FORBIDDEN)} ({code})", fault, key)) from exc
        raise


def version_of(response: Mapping[str, Any]) -> str | None:
    """The version that S3 names; where a bucket's versioning is suspended it is called null."""
    version: str | None = response.get("VersionId")
    return None if version == "null" else version
