"""Find and delete a character's objects: all versions of its uploads and outputs, and pictures prepared from them."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ops.errors import OpsError
from posedrop.contract.job import JOB_ID, SLUG_LIMIT
from posedrop.contract.prepared import PREFIX as PREPARED_PREFIX
from posedrop.contract.upload_layout import is_poses_folder, normal, slug

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BATCH = 1000
"""Objects in one S3 call (API reference, DeleteObjects)."""
CHUNK = 1024 * 1024
RESULT = "result.json"
OUTPUTS, PREPARED = "outputs/", PREPARED_PREFIX


@dataclass(frozen=True)
class Version:
    """One version of an object, or (`marker`) a delete marker. Without versioning an object has one version, "null"."""

    key: str
    version_id: str
    marker: bool = False


# ---- uploads ---------------------------------------------------------------------------------------------------------


def upload_versions(s3: "S3Client", bucket: str, root: str, character: str) -> Iterator[Version]:
    """Yield all versions of everything in a character's folder, but not of characters below it.

    `root` is the prefix of all uploads.
    """
    for folder in _folders(s3, bucket, root, character):
        yield from _in_folder(s3, bucket, folder)


def _in_folder(s3: "S3Client", bucket: str, folder: str) -> Iterator[Version]:
    below: list[str] = []
    for found, folders in _pages(s3, bucket, folder, "/"):
        yield from found
        below += [other for other in folders if _is_part(other[len(folder) :].rstrip("/"))]
    for other in below:
        if is_poses_folder(other[len(folder) :].rstrip("/")):
            for found, _ in _pages(s3, bucket, other):  # no character can be below it
                yield from found
        else:
            yield from _in_folder(s3, bucket, other)


def _is_part(name: str) -> bool:
    """Return whether a subfolder is the character's own: the poses, and segments that cannot be a character."""
    return name in ("", ".") or is_poses_folder(name)


def _folders(s3: "S3Client", bucket: str, root: str, character: str) -> list[str]:
    """Return the prefixes of a character's folder, one for each spelling, including deleted ones."""
    found = [root]
    for segment in character.split("/"):
        found = [below for folder in found for below in _spelled(s3, bucket, folder, segment)]
    return found


def _spelled(s3: "S3Client", bucket: str, folder: str, segment: str) -> list[str]:
    if segment.isascii():
        return [f"{folder}{segment}/"]
    # Each letter may be in NFC or NFD, so compare all names that begin with the same ASCII letters.
    plain = unicodedata.normalize("NFD", segment)
    same = next(number for number, letter in enumerate(plain) if not letter.isascii())
    start = plain[: max(0, same - 1)]  # a mark may be combined with the letter before it
    names = (other for _, folders in _pages(s3, bucket, f"{folder}{start}", "/") for other in folders)
    return [other for other in names if normal(other[len(folder) :]) == f"{segment}/"]


def abort_uploads(s3: "S3Client", bucket: str, root: str, character: str) -> int:
    """Abort the unfinished multipart uploads to a character's folder; return how many there were."""
    aborted = 0
    for folder in _folders(s3, bucket, root, character):
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=folder):
            for upload in page.get("Uploads", []):
                *between, _ = upload["Key"][len(folder) :].split("/")
                if all(_is_part(name) for name in between[:1]):
                    s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    aborted += 1
    return aborted


def has_others(s3: "S3Client", upload_bucket: str, root: str, output_bucket: str, client: str) -> bool:
    """Return whether a client still has uploads or outputs, after one of its characters was removed."""
    places = [(upload_bucket, folder) for folder in _folders(s3, upload_bucket, root, client)]
    for bucket, prefix in (*places, (output_bucket, f"{OUTPUTS}{client}/")):
        if s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"):
            return True
    return False


