"""Upload files to S3: several at a time, resumed after a failure, with progress reports."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from boto3.s3.transfer import TransferConfig

from ops.act.uploading import content_type
from ops.errors import is_temporary, sentence
from ops.inspect.plan import File
from ops.stack import Stack
from posedrop.contract.contents import HEAD_BYTES
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.upload_layout import FileKind, UploadLayout

SENDERS = 6
"""Files that are sent at the same time."""
REPORT_SECONDS = 0.25
"""Seconds between two reports on the progress of an upload."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)
"""Seconds before a file is sent again after S3 could not be reached. After the last one, the upload stops."""
WHOLE = TransferConfig(multipart_threshold=UPLOAD_LIMIT + 1, use_threads=False)
"""Each file is sent in one part. Then its ETag in S3 is its MD5, so a later plan sees that it is already there."""

Report = Callable[[dict[str, Any]], None]


@dataclass
class Upload:
    """Files that are being uploaded, by their keys. `uploaded`: the finished keys. `errors`: why other keys failed."""

    files: Mapping[str, File]
    hashes: list[str]
    layout: UploadLayout
    upload_id: str = field(default_factory=lambda: uuid4().hex[:12])
    uploaded: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    state: str = "running"
    note: str = ""

    def standing(self) -> dict[str, Any]:
        """Return the progress as the page shows it."""
        return {
            "upload": self.upload_id,
            "files": len(self.files),
            "done": len(self.uploaded),
            "bytes": sum(file.size for file in self.files.values()),
            "sent": sum(self.sent.values()),
            "state": self.state,
            "note": self.note,
            "keys": [key for key in self.files if key not in self.uploaded][:5],
            "errors": [{"file": self.layout.below(key), "error": error} for key, error in list(self.errors.items())],
        }


class Sender:
    """Sends uploads to one stack's bucket. `report` is called from several threads."""

    def __init__(self, stack: Stack, report: Report) -> None:
        self._stack = stack
        self._report = report
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Send no further files."""
        self._stopping.set()

    def send(self, upload: Upload) -> None:
        """Send the files that are not sent yet, and wait for them. After a failure, no further file is begun."""
        upload.state, upload.note = "running", ""
        upload.errors.clear()
        upload.sent = {key: file.size if key in upload.uploaded else 0 for key, file in upload.files.items()}
        progress = _Progress(upload, self._report)
        progress.report()
        # Job files and faces are sent before all poses, so that a pose finds what it needs.
        for group in _groups(upload):
            with ThreadPoolExecutor(SENDERS, "upload") as pool:
                list(pool.map(lambda key: self._send(upload, key, progress), group))
        upload.state = "stopped" if upload.errors else "done"
        progress.report()

    def _send(self, upload: Upload, key: str, progress: "_Progress") -> None:
        for pause in (*PAUSES, None):
            if upload.errors or self._stopping.is_set():
                return
            upload.sent[key] = 0
            try:
                self._put(key, upload.files[key], progress)
            except Exception as exc:  # noqa: BLE001 - the page must be informed of any error
                upload.sent[key] = 0
                if pause is None or not is_temporary(exc):
                    upload.errors[key] = sentence(exc)
                    return
                upload.note = f"{sentence(exc)} The upload continues by itself."
                progress.report()
                self._stopping.wait(pause)
            else:
                upload.note = ""
                upload.sent[key] = upload.files[key].size
                upload.uploaded.add(key)
                progress.add(key, 0)
                return

    def _put(self, key: str, file: File, progress: "_Progress") -> None:
        """Send one file in pieces, because six whole files at a time would need too much memory."""
        with file.open() as body:
            kind = content_type(key, body.read(HEAD_BYTES))
            body.seek(0)
            self._stack.client("s3").upload_fileobj(
                body,
                self._stack.uploads.name,
                key,
                ExtraArgs={"ContentType": kind},
                Callback=lambda count: progress.add(key, count),
                Config=WHOLE,
            )


def _groups(upload: Upload) -> list[list[str]]:
    """Return the keys that are not sent yet, in groups by order: shared files first, then the poses."""
    keys = [key for key in upload.files if key not in upload.uploaded]
    last = [key for key in keys if upload.layout.parse(key).kind is FileKind.POSE]
    first = [key for key in keys if key not in set(last)]
    return [first, last]


class _Progress:
    """Publishes the progress of an upload from time to time."""

    def __init__(self, upload: Upload, report: Report) -> None:
        self._upload, self._report = upload, report
        self._lock = threading.Lock()
        self._last = 0.0

    def add(self, key: str, count: int) -> None:
        """Add sent bytes of a file."""
        with self._lock:
            most = self._upload.files[key].size
            self._upload.sent[key] = min(most, self._upload.sent.get(key, 0) + count)
            if time.monotonic() - self._last < REPORT_SECONDS:
                return
            self._last = time.monotonic()
            standing = self._upload.standing()
        self._report(standing)

    def report(self) -> None:
        """Publish the progress now."""
        with self._lock:
            standing = self._upload.standing()
        self._report(standing)
