"""What `submit` and `prepare` share: the keys of prepared pictures, the request and the response."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from posedrop.contract.contents import Type
from posedrop.contract.images import EXTENSIONS
from posedrop.contract.times import DAY

RECIPE = "1"
"""Part of the keys. Raise it when the same upload gives another picture: then all pictures are prepared again."""
PREFIX = "prepared/"
TYPES = {f".{extension}": f"image/{kind}" for kind, extension in EXTENSIONS.items()}
REFUSED = ".json"
"""The extension of an object that says why a picture cannot be prepared."""
LIFETIME = 29 * DAY
"""Seconds after which a picture is prepared again. The bucket deletes it after 30 days (template.yaml)."""
SHA256, CHANGES = "sha256", "changes"
"""The metadata of a prepared picture: its SHA-256, and what was done to it."""


def prefix(sha256: str) -> str:
    """Return the key prefix of everything that was prepared from an upload with this hash."""
    return f"{PREFIX}{RECIPE}/{sha256}"


@dataclass(frozen=True)
class PrepareRequest:
    """An upload that must be prepared, with the values of the ledger."""

    bucket: str
    key: str
    version_id: str | None
    etag: str
    sha256: str
    content_type: Type

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PrepareRequest":
        """Read a request from an event or from an input of the ledger. Raises KeyError and ValueError."""
        found = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**found, "content_type": Type(found["content_type"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the request as the function's event."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """A prepared picture. `etag` is the object's, without quotes. `changes` are what was done (images.Change)."""

    bucket: str
    key: str
    etag: str
    sha256: str
    changes: tuple[str, ...]

    @property
    def content_type(self) -> str:
        """The content type, by the extension of its key."""
        return TYPES[self.key[self.key.rindex(".") :]]

    def summary(self) -> dict[str, Any]:
        """Return the picture as the ledger and the notification show it."""
        return {"key": self.key, "sha256": self.sha256, "what": list(self.changes)}

    def stored(self) -> dict[str, Any]:
        """Return where the picture is stored, in the form of an input of the ledger."""
        return {
            "bucket": self.bucket,
            "key": self.key,
            "version_id": None,
            "etag": self.etag,
            "content_type": self.content_type,
        }
