"""Hostile input reaches no forbidden address or key, and costs a bounded amount of memory and time."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import boto3
import httpx
import pytest
from botocore.response import StreamingBody

from posedrop.contract.container import BadImage
from posedrop.contract.errors import InvalidInput, OutputInvalid
from posedrop.contract.images import ImageChecker
from posedrop.contract.parameters import JOB_FILE_LIMIT, read_job_file
from tests.integration.conftest import BASE_URL, OUTPUTS, Pipeline
from tests.support import image

GOOD: list[tuple[str, Any]] = [("incoming/hero/face.png", image()), ("incoming/hero/pose.png", image("png", (9, 9)))]
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    "key",
    [
        "incoming/../outputs/hero/face.png",
        "incoming/hero/../../face.png",
        "incoming/hero/./face.png",
        "incoming//face.png",
        "incoming/he\x00ro/face.png",
        "incoming/he\nro/face.png",
        "incoming/he\x7fro/face.png",
        "incoming/" + "a" * (1024 - len("incoming//face.txt")) + "/face.txt",
    ],
)
def test_a_key_that_attacks_is_ignored(pipeline: Pipeline, key: str) -> None:
    event = {
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "posedrop-uploads"}, "object": {"key": key, "etag": "x"}},
    }
    assert pipeline.handle(event)
    assert pipeline.records() == {}
    assert pipeline.provider.requests == []


@pytest.mark.parametrize(("size", "status"), [(850, "SUCCEEDED"), (1024, "FAILED")])
def test_a_long_key_within_the_contract_is_notified(pipeline: Pipeline, size: int, status: str) -> None:
    character = "ä" * ((size - len("incoming//face.png")) // 2)
    face, pose = (f"incoming/{character}/{name}" for name in ("face.png", "pose.png"))
    assert pipeline.upload((face, GOOD[0][1]), (pose, GOOD[1][1]))
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    # Of 1,024 bytes, what S3 allows, nothing is left for the output's own key.
    assert (notified["status"], (notified["error"] or {}).get("type")) == (
        status,
        "InvalidInput" if status == "FAILED" else None,
    )
    assert all(len(name) <= 80 and name.isascii() for name in pipeline.executions())


@pytest.mark.parametrize("body", [b'{"x":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 10_000 + b"]" * 10_000])
def test_a_job_file_nested_ten_thousand_deep_is_refused(pipeline: Pipeline, body: bytes) -> None:
    pipeline.upload(*GOOD, ("incoming/hero/job.json", body.decode()))
    pipeline.run_all()
    notified = [notified for notified in pipeline.notifications() if notified["status"] == "FAILED"]
    assert [message["error"]["type"] for message in notified] == ["InvalidInput"]
    assert "incoming/hero/job.json" in notified[0]["error"]["message"]


def test_a_job_file_of_ten_megabytes_is_refused_unread() -> None:
    data = b'{"prompt": "' + b"x" * 10 * MEGABYTE + b'"}'
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="larger than"):
        read_job_file("job.json", data, "job")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < JOB_FILE_LIMIT


def test_of_a_job_file_of_ten_megabytes_only_its_beginning_is_read(pipeline: Pipeline) -> None:
    taken: list[int] = []

    class Counted(io.RawIOBase):
        def __init__(self, body: StreamingBody) -> None:
            self.body = body

        def read(self, size: int = -1) -> bytes:
            data: bytes = self.body.read(size if size >= 0 else None)
            taken.append(len(data))
            return data

    def count(parsed: dict[str, Any], **_: object) -> None:
        if parsed.get("ContentLength", 0) > MEGABYTE:
            parsed["Body"] = Counted(parsed["Body"])

    pipeline.upload(*GOOD)
    events = boto3.client("s3").meta.events
    events.register("after-call.s3.GetObject", count)
    try:
        pipeline.upload(("incoming/hero/job.json", '{"prompt": "' + "x" * 10 * MEGABYTE + '"}'))
    finally:
        events.unregister("after-call.s3.GetObject", count)
    assert taken
    assert set(taken) == {JOB_FILE_LIMIT + 1}
    pipeline.run_all()
    assert "InvalidInput" in [notified["error"]["type"] for notified in pipeline.notifications() if notified["error"]]


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that would unfold to as many pixels as it says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_an_image_of_gigapixels_is_refused_by_its_header(pipeline: Pipeline) -> None:
    pipeline.upload(GOOD[1], ("incoming/hero/face.png", png(100_000, 100_000)))
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert notified["error"]["type"] == "InvalidInput"
    assert "100000 x 100000 pixels" in notified["error"]["message"]
    assert pipeline.provider.requests == []


def test_a_chunk_that_claims_two_gigabytes_costs_no_memory() -> None:
    checker = ImageChecker()
    tracemalloc.start()
    checker.feed(png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT")
    for _ in range(64):
        checker.feed(bytes(64 * 1024))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with pytest.raises(BadImage, match="truncated"):
        checker.close()
    assert peak < MEGABYTE


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/x.png",
        "https://localhost/x.png",
        "https://10.0.0.1/x.png",
        "https://192.168.1.1/x.png",
        "https://[::1]/x.png",
        "https://[fe80::1]/x.png",
        "https://[::ffff:10.0.0.1]/x.png",
        "http://images.example/x.png",
        "file:///etc/passwd",
        "ftp://images.example/x.png",
        "gopher://127.0.0.1/x",
    ],
)
def test_an_output_elsewhere_is_not_fetched(pipeline: Pipeline, url: str) -> None:
    pipeline.provider.results = [httpx.Response(200, json={"status": "COMPLETED", "output": url})]
    pipeline.upload(*GOOD)
    before = {str(request.url) for request in pipeline.provider.requests}
    (outcome,) = pipeline.run_all()
    assert outcome["error"]["type"] == OutputInvalid.__name__
    asked = {str(request.url) for request in pipeline.provider.requests} - before
    assert all(address.startswith(f"{BASE_URL}/v2/requests/") for address in asked)
    assert pipeline.outputs() == {}


def test_a_redirect_to_the_metadata_service_is_not_followed(pipeline: Pipeline) -> None:
    pipeline.provider.media = [httpx.Response(302, headers={"location": "http://169.254.169.254/latest/"})]
    pipeline.upload(*GOOD)
    (outcome,) = pipeline.run_all()
    assert outcome["error"]["type"] == OutputInvalid.__name__
    assert all(request.url.host == "segmind.test" for request in pipeline.provider.requests)
    assert pipeline.s3.list_multipart_uploads(Bucket=OUTPUTS).get("Uploads", []) == []


def test_a_response_that_names_another_host_sends_the_key_nowhere(pipeline: Pipeline) -> None:
    foreign = {name: f"https://evil.example/{name}" for name in ("status_url", "response_url", "poll_url")}
    pipeline.provider.submits = [httpx.Response(200, json={"request_id": "r", "status": "QUEUED", **foreign})]
    pipeline.provider.statuses = [
        httpx.Response(200, json={"status": "PROCESSING", "metrics": {}, **foreign}),
        httpx.Response(200, json={"status": "COMPLETED", "metrics": {}}),
    ]
    pipeline.upload(*GOOD)
    (outcome,) = pipeline.run_all()
    assert outcome["status"] == "SUCCEEDED"
    assert {request.url.host for request in pipeline.provider.requests} == {"segmind.test"}
    media = [request for request in pipeline.provider.requests if request.url.path.startswith("/media")]
    assert media
    assert not any("x-api-key" in request.headers for request in media)
