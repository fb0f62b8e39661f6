"""Jobs and their ids. A job id is made from the job's content, so the same content is the same job."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from posedrop.contract.upload_layout import slug

SLUG_LIMIT = 56
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,56}-[0-9a-f]{16}")
_WAITING = "waiting/"


@dataclass(frozen=True)
class Input:
    """One image file as it was read. `content_type` is None if it is not an image, `sha256` if it is too large to read.

    changes: what must be done to the image before it is sent (posedrop.contract.images.Change).
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int
    sha256: str | None
    content_type: str | None
    changes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the input as the ledger and the notification hold it."""
        return {
            "bucket": self.bucket,
            "key": self.key,
            "version_id": self.version_id,
            "sha256": self.sha256,
            "etag": self.etag,
            "bytes": self.size,
            "content_type": self.content_type,
            "changes": list(self.changes),
            "prepared": None,
        }


@dataclass(frozen=True)
class Job:
    """One job: a face and a pose in a bucket, and the parameters of the model."""

    job_id: str
    bucket: str
    character: str
    pose: str
    inputs: dict[str, Input]
    parameters: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None


def job_id(bucket: str, character: str, pose: str, content: object) -> str:
    """Return the id of a job: a readable slug, and 16 hex digits of the hash of its content.

    `content` is any JSON value. It must hold everything that makes a different job when it changes.
    """
    identity = json.dumps([bucket, character, pose, content], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"{slug(f'{character}-{pose}', SLUG_LIMIT)}-{digest}"


def output_folder(character: str, pose: str, job_id: str, attempt: int) -> str:
    """Return the key prefix of an attempt's outputs in the output bucket, without a trailing slash."""
    return f"outputs/{character}/{pose}/{job_id}/{attempt}"


def waiting_id(character: str, pose: str) -> str:
    """Return the ledger's key for uploads that are not a job yet."""
    return f"{_WAITING}{character}/{pose}"


def is_waiting_id(job_id: str) -> bool:
    """Return whether this is the ledger's key for uploads that are not a job yet, and not the id of a job."""
    return job_id.startswith(_WAITING)
