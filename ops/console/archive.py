"""The results of jobs as one ZIP file, made while it is sent: memory does not grow with it."""

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
"""Characters of a name in the file."""
LIST, MISSING = "jobs.json", "missing.txt"


class _Pipe:
    """Takes what is written, until it is taken away. It cannot be sought: so the sizes stand behind each file."""

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
        """Nothing is kept back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def archive(stack: Stack, records: Iterable[AnyRecord]) -> Iterator[bytes]:
    """Yield a ZIP of the images that some jobs have made, in folders by character, with a list of the jobs.

    What cannot be read is named in `missing.txt`. Errors of AWS other than that pass as botocore's.
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
                    answer = stack.client("s3").get_object(Bucket=output["bucket"], Key=output["key"])
                except ClientError as exc:
                    if exc.response["Error"]["Code"] not in GONE:
                        raise
                    missing.append(f"{name}: {output['key']} does not exist any more")
                    continue
                files.append(name)
                entry = zipfile.ZipInfo(name, _date(record))
                entry.file_size = answer["ContentLength"]
                with answer["Body"] as body, target.open(entry, "w") as file:
                    while chunk := body.read(CHUNK):
                        file.write(chunk)
                        yield pipe.take()
            listed.append({"job_id": record.job_id, "files": files, "parameters": record.parameters})
        target.writestr(LIST, json.dumps(listed, ensure_ascii=False, indent=1))
        if missing:
            target.writestr(MISSING, "\n".join(missing) + "\n")
    yield pipe.take()


def _name(record: Record, number: int, key: str, taken: set[str]) -> str:
    """A name of its own in the ZIP that every system takes: character, pose and, where needed, more."""
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
