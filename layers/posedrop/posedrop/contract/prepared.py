"""What `submit` and `prepare` agree on: where prepared pictures lie, what is asked for, what the response says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from posedrop.contract.contents import Type
from posedrop.contract.images import EXTENSIONS

RECIPE = "1"
"""Part of the keys. Another number makes every picture again: raise it when the same upload gives another picture."""
PREFIX = "prepared/"
TYPES = {f".{extension}": f"image/{kind}" for kind, extension in EXTENSIONS.items()}
REFUSED = ".json"
"""The ending of a note that a picture cannot be prepared, which holds the reason."""
DAY = 86400.0
LIFETIME = 29 * DAY
"""Seconds after which a prepared picture is made again. The bucket removes it after 30 days (template.yaml)."""
SHA256, CHANGES = "sha256", "changes"
"""The metadata of a prepared picture: the hash of its bytes, and what was done to it."""


def prefix(sha256: str) -> str:
    """Return the prefix of the keys of what was made of an upload with this hash."""
    return f"{PREFIX}{RECIPE}/{sha256}"


@dataclass(frozen=True)
class PrepareRequest:
    """An upload that is to be prepared, as the ledger has it."""

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
        """The request as the function's event."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """A prepared picture. `etag` is the object's, without quotes; `changes` say what was done (images.Change)."""

    bucket: str
    key: str
    etag: str
    sha256: str
    changes: tuple[str, ...]

    @property
    def content_type(self) -> str:
        """The type, as its key says."""
        return TYPES[self.key[self.key.rindex(".") :]]

    def summary(self) -> dict[str, Any]:
        """What the ledger and the notification say of it."""
        return {"key": self.key, "sha256": self.sha256, "what": list(self.changes)}

    def stored(self) -> dict[str, Any]:
        """Where it lies, as the ledger says it of an input."""
        return {
            "bucket": self.bucket,
            "key": self.key,
            "version_id": None,
            "etag": self.etag,
            "content_type": self.content_type,
        }
