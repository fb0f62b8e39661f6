"""Local files, which are read once and known by their content."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from posedrop.contract.contents import HEAD_BYTES, content_of
from posedrop.contract.examine import Examined, Examiner
from posedrop.contract.images import UPLOAD_LIMIT

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class LocalFile:
    """A local file with its hashes. `md5` equals S3's ETag after an upload in one part."""

    sha256: str
    md5: str
    size: int
    path: Path
    head: bytes
    found: Examined

    def read(self, limit: int = UPLOAD_LIMIT) -> bytes:
        """Return the first `limit` bytes."""
        with self.open() as file:
            return file.read(limit)

    def open(self) -> IO[bytes]:
        """Open the file, to read it in pieces."""
        return self.path.open("rb")

    def examined(self, key: str) -> Examined:
        """Return the file's format. Only the extension in `key` distinguishes a camera's RAW from a TIFF."""
        return replace(self.found, key=key, etag=self.md5, content=content_of(self.head, key))


def examine(path: Path) -> LocalFile:
    """Read a file once, in pieces, and return it with its hashes. Errors pass as OSError."""
    size = path.stat().st_size
    examiner, md5, head = Examiner("", size), hashlib.md5(usedforsecurity=False), b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            head = head or chunk[:HEAD_BYTES]
            md5.update(chunk)
            if examiner.wants_more:
                examiner.feed(chunk)
        found = examiner.close(version_id=None, etag="", metadata={})
        if not (sha256 := found.digest):
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return LocalFile(sha256, md5.hexdigest(), size, path, head, found)
