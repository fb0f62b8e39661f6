"""Responses that are endless, slow or compression bombs: each costs a bounded amount of memory and time."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import httpx
import pytest

from posedrop.contract.errors import OutputInvalid, PosedropError, StatusUnavailable, SubmitOutcomeUnknown
from posedrop.segmind.client import GET_TIMEOUTS, RESULT_RESPONSE, SMALL_RESPONSE, Segmind, Timeouts
from posedrop.segmind.downloads import OUTPUT_LIMIT, Downloader
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.responses import ProviderResponse, parse_response

MIB = 1024 * 1024
CHUNK = 64 * 1024
"""Bytes that a connection hands over at once."""
TIMEOUTS = Timeouts.within(30)

CALLS: dict[str, tuple[Callable[[Segmind], object], type[PosedropError], int]] = {
    "submit": (lambda client: client.submit({"prompt": "x"}, TIMEOUTS), SubmitOutcomeUnknown, SMALL_RESPONSE),
    "status": (lambda client: client.status("id"), StatusUnavailable, SMALL_RESPONSE),
    "result": (lambda client: client.result("id"), StatusUnavailable, RESULT_RESPONSE),
}
calls = pytest.mark.parametrize("name", CALLS)


class Endless(httpx.SyncByteStream):
    """A body that goes on as long as somebody reads it; `each` is called before each chunk."""

    def __init__(self, chunk: bytes, each: Callable[[], object] = lambda: None) -> None:
        self.chunk = chunk
        self.each = each
        self.chunks = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.each()
            self.chunks += 1
            yield self.chunk


def client(stream: httpx.SyncByteStream, **headers: str) -> Segmind:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=stream))
    return Segmind("https://api.segmind.com", lambda: "SG_0123456789abcdef", CONSISTENT_CHARACTER, transport)


def peak(act: Callable[[], object]) -> int:
    """The most memory (bytes) that was in use meanwhile."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("part", [b"[],", b"{},", b'{"a":[]},'])
def test_a_response_with_millions_of_parts_is_unusable(part: bytes) -> None:
    body = b"[" + part * (RESULT_RESPONSE // len(part) - 1) + b"0]"

    def act() -> None:
        assert parse_response(200, body) == ProviderResponse()

    assert peak(act) < 3 * RESULT_RESPONSE


@calls
def test_an_endless_response_is_given_up_at_its_limit(name: str) -> None:
    call, error, limit = CALLS[name]
    stream = Endless(bytes(CHUNK))

    def act() -> None:
        with pytest.raises(error, match="more than"):
            call(client(stream))

    assert peak(act) < 1.5 * limit + MIB
    assert stream.chunks == limit // CHUNK + 1


@calls
def test_a_slow_response_is_given_up_in_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, error, _ = CALLS[name]
    now = [0.0]

    def wait() -> None:
        now[0] += 1

    monkeypatch.setattr("posedrop.segmind.bodies.time.monotonic", lambda: now[0])
    with pytest.raises(error, match="took too long"):
        call(client(Endless(b" ", wait)))
    assert now[0] <= max(TIMEOUTS.total, GET_TIMEOUTS.total) + 1


@calls
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_a_compression_bomb_costs_no_more_memory(name: str, encoding: str) -> None:
    call, error, limit = CALLS[name]
    packed = gzip.compress(bytes(60 * MIB))
    assert len(packed) < CHUNK

    def act() -> None:
        with pytest.raises(error, match=r"more than|compressed"):
            call(client(httpx.ByteStream(packed), **{"content-encoding": encoding}))

    assert peak(act) < 2.5 * limit + MIB


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate"])
def test_a_compressed_response_is_read(encoding: str) -> None:
    body = b'{"status": "COMPLETED"}'
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    assert client(httpx.ByteStream(packed), **{"content-encoding": encoding}).status("id").state == "COMPLETED"


def test_an_output_that_is_too_large_is_given_up_while_it_streams() -> None:
    stream = Endless(bytes(MIB))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))
    downloader = Downloader("https://api.segmind.com", transport, lambda host, port: ["93.184.215.14"])

    def act() -> None:
        with (
            pytest.raises(OutputInvalid, match="more than"),
            downloader.open("https://images.segmind.com/1.png", 60) as chunks,
        ):
            for _ in chunks:
                pass

    assert peak(act) < 4 * MIB
    assert stream.chunks == OUTPUT_LIMIT // MIB + 1


def test_an_output_that_says_its_size_is_not_read_at_all() -> None:
    stream = Endless(bytes(MIB))
    headers = {"content-length": str(OUTPUT_LIMIT + 1)}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=stream))
    downloader = Downloader("https://api.segmind.com", transport, lambda host, port: ["93.184.215.14"])
    with pytest.raises(OutputInvalid, match="more than"), downloader.open("https://images.segmind.com/1.png", 60):
        pass
    assert stream.chunks == 0
