"""What is in an uploaded image: its type, its hash, whether it is whole, and what must be done before it is sent."""

import hashlib
from dataclasses import dataclass

from posedrop.contents import EMPTY, HEAD_BYTES, SENT, Content, Type, content_of
from posedrop.images import IMAGE_LIMIT, PIXEL_LIMIT, UPLOAD_LIMIT, BadImage, Change, ImageChecker


@dataclass(frozen=True)
class Examined:
    """A file that was examined. `digest` is its SHA-256 in hex, None if it was not read to its end.

    problem: what is wrong with a picture, or None. changes: what must be done before it is sent.
    """

    key: str
    version_id: str | None
    etag: str
    size: int
    metadata: dict[str, str]
    content: Content
    digest: str | None
    problem: str | None
    changes: tuple[Change, ...]

    @property
    def type(self) -> Type | None:
        """The type of the picture, None of what is none."""
        return self.content.type


class Examiner:
    """Examines a file of a size (bytes) that comes in chunks. Memory does not grow with it."""

    def __init__(self, key: str, size: int) -> None:
        self._key = key
        self._size = size
        self._head = b""
        self._read = 0
        self._content: Content | None = EMPTY if size == 0 else None
        self._digest = hashlib.sha256()
        self._checker = ImageChecker()
        self._problem: str | None = None
        if size > UPLOAD_LIMIT:
            self._problem = f"the file has {size} bytes, more than {UPLOAD_LIMIT}"

    @property
    def wants_more(self) -> bool:
        """Whether the next bytes matter. Of what is no picture, and of what is too large, the first ones are enough."""
        if self._content is None:
            return True
        return self._content.type is not None and self._size <= UPLOAD_LIMIT and self._read < self._size

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._read += len(chunk)
        self._digest.update(chunk)
        if self._content is None:
            self._head += chunk
            if len(self._head) < min(HEAD_BYTES, self._size):
                return
            self._content = content_of(self._head[:HEAD_BYTES], self._key)
            chunk, self._head = self._head, b""
        if self._content.type in SENT and self._problem is None:
            try:
                self._checker.feed(chunk)
            except BadImage as exc:
                self._problem = str(exc)

    def close(self, *, version_id: str | None, etag: str, metadata: dict[str, str]) -> Examined:
        """Say what is in the file, once it wants no more."""
        content = self._content or EMPTY
        changes: tuple[Change, ...] = ()
        if content.type in SENT and self._problem is None:
            changes = self._changes()
        elif content.type:
            changes = (Change.CONVERTED,)
        whole = self._read == self._size
        return Examined(
            key=self._key,
            version_id=version_id,
            etag=etag,
            size=self._size,
            metadata=metadata,
            content=content,
            digest=self._digest.hexdigest() if whole else None,
            problem=self._problem if content.type else None,
            changes=changes,
        )

    def _changes(self) -> tuple[Change, ...]:
        try:
            info = self._checker.close()
        except BadImage as exc:
            self._problem = str(exc)
            return ()
        if info.width * info.height > PIXEL_LIMIT:
            self._problem = (
                f"the image has {info.width} x {info.height} pixels, more than {PIXEL_LIMIT // 10**6} million"
            )
        return info.changes


def refusal(content_type: str | None, size: int, changes: tuple[str, ...]) -> str | None:
    """Why a sound picture is refused where none is prepared (`PrepareImages` is false), or None."""
    if content_type not in SENT:
        return f"{content_type} is not sent as it is, and PrepareImages is false: save it as JPEG or PNG"
    if size > IMAGE_LIMIT:
        return f"the file has {size} bytes, more than {IMAGE_LIMIT}, and PrepareImages is false"
    if Change.REDUCED in changes:
        return "the image has more than 8192 pixels a side, and PrepareImages is false"
    return None
