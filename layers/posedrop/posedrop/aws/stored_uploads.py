"""Access the uploads that a record names by version: read them, presign their URLs, check that they exist."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.errors import is_transient
from posedrop.contract.errors import InvalidInput, UploadChanged
from posedrop.contract.reasons import InputFault, Problem

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

CHUNK = 1024 * 1024
"""Bytes of an image that are read at once."""
GONE = ("PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404")
"""The error codes of S3 for a file that has changed or is gone."""


ARCHIVED = "the file is archived: restore it, then `retry` the job"
FORBIDDEN = "the function may not read the file: allow its role in the bucket's policy and key, then `retry` the job"
UNREADABLE = {
    "InvalidObjectState": ARCHIVED,
    "AccessDenied": FORBIDDEN,
    "403": FORBIDDEN,
}
"""What to do about a file that exists but cannot be read, by S3's error code (API reference, GetObject)."""


def presigned_url(s3: "S3Client", stored: Mapping[str, Any], name: str, seconds: int) -> str:
    """Return a URL for an input of the ledger, in the version that was read, with the file name `name`.

    The URL expires after `seconds`, or with the session of the role that signs it if that ends first.
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
    """Return the bytes of an input of the ledger, in the version that was read.

    Raises UploadChanged if the version is gone, InvalidInput if the function may not read it.
    """
    with open_stored(s3, stored) as (body, _):
        return bytes(body.read())


@contextmanager
def open_stored(s3: "S3Client", stored: Mapping[str, Any]) -> Iterator[tuple["StreamingBody", int]]:
    """Open an input of the ledger, in the version that was read. Yield its body and its size in bytes.

    Raises UploadChanged if the version is gone, InvalidInput if the function may not read it.
    """
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    with translated(stored["key"], InputFault.IMAGE):
        response = s3.get_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    with response["Body"] as body:
        yield body, response["ContentLength"]


def check_stored(s3: "S3Client", stored: Mapping[str, Any]) -> None:
    """Check that an input of the ledger still exists and can be read.

    Raises UploadChanged if it is gone, InvalidInput if it is archived or the function may not read it.
    """
    version = {"VersionId": stored["version_id"]} if stored["version_id"] else {}
    with translated(stored["key"], InputFault.IMAGE):
        response = s3.head_object(Bucket=stored["bucket"], Key=stored["key"], IfMatch=f'"{stored["etag"]}"', **version)
    if _is_archived(response):
        raise InvalidInput(Problem(ARCHIVED, InputFault.IMAGE, stored["key"]))


def _is_archived(response: Mapping[str, Any]) -> bool:
    """Return whether a file must be restored before it can be read (S3 API reference, HeadObject)."""
    in_archive = "ArchiveStatus" in response or response.get("StorageClass") in ("GLACIER", "DEEP_ARCHIVE")
    return in_archive and 'ongoing-request="false"' not in response.get("Restore", "")


@contextmanager
def translated(key: str, fault: InputFault) -> Iterator[None]:
    """Translate S3's errors for a file that cannot be read into UploadChanged, or InvalidInput with this fault."""
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
    """Return the version in S3's response, or None. S3 says "null" if the bucket's versioning is suspended."""
    version: str | None = response.get("VersionId")
    return None if version == "null" else version