def digest(s3: "S3Client", bucket: str, version: Version) -> str | None:
    """Read a version and return its SHA-256, or None if it cannot be read (archived, forbidden, gone)."""
    found = hashlib.sha256()
    try:
        body = s3.get_object(Bucket=bucket, Key=version.key, VersionId=version.version_id)["Body"]
    except ClientError:
        return None
    with body:
        while chunk := body.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


# ---- outputs ---------------------------------------------------------------------------------------------------------


def output_versions(s3: "S3Client", bucket: str, character: str) -> Iterator[tuple[str, Version]]:
    """Yield all versions of a character's outputs, each with its job id."""
    prefix = f"{OUTPUTS}{character}/"
    for found, _ in _pages(s3, bucket, prefix):
        for version in found:
            if job_id := _job_of(version.key[len(prefix) :], character):
                yield job_id, version


def _job_of(rest: str, character: str) -> str | None:
    """Return the job id in an output's key `<pose>/<job id>/<attempt>/<file>`. Pure.

    None for the outputs of other characters, which are one level deeper.
    """
    pose, _, behind = rest.partition("/")
    job_id, slash, _ = behind.partition("/")
    own = JOB_ID.fullmatch(job_id) and job_id.rpartition("-")[0] == slug(f"{character}-{pose}", SLUG_LIMIT)
    return job_id if own and slash else None


def hashes_of_result(s3: "S3Client", bucket: str, version: Version) -> set[str]:
    """Return the hashes of the uploads that a result.json names; empty if the object is no such file."""
    try:
        response = s3.get_object(Bucket=bucket, Key=version.key, VersionId=version.version_id)
        inputs = json.loads(response["Body"].read())["inputs"]
        return {str(found["sha256"]) for found in inputs.values() if found and found["sha256"]}
    except (ClientError, ValueError, KeyError, TypeError, AttributeError):
        return set()


# ---- prepared images -------------------------------------------------------------------------------------------------


def prepared_versions(s3: "S3Client", bucket: str, hashes: Iterable[str]) -> Iterator[Version]:
    """Yield all versions of the pictures prepared from uploads with these hashes, by any recipe."""
    recipes = [recipe for _, folders in _pages(s3, bucket, PREPARED, "/") for recipe in folders]
    for sha256 in hashes:
        for recipe in recipes:
            for found, _ in _pages(s3, bucket, f"{recipe}{sha256}"):
                yield from found


# ---- all of them -----------------------------------------------------------------------------------------------------


def delete(
    s3: "S3Client", bucket: str, versions: Iterable[Version], done: Callable[[Sequence[Version]], object]
) -> None:
    """Delete versions, and call `done` with each batch that was deleted.

    Raises OpsError if S3 refused to delete some, after all others were deleted; other errors pass as botocore's.
    """
    left = iter(versions)
    refused: list[Any] = []
    while batch := list(islice(left, BATCH)):
        wanted: Any = {"Objects": [{"Key": one.key, "VersionId": one.version_id} for one in batch], "Quiet": True}
        errors = s3.delete_objects(Bucket=bucket, Delete=wanted).get("Errors", [])
        kept = {(error.get("Key"), error.get("VersionId")) for error in errors}
        refused += errors[:1]
        done([one for one in batch if (one.key, one.version_id) not in kept])
    if refused:
        why = f"{refused[0].get('Code')}: {refused[0].get('Message')}"
        raise OpsError(f"S3 refused to delete some objects of {bucket} ({why}): fix that, and run it again")


def _pages(s3: "S3Client", bucket: str, prefix: str, delimiter: str = "") -> Iterator[tuple[list[Version], list[str]]]:
    """Yield the versions whose keys begin with a prefix, and with a delimiter the prefixes of folders, page by page."""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
    for page in s3.get_paginator("list_object_versions").paginate(**request):
        found = [Version(entry["Key"], entry["VersionId"]) for entry in page.get("Versions", [])]
        found += [Version(entry["Key"], entry["VersionId"], marker=True) for entry in page.get("DeleteMarkers", [])]
        yield found, [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
