"""Local files, which are read once and known by their content."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO

from posedrop.contract.contents import HEAD_BYTES, content_of
from posedrop.contract.examine import Examined, Examiner
from posedrop.contract.images import UPLOAD_LIMIT

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class LocalFile:
    """A local file with the SHA-256 of its bytes, in hex."""

    sha256: str
    size: int
    path: Path
    head: bytes
    found: Examined

    @cached_property
    def md5(self) -> str:
        """Return the MD5 of its bytes in hex, which equals S3's ETag after an upload in one part.

        Reads the file again at the first use. Few files need it: only those whose key is in the bucket already.
        """
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()

    def read(self, limit: int = UPLOAD_LIMIT) -> bytes:
        """Return the first `limit` bytes."""
        with self.open() as file:
            return file.read(limit)

    def open(self) -> IO[bytes]:
        """Open the file, to read it in pieces."""
        return self.path.open("rb")

    def examined(self, key: str) -> Examined:
        """Return the file's format. Only the extension in `key` distinguishes a camera's RAW from a TIFF."""
        return replace(self.found, key=key, content=content_of(self.head, key))


class FileExaminer:
    """Examines a file of `size` bytes while its bytes arrive, so that nothing is read twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._head = b""
        self._examiner = Examiner("", size)

    def feed(self, chunk: bytes) -> None:
        """Examine the next bytes."""
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        self._examiner.feed(chunk)

    def close(self, path: Path) -> LocalFile:
        """Return the file, which lies at `path`. Raises OSError if fewer or more bytes were fed."""
        found = self._examiner.close(version_id=None, etag="", metadata={})
        if found.digest is None:
            raise OSError(f"{path} changed while it was read")
        return LocalFile(found.digest, self._size, path, self._head, found)


def examine(path: Path) -> LocalFile:
    """Read a file once, in pieces, and return it with its hash. Errors pass as OSError."""
    with path.open("rb") as file:
        examiner = FileExaminer(os.fstat(file.fileno()).st_size)
        while chunk := file.read(CHUNK):
            examiner.feed(chunk)
    return examiner.close(path)
