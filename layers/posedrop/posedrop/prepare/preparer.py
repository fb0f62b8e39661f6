"""Prepare one picture: read the upload, clean or convert it, and store the picture that is sent.

If only metadata must be removed, it is cut out of the file, and no pixel changes. Otherwise the picture is decoded in a
separate process (decode.py) without credentials, and with little memory and time. A hostile file can only crash that
process.
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
from posedrop.aws.stored_uploads import open_stored
from posedrop.contract.container import BadImage, Patch
from posedrop.contract.contents import SENT
from posedrop.contract.errors import InvalidInput, TransientFault, UploadChanged
from posedrop.contract.images import UPLOAD_LIMIT, Change, ImageChecker, ImageInfo, check, cleaned
from posedrop.contract.prepared import CHANGES, REFUSED, SHA256, TYPES, Prepared, PrepareRequest, prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = Logger(child=True)

CHUNK = 1024 * 1024
DECODE_SECONDS = 45.0
"""The decoder's share of the function's 60 seconds."""
MARGIN = 8.0
"""Seconds that are reserved for storing the picture and returning."""
OWN_MEGABYTES = 250
"""The function's memory that the decoder may not use."""


class Preparer:
    """Prepares pictures into one bucket. `memory_megabytes` is the function's memory."""

    def __init__(self, s3: "S3Client", bucket: str, memory_megabytes: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._memory_megabytes = memory_megabytes

    def handle(self, event: dict[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
        """Prepare the event's picture. Return the function's response: the prepared picture, or the error.

        `remaining` returns the function's seconds left.
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
        """Prepare one picture. Raises InvalidInput, UploadChanged and TransientFault. Other errors of S3 pass."""
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
        """Read the upload into `target`. Return what its container says (PNG, JPEG and WebP only), and the patches."""
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
        """Store the reason in the bucket, so that a bad face with a thousand poses is decoded only once."""
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
    """Decode and convert a picture in a separate process. Raises BadImage and InvalidInput."""
    asked = {
        "source": str(source),
        "target": str(made),
        "content_type": request.content_type,
        "orientation": info.orientation if info else 0,
        "changes": list(info.changes) if info else [],
        "megabytes": megabytes,
    }
    # Do not pass on the function's environment: it has the credentials.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # nosec B603 # no shell, and no argument from outside
            [sys.executable, "-m", "posedrop.prepare.decode"],
            input=json.dumps(asked).encode(),
            capture_output=True,
            env=environment,
            timeout=max(1.0, seconds),
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        # The reason is not stored, because another run may have more time.
        raise InvalidInput(f"decoding the picture takes more than {seconds:.0f} s") from exc
    if done.returncode:
        logger.warning("the decoder failed", code=done.returncode, said=done.stderr[-2000:].decode(errors="replace"))
        raise BadImage(f"the picture cannot be decoded within {megabytes} MB, or it crashes the decoder")
    found: dict[str, Any] = json.loads(done.stdout)
    if "problem" in found:
        raise BadImage(found["problem"])
    return found
