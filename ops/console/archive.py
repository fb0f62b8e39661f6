"""The results of jobs as one ZIP file. It is streamed, so memory does not grow with its size."""

import json
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from ops.stack import Stack
from posedrop.aws.record import AnyRecord, Record, Status
from posedrop.aws.stored_uploads import GONE
from posedrop.contract.upload_layout import slug

CHUNK = 1024 * 1024
NAME = 80
"""The most characters of each part of a file name."""
LIST, MISSING = "jobs.json", "missing.txt"


class _Pipe:
    """Buffers written bytes until `take` returns them. It cannot seek, so `zipfile` writes each size after its file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Do nothing: there is no other buffer."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def take(self) -> bytes:
        """Return the bytes that were written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def archive(stack: Stack, records: Iterable[AnyRecord]) -> Iterator[bytes]:
    """Yield the bytes of a ZIP file with the jobs' images, in a folder for each character, and a list of the jobs.

    Images that no longer exist are listed in `missing.txt`. Raises botocore's ClientError for other errors of S3.
    """
    pipe = _Pipe()
    listed: list[dict[str, object]] = []
    missing: list[str] = []
    taken: set[str] = set()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as target:
        for record in records:
            if record.status is not Status.SUCCEEDED:
                continue
            files = []
            for number, output in enumerate(record.outputs, 1):
                name = _name(record, number, str(output["key"]), taken)
                try:
                    response = stack.client("s3").get_object(Bucket=output["bucket"], Key=output["key"])
                except ClientError as exc:
                    if exc.response["Error"]["Code"] not in GONE:
                        raise
                    missing.append(f"{name}: {output['key']} does not exist any more")
                    continue
                files.append(name)
                entry = zipfile.ZipInfo(name, _date(record))
                entry.file_size = response["ContentLength"]
                with response["Body"] as body, target.open(entry, "w") as file:
                    while chunk := body.read(CHUNK):
                        file.write(chunk)
                        yield pipe.take()
            listed.append({"job_id": record.job_id, "files": files, "parameters": record.parameters})
        target.writestr(LIST, json.dumps(listed, ensure_ascii=False, indent=1))
        if missing:
            target.writestr(MISSING, "\n".join(missing) + "\n")
    yield pipe.take()


def _name(record: Record, number: int, key: str, taken: set[str]) -> str:
    """Return a unique, portable file name: character, pose and, if needed, a number and part of the job id."""
    folders = [slug(part, NAME) for part in record.character.split("/")]
    ending = key.rpartition(".")[2]
    stem = slug(record.pose, NAME) + (f"-{number}" if len(record.outputs) > 1 else "")
    name = "/".join([*folders, f"{stem}.{ending}"])
    if name in taken:
        name = "/".join([*folders, f"{stem}-{record.job_id[-16:]}.{ending}"])
    taken.add(name)
    return name


def _date(record: Record) -> tuple[int, int, int, int, int, int]:
    at = datetime.fromtimestamp(record.completed_at or record.updated_at, UTC)
    return at.year, at.month, at.day, at.hour, at.minute, at.second
