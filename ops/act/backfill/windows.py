"""Read a bucket's listing in windows of a bounded size that part no pose's files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from posedrop.aws.upload_bucket import Listed
from posedrop.contract.upload_layout import split_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WINDOW = 10_000
"""Keys that are in memory at a time, about; a character's jobs are read once for each window with files of it."""


def pages(s3: "S3Client", bucket: str, prefix: str, delimiter: str = "") -> Iterator[tuple[list[Listed], list[str]]]:
    """List the files whose keys begin with a prefix, page by page.

    With a delimiter: those in that folder itself, and beside them the prefixes of the folders in it. Errors of S3 pass
    as botocore's ClientError.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
    for page in s3.get_paginator("list_objects_v2").paginate(**request):
        files = [
            Listed(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])
            for entry in page.get("Contents", [])
        ]
        yield files, [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def windows(found: Iterable[Sequence[Listed]], size: int = WINDOW) -> Iterator[list[Listed]]:
    """Put the pages of a listing, which is in the order of its keys, together to windows of about `size` files. Pure.

    `walk` and `walk.json` are files of one pose, and a page may end between them: what may go on is left to the next
    window.
    """
    window: list[Listed] = []
    for page in found:
        window += page
        if len(window) >= size:
            held = _may_go_on(window)
            done, window = [entry for entry in window if entry not in held], [*filter(held.__contains__, window)]
            yield done
            del done  # whoever read it has done with it
    if window:
        yield window


def _may_go_on(window: Sequence[Listed]) -> set[Listed]:
    """The files behind whose keys, and behind the last one, another file of the same stem may come.

    Its key is the stem, a dot and an ending; so it comes later only where the last key begins with the stem.
    """
    folder, slash, last = window[-1].key.rpartition("/")
    beside = (entry for entry in window if entry.key.rpartition("/")[0] == folder)
    return {entry for entry in beside if last.startswith(split_name(entry.key[len(folder + slash) :])[0])}
