"""Prepare one picture: read the upload, cut or decode, store what is sent.

Where nothing but metadata is to go it is cut out, and no pixel changes. Everything else is decoded in a process of its
own (decode.py), which has no credentials, little memory and little time: a hostile file ends that process and nothing
else.
"""

import hashlib
import json
import os
import subprocess  # nosec B404 # the decoder's process
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from posedrop.aws.errors import is_transient
from posedrop.aws.stored_uploads import UploadChanged, open_stored
from posedrop.contract.container import BadImage, Patch
from posedrop.contract.contents import SENT
from posedrop.contract.errors import InvalidInput, TransientFault
from posedrop.contract.images import UPLOAD_LIMIT, Change, ImageChecker, ImageInfo, check, cleaned
from posedrop.contract.prepared import CHANGES, REFUSED, SHA256, TYPES, Prepared, PrepareRequest, prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

CHUNK = 1024 * 1024
DECODE_SECONDS = 45.0
"""Seconds for the decoder, of the function's 60."""
MARGIN = 8.0
"""Seconds that are left to store what was made, and to answer."""
OWN_MEGABYTES = 250
"""Of the function's memory, for all but the decoder's data."""


class Preparer:
    """Prepares pictures into one bucket. `memory_megabytes` is the function's memory."""

    def __init__(self, s3: "S3Client", bucket: str, memory_megabytes: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._memory_megabytes = memory_megabytes

    def handle(self, event: dict[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
        """Prepare what the event asks for, and return the function's response: the picture, or why there is none.

        `remaining` gives the function's seconds left.
        """
        request = PrepareRequest.of(event)
        try:
            prepared = self.prepare(request, remaining)
        except (InvalidInput, UploadChanged, TransientFault) as exc:
            logger.warning("not prepared", error_type=type(exc).__name__, reason=str(exc))
            return {"error": {"type": type(exc).__name__, "message": str(exc)}}
        except Exception as exc:
            if not is_transient(exc):
                raise
            return {"error": {"type": TransientFault.__name__, "message": f"{type(exc).__name__}: {exc}"}}
        logger.info("prepared", key=prepared.key, changes=prepared.changes)
        return {"prepared": {**prepared.summary(), "etag": prepared.etag}}

    def prepare(self, request: PrepareRequest, remaining: Callable[[], float]) -> Prepared:
        """Prepare one picture. Raises InvalidInput, UploadChanged and TransientFault; other errors of S3 pass."""
        with tempfile.TemporaryDirectory() as directory:
            source, made = Path(directory, "upload"), Path(directory, "picture")
            info, patches = self._read(request, source)
            try:
                if info and set(info.changes) <= {Change.CLEANED}:
                    made.write_bytes(_cut(source.read_bytes(), patches))
                    return self._store(request, made, f".{info.extension}", [str(change) for change in info.changes])
                limit = min(DECODE_SECONDS, remaining() - MARGIN)
                found = _decode(request, info, source, made, limit, self._memory_megabytes - OWN_MEGABYTES)
            except BadImage as exc:
                self._store_refusal(request, str(exc))
                raise InvalidInput(str(exc)) from exc
            return self._store(request, made, found["ending"], found["changes"])

    def _read(self, request: PrepareRequest, target: Path) -> tuple[ImageInfo | None, list[Patch]]:
        """Read the upload into a file; of a picture that could be sent as it is, say what its container says."""
        digest, read = hashlib.sha256(), 0
        patches: list[Patch] = []
        checker = ImageChecker(patches) if request.content_type in SENT else None
        with open_stored(self._s3, request.to_dict()) as (body, size), target.open("wb") as file:
            if size > UPLOAD_LIMIT:
                raise InvalidInput(f"the file has {size} bytes, more than {UPLOAD_LIMIT}")
            while chunk := body.read(CHUNK):
                read += len(chunk)
                digest.update(chunk)
                file.write(chunk)
                if checker:
                    checker.feed(chunk)
        if read != size:
            raise TransientFault(f"{request.key}: the file ended early")
        if digest.hexdigest() != request.sha256:
            raise UploadChanged(request.key)
        return (checker.close() if checker else None), patches

    def _store(self, request: PrepareRequest, made: Path, ending: str, changes: list[str]) -> Prepared:
        data = made.read_bytes()
        key, sha256 = prefix(request.sha256) + ending, hashlib.sha256(data).hexdigest()
        metadata = {SHA256: sha256, CHANGES: " ".join(changes)}
        response = self._s3.put_object(
            Bucket=self._bucket, Key=key, Body=data, ContentType=TYPES[ending], Metadata=metadata
        )
        return Prepared(self._bucket, key, response["ETag"].strip('"'), sha256, tuple(changes))

    def _store_refusal(self, request: PrepareRequest, reason: str) -> None:
        """Leave a note beside the pictures, so that a face of a thousand poses is tried once."""
        body = json.dumps({"reason": reason}).encode()
        key = prefix(request.sha256) + REFUSED
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")


def _cut(data: bytes, patches: list[Patch]) -> bytes:
    clean = cleaned(data, patches)
    check(clean)
    return clean


def _decode(
    request: PrepareRequest, info: ImageInfo | None, source: Path, made: Path, seconds: float, megabytes: int
) -> dict[str, Any]:
    """Let a process of its own decode, turn, convert and reduce a picture. Raises BadImage and InvalidInput."""
    asked = {
        "source": str(source),
        "target": str(made),
        "content_type": request.content_type,
        "orientation": info.orientation if info else 0,
        "changes": list(info.changes) if info else [],
        "megabytes": megabytes,
    }
    # Nothing of the function's environment: it holds the credentials.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # nosec B603 # no shell, and no word of it from outside
            [sys.executable, "-m", "posedrop.prepare.decode"],
            input=json.dumps(asked).encode(),
            capture_output=True,
            env=environment,
            timeout=max(1.0, seconds),
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        # No note is left of it: another run may have more time.
        raise InvalidInput(f"decoding the picture takes more than {seconds:.0f} s") from exc
    if done.returncode:
        logger.warning("the decoder ended", code=done.returncode, said=done.stderr[-2000:].decode(errors="replace"))
        raise BadImage(f"the picture cannot be decoded within {megabytes} MB, or it breaks the decoder")
    found: dict[str, Any] = json.loads(done.stdout)
    if "problem" in found:
        raise BadImage(found["problem"])
    return found
