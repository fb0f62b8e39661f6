"""Read a bucket's listing in windows of limited size that never separate the files of one pose."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from posedrop.aws.upload_bucket import Listed
from posedrop.contract.upload_layout import split_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WINDOW = 10_000
"""About how many keys are in memory at a time. A character's jobs are read once for each window with files of it."""


def pages(s3: "S3Client", bucket: str, prefix: str, delimiter: str = "") -> Iterator[tuple[list[Listed], list[str]]]:
    """Yield the files whose keys begin with a prefix, page by page.

    With a delimiter: the files in that folder itself, and the prefixes of its subfolders. Errors of S3 pass as
    botocore's ClientError.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
    for page in s3.get_paginator("list_objects_v2").paginate(**request):
        files = [
            Listed(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])
            for entry in page.get("Contents", [])
        ]
        yield files, [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def windows(found: Iterable[Sequence[Listed]], size: int = WINDOW) -> Iterator[list[Listed]]:
    """Yield the pages of a listing, which must be in the order of its keys, as windows of about `size` files. Pure.

    `walk` and `walk.json` are files of one pose, and a page may end between them. So files whose pose may continue are
    moved to the next window.
    """
    window: list[Listed] = []
    for page in found:
        window += page
        if len(window) >= size:
            kept = _may_continue(window)
            done, window = [entry for entry in window if entry not in kept], [*filter(kept.__contains__, window)]
            yield done
            del done  # the reader has finished with it
    if window:
        yield window


def _may_continue(window: Sequence[Listed]) -> set[Listed]:
    """Return the files of a window whose pose may have further files after the window's last key.

    The key of such a file is the stem, a dot and an ending. So it can follow only if the last key begins with the stem.
    """
    folder, slash, last = window[-1].key.rpartition("/")
    beside = (entry for entry in window if entry.key.rpartition("/")[0] == folder)
    return {entry for entry in beside if last.startswith(split_name(entry.key[len(folder + slash) :])[0])}
