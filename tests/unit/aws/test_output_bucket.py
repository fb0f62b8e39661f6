"""Storing outputs on moto: whole images arrive as they are, bad ones leave nothing behind."""

import hashlib
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from posedrop.aws.output_bucket import PART, CheckedImage, OutputBucket
from posedrop.contract.errors import DeliveryFailed, OutputInvalid
from tests.support import image

BUCKET = "outputs"
FOLDER = "outputs/hero/walk/hero-walk-0123456789abcdef/1"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def s3(client: Any) -> Iterator[Any]:
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)


def keys(s3: Any) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def unfinished(s3: Any) -> int:
    return len(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


SMALL = image("png")
HEAD, TAIL = SMALL[:33], SMALL[33:]
NOISE = random.Random(1).randbytes(1024 * 1024)
PADDING = chunk(b"noIs", NOISE)


def large(megabytes: int, tail: bytes = TAIL) -> Iterator[bytes]:
    """A valid PNG of about so many MB, of which nothing is held: private chunks after the header."""
    yield HEAD
    for _ in range(megabytes):
        yield PADDING
    yield tail


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_image_is_stored_as_it_is(s3: Any, kind: str, size: int) -> None:
    data = image(kind, (31, 17))
    found = OutputBucket(s3, BUCKET).store_image(FOLDER, 2, pieces(data, size))
    key = f"{FOLDER}/2.{'jpg' if kind == 'jpeg' else kind}"
    stored = s3.get_object(Bucket=BUCKET, Key=key)
    assert stored["Body"].read() == data
    assert stored["ContentType"] == f"image/{kind}"
    assert found == {
        "bucket": BUCKET,
        "key": key,
        "uri": f"s3://{BUCKET}/{key}",
        "content_type": f"image/{kind}",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "url": None,
        "width": 31,
        "height": 17,
    }


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_images_around_the_size_of_a_part(s3: Any, extra: int) -> None:
    filler = 2 * PART + extra - len(SMALL) - 12
    data = HEAD + chunk(b"noIs", bytes(filler)) + TAIL
    found = OutputBucket(s3, BUCKET).store_image(FOLDER, 1, pieces(data, 65536))
    assert found["bytes"] == 2 * PART + extra
    assert s3.get_object(Bucket=BUCKET, Key=found["key"])["Body"].read() == data


def broken_off() -> Iterator[bytes]:
    yield from large(20)
    raise DeliveryFailed("reset")


BAD: dict[str, Callable[[], Iterator[bytes]]] = {
    "empty": lambda: iter([]),
    "empty pieces": lambda: iter([b"", b""]),
    "html": lambda: iter([b"<html><body>", b"gone</body></html>"]),
    "json": lambda: iter([b'{"error": "gone"}']),
    "gif": lambda: iter([b"GIF89a" + bytes(100)]),
    "damaged": lambda: iter([SMALL[:50] + bytes([SMALL[50] ^ 1]) + SMALL[51:]]),
    "less than a header": lambda: iter([SMALL[:4]]),
    "large and damaged": lambda: large(20, TAIL[:-1] + bytes([TAIL[-1] ^ 1])),
}
CUT: dict[str, Callable[[], Iterator[bytes]]] = {
    "header only": lambda: iter([SMALL[:10]]),
    "cut": lambda: iter([SMALL[:-1]]),
    "large and cut": lambda: large(20, TAIL[:-1]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_leaves_nothing(s3: Any, name: str) -> None:
    with pytest.raises(OutputInvalid, match="not a whole image: "):
        OutputBucket(s3, BUCKET).store_image(FOLDER, 1, BAD[name]())
    assert (keys(s3), unfinished(s3)) == ([], 0)


@pytest.mark.parametrize("name", CUT)
def test_an_image_that_ends_early_leaves_nothing_and_may_be_tried_again(s3: Any, name: str) -> None:
    with pytest.raises(DeliveryFailed, match="not a whole image: truncated"):
        OutputBucket(s3, BUCKET).store_image(FOLDER, 1, CUT[name]())
    assert (keys(s3), unfinished(s3)) == ([], 0)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_cut_anywhere_leaves_nothing(s3: Any, kind: str) -> None:
    data = image(kind)
    for end in range(0, len(data), max(1, len(data) // 40)):
        with pytest.raises(DeliveryFailed if end >= 12 else (OutputInvalid, DeliveryFailed)):
            OutputBucket(s3, BUCKET).store_image(FOLDER, 1, [data[:end]])
    assert keys(s3) == []


def test_a_fetch_that_breaks_off_leaves_nothing_and_may_be_tried_again(s3: Any) -> None:
    with pytest.raises(DeliveryFailed, match="reset"):
        OutputBucket(s3, BUCKET).store_image(FOLDER, 1, broken_off())
    assert (keys(s3), unfinished(s3)) == ([], 0)


@pytest.mark.parametrize("megabytes", [0, 20])
@pytest.mark.parametrize(
    "fault",
    [
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject"),
        EndpointConnectionError(endpoint_url="https://s3"),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_faults_of_s3_may_pass(
    s3: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception, megabytes: int, operation: str
) -> None:
    original = type(s3)._make_api_call
    called: list[str] = []

    def call(self: object, name: str, arguments: object) -> object:
        called.append(name)
        if name == operation:
            raise fault
        return original(self, name, arguments)

    monkeypatch.setattr(type(s3), "_make_api_call", call)
    bucket = OutputBucket(s3, BUCKET)
    if (operation == "PutObject") == (megabytes == 0):
        with pytest.raises(DeliveryFailed, match="cannot be stored"):
            bucket.store_image(FOLDER, 1, large(megabytes))
        assert (keys(s3), unfinished(s3)) == ([], 0)
    else:
        bucket.store_image(FOLDER, 1, large(megabytes))
        assert operation not in called


def test_result_is_readable_json_or_may_be_tried_again(s3: Any) -> None:
    OutputBucket(s3, BUCKET).store_result(FOLDER, {"character": "Zoë"})
    stored = s3.get_object(Bucket=BUCKET, Key=f"{FOLDER}/result.json")
    assert stored["ContentType"] == "application/json"
    assert "Zoë" in stored["Body"].read().decode()
    with pytest.raises(DeliveryFailed):
        OutputBucket(s3, "no-such-bucket").store_result(FOLDER, {})


def test_memory_is_a_few_parts(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # S3 itself is left out, since moto keeps what it is given; the parts are read as botocore reads them.
    stored = 0

    def call(self: object, name: str, arguments: dict[str, Any]) -> dict[str, object]:
        nonlocal stored
        if name == "UploadPart":
            stored += len(arguments["Body"].read())
        return {"UploadId": "upload-1", "ETag": '"etag"'}

    monkeypatch.setattr(type(s3), "_make_api_call", call)
    tracemalloc.start()
    try:
        found = OutputBucket(s3, BUCKET).store_image(FOLDER, 1, large(60))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stored == found["bytes"] > 60_000_000
    assert peak < 5 * PART


def test_the_image_is_whole_only_when_it_was_read() -> None:
    found = CheckedImage([SMALL[:40], SMALL[40:]])
    assert found.kind() == ("png", "image/png")
    with pytest.raises(ValueError, match="not read to its end"):
        found.info()
    assert found.read(10) + found.read() == SMALL
    assert (found.read(10), found.info().bytes, found.sha256()) == (b"", len(SMALL), hashlib.sha256(SMALL).hexdigest())
