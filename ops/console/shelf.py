"""What the page dropped, kept until it is uploaded: so that each file comes once, however often it is planned."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.console.sending import Drop, Named, lay_out
from ops.errors import OpsError, Refused

SHELF_BYTES = 1024 * 1024 * 1024
DROP_FILES = 500


@dataclass(frozen=True)
class _File:
    """A file as the page describes it. Without a hash it was too large to be sent here."""

    file: str
    pose: str = ""
    sha256: str = ""


class Lost(OpsError):
    """Files of a drop are not kept any more: the page has to send them again."""

    def __init__(self, hashes: list[str]) -> None:
        super().__init__("the dropped files are not kept any more: drop them again")
        self.hashes = hashes


class Shelf:
    """Files by the SHA-256 of their bytes, in memory; where they grow too many, the oldest go."""

    def __init__(self, limit: int = SHELF_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep a file, and return its hash."""
        name = hashlib.sha256(data).hexdigest()
        with self._lock:
            if name not in self._files:
                self._files[name] = data
                self._bytes += len(data)
            self._files.move_to_end(name)
            while self._bytes > self._limit and len(self._files) > 1:
                self._bytes -= len(self._files.popitem(last=False)[1])
        return name

    def drop(self, body: Mapping[str, Any]) -> Drop:
        """What is asked for, its files by their hashes. Raises Lost and Refused."""
        files = _files(body)
        with self._lock:
            kept = {file.sha256: self._files.get(file.sha256) for file in files if file.sha256}
        lost = [name for name, data in kept.items() if data is None]
        if lost:
            raise Lost(lost)
        named = [Named(file.file, kept.get(file.sha256), file.pose) for file in files]
        parameters = body.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise Refused("the parameters are no JSON object")
        face = named[0] if body.get("face") else None
        return lay_out(str(body.get("character") or "").strip(), face, named[1:] if face else named, parameters)

    def clear(self, body: Mapping[str, Any]) -> None:
        """Let the files go that are asked for."""
        with self._lock:
            for file in _files(body):
                self._bytes -= len(self._files.pop(file.sha256, b""))


def _files(body: Mapping[str, Any]) -> list[_File]:
    """How the page describes its files, the face first. Raises Refused."""
    face, poses = body.get("face"), body.get("poses") or []
    told = [*([face] if face else []), *(poses if isinstance(poses, list) else [poses])]
    if len(told) > DROP_FILES:
        raise Refused(f"drop at most {DROP_FILES} files at once")
    try:
        files = [_File(**file) for file in told]
    except TypeError:
        files = [_File("")]
    if not all(file.file and all(isinstance(value, str) for value in vars(file).values()) for file in files):
        raise Refused("each file is described by its name, the pose's name and its hash")
    return files
