"""Examine an uploaded file: its type, its hash, whether it is a whole image, and what must change before it is sent."""

import hashlib
from dataclasses import dataclass

from posedrop.contract.container import BadImage
from posedrop.contract.contents import EMPTY, HEAD_BYTES, SENT, Content, Type, content_of
from posedrop.contract.images import IMAGE_LIMIT, PIXEL_LIMIT, UPLOAD_LIMIT, Change, ImageChecker


@dataclass(frozen=True)
class Examined:
    """What was found in a file. `digest` is its SHA-256 in hex, or None if the file was not read to its end.

    - problem: why a picture cannot be used, or None.
    - changes: what must be done to the picture before it is sent.
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
        """The type of the picture, or None if the file is not a picture."""
        return self.content.type


class Examiner:
    """Examines a file of `size` bytes that arrives in chunks. It needs the same memory for a file of any size."""

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
        """Whether to feed more bytes. The first ones are enough if the file is too large or is not a picture."""
        if self._content is None:
            return True
        return self._content.type is not None and self._size <= UPLOAD_LIMIT and self._read < self._size

    def feed(self, chunk: bytes) -> None:
        """Examine the next bytes."""
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
        """Return what is in the file. Call it once `wants_more` is false."""
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
    """Return why a valid picture is refused when `PrepareImages` is false, or None if it can be sent as it is."""
    if content_type not in SENT:
        return f"{content_type} cannot be sent as it is, and PrepareImages is false: save it as JPEG or PNG"
    if size > IMAGE_LIMIT:
        return f"the file has {size} bytes, more than {IMAGE_LIMIT}, and PrepareImages is false"
    if Change.REDUCED in changes:
        return "the image has more than 8192 pixels a side, and PrepareImages is false"
    return None
