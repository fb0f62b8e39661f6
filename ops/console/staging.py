"""Files from the page, kept on disk until they are uploaded. Thus the page sends each file once, for all plans."""

import shutil
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
from anyio import to_thread

from ops.errors import OpsError
from ops.inspect.local_file import FileExaminer, LocalFile, examine
from posedrop.contract.images import UPLOAD_LIMIT

STAGED_BYTES = 20 * 1024**3
DISK_SHARE = 0.5
"""The share of the free disk space that staged files may take."""
BLOCK_BYTES = 1024 * 1024
"""The bytes of a file that are collected before a thread writes and examines them."""
SMALL_BYTES = 128 * 1024
"""After a piece with fewer bytes, the next piece is read a little later. Browsers send 16 KiB at a time, and handling
each piece alone costs more than hashing it."""
GATHER_SECONDS = 0.002
"""How long reading waits after a small piece."""


class Lost(OpsError):
    """Staged files were removed, so the page must send them again."""

    def __init__(self, hashes: list[str]) -> None:
        super().__init__("the console no longer has these files: choose them again")
        self.hashes = hashes


class TooLarge(OpsError):
    """A file is larger than an upload may be."""


class Staging:
    """Stores files by their SHA-256 in a temporary directory. Over the limit, the oldest files are removed.

    Files that are being uploaded are pinned, and are not removed.
    """

    def __init__(self, limit: int = STAGED_BYTES) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="posedrop-")
        self._root = Path(self._directory.name)
        self._limit = min(limit, int(shutil.disk_usage(self._root).free * DISK_SHARE))
        self._bytes = 0
        self._files: OrderedDict[str, LocalFile] = OrderedDict()
        self._pinned: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._writers = anyio.CapacityLimiter(3)

    def close(self) -> None:
        """Remove all files."""
        self._directory.cleanup()

    async def receive(self, chunks: AsyncIterator[bytes], size: int) -> LocalFile:
        """Store a file of `size` bytes, and return its description. It is written and examined as it arrives.

        The memory does not grow with the file. Raises TooLarge; OSError if the file has another size.
        """
        if size > UPLOAD_LIMIT:
            raise TooLarge(f"the file has more than {UPLOAD_LIMIT} bytes")
        with tempfile.NamedTemporaryFile(dir=self._root, delete=False) as file:
            path, examiner = Path(file.name), FileExaminer(size)

            def take(block: Sequence[bytes]) -> None:
                for chunk in block:
                    file.write(chunk)
                    examiner.feed(chunk)

            try:
                async for block in _blocks(chunks):
                    await to_thread.run_sync(take, block, limiter=self._writers)
                file.flush()
                return self._keep(examiner.close(path))
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def put(self, data: bytes) -> LocalFile:
        """Store a file that is in memory."""
        with tempfile.NamedTemporaryFile(dir=self._root, delete=False) as file:
            file.write(data)
        return self._keep(examine(Path(file.name)))

    def _keep(self, staged: LocalFile) -> LocalFile:
        """Store a file that is in the directory already."""
        kept = self._root / staged.sha256
        staged.path.replace(kept)
        with self._lock:
            if staged.sha256 not in self._files:
                self._bytes += staged.size
            self._files[staged.sha256] = found = replace(staged, path=kept)
            self._files.move_to_end(staged.sha256)
            for name in list(self._files)[:-1]:
                if self._bytes <= self._limit:
                    break
                if not self._pinned[name]:
                    self._remove(name)
        return found

    def get(self, hashes: Iterable[str]) -> dict[str, LocalFile]:
        """Return the files with these hashes. Raises Lost."""
        with self._lock:
            wanted = list(dict.fromkeys(hashes))
            lost = [name for name in wanted if name not in self._files]
            if lost:
                raise Lost(lost)
            return {name: self._files[name] for name in wanted}

    def pin(self, hashes: Iterable[str]) -> None:
        """Protect files from removal until they are released."""
        with self._lock:
            self._pinned.update(hashes)

    def release(self, hashes: Iterable[str]) -> None:
        """Remove pinned files, unless another upload has pinned them, too."""
        with self._lock:
            for name in hashes:
                self._pinned[name] -= 1
                if self._pinned[name] <= 0:
                    del self._pinned[name]
                    self._remove(name)

    def _remove(self, name: str) -> None:
        found = self._files.pop(name, None)
        if found:
            self._bytes -= found.size
            found.path.unlink(missing_ok=True)


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Gather the pieces of a body into blocks."""
    block: list[bytes] = []
    size = 0
    async for chunk in chunks:
        block.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
        elif len(chunk) < SMALL_BYTES:
            await anyio.sleep(GATHER_SECONDS)
    yield block
