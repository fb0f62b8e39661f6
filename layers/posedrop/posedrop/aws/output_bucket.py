"""Store outputs. An image is streamed from the provider to S3 and checked on the way. An invalid one is not stored."""

import hashlib
import io
import json
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, cast

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.contract.container import BadImage
from posedrop.contract.errors import DeliveryFailed, OutputInvalid
from posedrop.contract.images import EXTENSIONS, ImageChecker, ImageInfo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART = 8 * 1024 * 1024
# One part at a time, so the memory does not grow with the image.
_TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)


class OutputBucket:
    """The bucket for the outputs of jobs. Raises DeliveryFailed if storing fails."""

    def __init__(self, s3: "S3Client", name: str) -> None:
        self._s3 = s3
        self._name = name

    def store_image(self, folder: str, number: int, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Store one image as `folder`/`number`.<ext>, and return its entry for the notification.

        Raises OutputInvalid if it is not an image, DeliveryFailed if it ends too early. Then nothing is stored.
        """
        image = CheckedImage(chunks)
        extension, content_type = image.kind()
        key = f"{folder}/{number}.{extension}"
        try:
            self._s3.upload_fileobj(
                cast(IO[bytes], image), self._name, key, ExtraArgs={"ContentType": content_type}, Config=_TRANSFER
            )
        except (ClientError, BotoCoreError, Boto3Error) as exc:
            raise DeliveryFailed(f"the output cannot be stored: {exc}") from exc
        info = image.info()
        return {
            "bucket": self._name,
            "key": key,
            "uri": f"s3://{self._name}/{key}",
            "url": None,
            "content_type": info.content_type,
            "bytes": info.bytes,
            "sha256": image.sha256(),
            "width": info.width,
            "height": info.height,
        }

    def link(self, key: str, seconds: float) -> str:
        """Return a presigned URL for an image. It expires after `seconds`, or earlier with the signing session."""
        return self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": self._name, "Key": key}, ExpiresIn=int(seconds)
        )

    def store_result(self, folder: str, result: dict[str, Any]) -> None:
        """Store `folder`/result.json."""
        try:
            self._s3.put_object(
                Bucket=self._name,
                Key=f"{folder}/result.json",
                Body=json.dumps(result, ensure_ascii=False, indent=1).encode(),
                ContentType="application/json",
            )
        except (ClientError, BotoCoreError) as exc:
            raise DeliveryFailed(f"result.json cannot be stored: {exc}") from exc


class CheckedImage(io.RawIOBase):
    """A readable file over the chunks of an image.

    Reading raises OutputInvalid if they are not an image, DeliveryFailed if they end too early.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._checker = ImageChecker()
        self._digest = hashlib.sha256()
        self._info: ImageInfo | None = None

    def kind(self) -> tuple[str, str]:
        """Read the first bytes, and return the extension and the content type. Raises OutputInvalid."""
        while self._checker.format is None and self._info is None:
            self._pull()
        found = self._checker.format
        assert found is not None  # without a format the checker would have raised an error
        return EXTENSIONS[found], f"image/{found}"

    def info(self) -> ImageInfo:
        """Return what the checker found. Call it after reading to the end."""
        if self._info is None:
            raise ValueError("the image was not read to its end")
        return self._info

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes read so far, in hex."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        """Return True, because the file can be read."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, or all that are left. Errors of the chunks pass through."""
        wanted = -1 if size is None else size
        while self._info is None and (wanted < 0 or len(self._buffer) < wanted):
            self._pull()
        end = len(self._buffer) if wanted < 0 else wanted
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        return data

    def _pull(self) -> None:
        chunk = next(self._chunks, None)
        try:
            if chunk is None:
                self._info = self._checker.close()
                return
            self._checker.feed(chunk)
        except BadImage as exc:
            text = f"the output is not a whole image: {exc}"
            # If only the end is missing, the connection may have broken.
            raise (DeliveryFailed if chunk is None and self._checker.format else OutputInvalid)(text) from exc
        self._digest.update(chunk)
        self._buffer += chunk
