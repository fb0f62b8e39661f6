"""From which addresses outputs are downloaded, from which not, and every fault on the way."""

import gzip
import inspect
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.contract.errors import DeliveryFailed, OutputInvalid
from posedrop.contract.version import VERSION
from posedrop.segmind.bodies import PIECE
from posedrop.segmind.downloads import OUTPUT_LIMIT, REDIRECTS, Downloader

BASE = "http://127.0.0.1:9000"
URL = "https://images.segmind.com/1.png?sig=secret"
PUBLIC = "93.184.216.34"

Reply = httpx.Response | Exception


class Web:
    """Answers per host name (of the Host header) and path; keeps the requests and what was resolved."""

    def __init__(self, *answers: Reply, addresses: list[str] | Exception | None = None) -> None:
        self.answers = list(answers) or [httpx.Response(200, content=b"bytes")]
        self.addresses = [PUBLIC] if addresses is None else addresses
        self.requests: list[httpx.Request] = []
        self.resolved: list[tuple[str, int]] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)

    def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append((host, port))
        if isinstance(self.addresses, Exception):
            raise self.addresses
        return self.addresses

    def fetch(self, url: str = URL, seconds: float = 60.0) -> bytes:
        downloader = Downloader(BASE, httpx.MockTransport(self), self.resolve, lambda: self.now)
        with downloader.open(url, seconds) as chunks:
            return b"".join(chunks)

    def drain(self, url: str = URL) -> None:
        """Fetch, and keep nothing."""
        with Downloader(BASE, httpx.MockTransport(self), self.resolve).open(url, 60) as chunks:
            for _ in chunks:
                pass


class Body(httpx.SyncByteStream):
    """A body in pieces; `between` is called before each, an exception among them is raised."""

    def __init__(self, pieces: list[bytes | Exception], between: Callable[[], object] = lambda: None) -> None:
        self.pieces = pieces
        self.between = between
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.between()
            if isinstance(piece, Exception):
                raise piece
            self.taken += 1
            yield piece


def redirect(location: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": location})


# ---- what is asked for, and whom -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "name", "port"),
    [
        (URL, "images.segmind.com", "images.segmind.com", 443),
        ("https://images.segmind.com:8443/1.png", "images.segmind.com:8443", "images.segmind.com", 8443),
        ("https://bücher.example/1.png", "xn--bcher-kva.example", "xn--bcher-kva.example", 443),
        ("HTTPS://Images.Segmind.COM/1.png", "images.segmind.com", "images.segmind.com", 443),
    ],
)
@pytest.mark.parametrize(("address", "shown"), [(PUBLIC, PUBLIC), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", None)])
def test_the_address_that_was_checked_is_the_one_that_is_asked(
    url: str, host: str, name: str, port: int, address: str, shown: str | None
) -> None:
    web = Web(addresses=[address])
    assert web.fetch(url) == b"bytes"
    (request,) = web.requests
    assert web.resolved == [(name, port)]
    assert request.url.host == (shown or address)
    assert request.headers["host"] == host
    assert request.extensions["sni_hostname"] == name


def test_the_request_carries_nothing_secret() -> None:
    web = Web(redirect("https://other.example/2.png"), httpx.Response(200, content=b"bytes"))
    web.fetch()
    for request in web.requests:
        assert set(request.headers) == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert request.headers["user-agent"] == f"posedrop/{VERSION}"


@pytest.mark.parametrize("path", ["/media/1.png", "/"])
def test_the_providers_own_origin_may_be_plain_and_private(path: str) -> None:
    web = Web()
    assert web.fetch(BASE + path) == b"bytes"
    assert web.resolved == []


@pytest.mark.parametrize(
    "url",
    [
        "http://images.segmind.com/1.png",
        "http://127.0.0.1/1.png",
        "http://127.0.0.1:9001/1.png",
        "http://localhost:9000/1.png",
        "https://127.0.0.1:9000/1.png",
        "ftp://images.segmind.com/1.png",
        "file:///etc/passwd",
        "gopher://127.0.0.1:9000/",
        "data:image/png;base64,AAAA",
        "//images.segmind.com/1.png",
        "https://",
        "https:///1.png",
        "https://[::1/",
        "https://host:port/",
        "https://xn--a/1.png",
        "",
    ],
)
def test_what_may_not_be_fetched(url: str) -> None:
    web = Web(addresses=["127.0.0.1"])
    with pytest.raises(OutputInvalid):
        web.fetch(url)
    assert web.requests == []


NOT_PUBLIC = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "192.0.0.192",
    "192.0.0.9",
    "::ffff:192.0.0.192",
    "64:ff9b::c000:c0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::127.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:db8::1",
    "no address",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
@pytest.mark.parametrize("others", [[], [PUBLIC]])
def test_no_name_leads_to_an_address_that_is_not_public(address: str, others: list[str]) -> None:
    web = Web(addresses=[*others, address])
    with pytest.raises(OutputInvalid, match="not public"):
        web.fetch()
    assert web.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "127.1"])
def test_no_number_does_either(host: str) -> None:
    reached: list[httpx.Request] = []

    def provider(request: httpx.Request) -> httpx.Response:
        reached.append(request)
        return httpx.Response(200)

    # The real resolver: a number is its own address, in whatever way it is written.
    with (
        pytest.raises(OutputInvalid, match="not public"),
        Downloader(BASE, httpx.MockTransport(provider)).open(f"https://{host}/1.png", 60),
    ):
        pass
    assert reached == []


@pytest.mark.parametrize("address", ["8.8.8.8", "2a00:1450:4001:80b::200e", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert Web(addresses=[address]).fetch() == b"bytes"


class Family:
    """A network where only some addresses can be connected to."""

    def __init__(self, *reachable: str) -> None:
        self.reachable = reachable
        self.tried: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tried.append(request.url.host)
        if request.url.host not in self.reachable:
            raise httpx.ConnectError("no route")
        return httpx.Response(200, stream=httpx.ByteStream(b"bytes"))

    def fetch(self, *addresses: str) -> bytes:
        downloader = Downloader(BASE, httpx.MockTransport(self), lambda host, port: list(addresses))
        with downloader.open(URL, 60) as chunks:
            return b"".join(chunks)


IPV6, OTHER_IPV6, OTHER = "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2a00:1450:4001:80b::200e", "8.8.8.8"


@pytest.mark.parametrize(
    ("reachable", "tried"),
    [
        ((PUBLIC,), [PUBLIC]),
        ((OTHER,), [PUBLIC, OTHER]),
        ((IPV6,), [PUBLIC, OTHER, IPV6]),
        ((OTHER_IPV6,), [PUBLIC, OTHER, IPV6, OTHER_IPV6]),
    ],
)
def test_every_address_of_a_host_is_tried_ipv4_first(reachable: tuple[str, ...], tried: list[str]) -> None:
    network = Family(*reachable)
    assert network.fetch(IPV6, PUBLIC, OTHER_IPV6, PUBLIC, OTHER) == b"bytes"
    assert network.tried == tried


def test_a_host_that_cannot_be_connected_to_may_be_there_later() -> None:
    network = Family()
    with pytest.raises(DeliveryFailed, match="ConnectError"):
        network.fetch(IPV6, PUBLIC)
    assert network.tried == [PUBLIC, IPV6]


# ---- redirects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_new_hosts_name(status: int) -> None:
    web = Web(redirect("https://b.example/2", status), redirect("/3", status), httpx.Response(200, content=b"bytes"))
    assert web.fetch("https://a.example/1") == b"bytes"
    assert [(r.headers["host"], r.url.path) for r in web.requests] == [
        ("a.example", "/1"),
        ("b.example", "/2"),
        ("b.example", "/3"),
    ]


@pytest.mark.parametrize("location", ["http://a.example/2", "http://127.0.0.1/", "file:///etc/passwd"])
def test_each_redirect_is_checked(location: str) -> None:
    web = Web(redirect(location))
    with pytest.raises(OutputInvalid, match="not https"):
        web.fetch()
    assert len(web.requests) == 1


@pytest.mark.parametrize("location", ["https://:x", "https://xn--a/", "https://[::1", "A:0"])
def test_a_redirect_to_no_url_is_a_broken_response(location: str) -> None:
    with pytest.raises(DeliveryFailed, match=r"RemoteProtocolError|Codepoint|InvalidURL"):
        Web(redirect(location)).fetch()


@given(st.one_of(st.text(), st.text().map("https://{}".format), st.text("xn-.[]:@%ä/1").map("https://{}".format)))
def test_any_address_is_fetched_or_refused(url: str) -> None:
    with suppress(OutputInvalid, DeliveryFailed):
        assert Web().fetch(url) == b"bytes"
    with suppress(OutputInvalid, DeliveryFailed):
        assert Web(redirect(url.encode("unicode_escape").decode()), httpx.Response(200, content=b"bytes")).fetch()


def test_a_redirect_to_a_private_name_is_refused() -> None:
    web = Web(redirect("https://internal.example/"))
    web.resolve = lambda host, port: ["10.0.0.1"] if host == "internal.example" else [PUBLIC]  # type: ignore[method-assign]
    with pytest.raises(OutputInvalid, match=r"not public: https://internal\.example$"):
        web.fetch()


def test_a_redirect_loop_ends() -> None:
    web = Web(redirect(URL))
    with pytest.raises(OutputInvalid, match="redirects more than"):
        web.fetch()
    assert len(web.requests) == REDIRECTS + 1


# ---- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 206, 302, 400, 403, 404, 410, 429, 500, 503])
def test_any_other_status_may_pass(status: int) -> None:
    with pytest.raises(DeliveryFailed, match=f"HTTP status {status}"):
        Web(httpx.Response(status)).fetch()


@pytest.mark.parametrize("error", [OSError("no such host"), UnicodeError("label too long")], ids=repr)
def test_a_name_that_cannot_be_resolved_may_pass(error: Exception) -> None:
    with pytest.raises(DeliveryFailed, match="cannot be resolved"):
        Web(addresses=error).fetch()


def test_a_name_without_addresses_is_refused() -> None:
    with pytest.raises(OutputInvalid):
        Web(addresses=[]).fetch()


EXCEPTIONS: list[Any] = [
    value
    for _, value in inspect.getmembers(httpx, inspect.isclass)
    if issubclass(value, httpx.HTTPError) and value is not httpx.HTTPStatusError
]


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("midway", [False, True])
def test_every_exception_of_httpx_is_translated(kind: type[httpx.HTTPError], midway: bool) -> None:
    fault = kind("why")
    web = Web(httpx.Response(200, stream=Body([b"first", fault])) if midway else fault)
    with pytest.raises(DeliveryFailed, match=kind.__name__) as caught:
        web.fetch()
    assert caught.value.__cause__ is fault


def test_no_message_shows_the_query() -> None:
    for web in (Web(addresses=["10.0.0.1"]), Web(addresses=OSError()), Web(httpx.Response(503)), Web(redirect(URL))):
        with pytest.raises((OutputInvalid, DeliveryFailed)) as caught:
            web.fetch()
        assert "secret" not in str(caught.value)


# ---- size and time -------------------------------------------------------------------------------------------------


def test_a_declared_size_over_the_limit_is_not_read() -> None:
    body = Body([b"x"])
    answer = httpx.Response(200, headers={"content-length": str(OUTPUT_LIMIT + 1)}, stream=body)
    with pytest.raises(OutputInvalid, match="more than"):
        Web(answer).fetch()
    assert body.taken == 0


def test_the_limit_counts_received_bytes() -> None:
    body = Body([*[bytes(1_000_000)] * 256, b"x", b"never"])
    with pytest.raises(OutputInvalid, match="more than"):
        Web(httpx.Response(200, stream=body)).drain()
    assert body.taken == 257


@pytest.mark.parametrize("size", [1, 70_000])
def test_a_slow_response_ends_in_time(size: int) -> None:
    web = Web()

    def second() -> None:
        web.now += 1

    body = Body([bytes(size)] * 1000, second)
    web.answers = [httpx.Response(200, stream=body)]
    with pytest.raises(DeliveryFailed, match="too slow"):
        web.fetch(seconds=10)
    assert body.taken <= 11


def test_pieces_are_handed_on_as_they_come() -> None:
    body = Body([bytes(1000)] * 50)
    web = Web(httpx.Response(200, stream=body))
    with Downloader(BASE, httpx.MockTransport(web), web.resolve).open(URL, 60) as chunks:
        assert [body.taken for _ in chunks] == list(range(1, 51))


# ---- compressed, although that was not requested -------------------------------------------------------------------

PICTURE = bytes(range(256)) * 4000
PACKINGS = {
    "gzip": (gzip.compress(PICTURE), "gzip"),
    "GZip": (gzip.compress(PICTURE), " GZip "),
    "deflate": (zlib.compress(PICTURE), "deflate"),
    "x-gzip": (gzip.compress(PICTURE), "x-gzip"),
    "two members": (gzip.compress(PICTURE[:1000]) + gzip.compress(PICTURE[1000:]), "gzip"),
    "identity": (PICTURE, "identity"),
}


def packed(data: bytes, encoding: str, size: int = 1000) -> httpx.Response:
    pieces: list[bytes | Exception] = [data[at : at + size] for at in range(0, len(data), size)]
    return httpx.Response(200, headers={"content-encoding": encoding}, stream=Body(pieces))


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("size", [7, 1000, 10**9])
def test_a_compressed_image_is_decompressed(how: str, size: int) -> None:
    assert Web(packed(*PACKINGS[how], size=size)).fetch() == PICTURE


@pytest.mark.parametrize("keep", [1, 12, 2000, -8, -1])
def test_a_compressed_image_that_ends_early_is_fetched_again(keep: int) -> None:
    with pytest.raises(DeliveryFailed):
        Web(packed(PACKINGS["gzip"][0][:keep], "gzip")).fetch()


@pytest.mark.parametrize(("data", "encoding"), [(b"no gzip at all", "gzip"), (b"", "gzip"), (PICTURE, "br")])
def test_a_body_that_cannot_be_decompressed_is_fetched_again(data: bytes, encoding: str) -> None:
    with pytest.raises(DeliveryFailed, match="DecodingError"):
        Web(packed(data, encoding)).fetch()


def test_the_limit_counts_decompressed_bytes_without_holding_them() -> None:
    small = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(small.compress(bytes(10**6)) for _ in range(OUTPUT_LIMIT // 10**6 + 1)) + small.flush()
    assert len(bomb) < OUTPUT_LIMIT // 900
    web = Web(packed(bomb, "gzip", 10**9))
    sizes: list[int] = []
    fetching = Downloader(BASE, httpx.MockTransport(web), web.resolve).open(URL, 60)
    with fetching as chunks, pytest.raises(OutputInvalid, match="more than"):
        sizes.extend(map(len, chunks))
    assert max(sizes) <= PIECE


def test_a_compressed_response_with_a_length_does_not_count_as_cut_off() -> None:
    data = PACKINGS["gzip"][0]
    answer = httpx.Response(
        200, headers={"content-encoding": "gzip", "content-length": str(len(data))}, stream=Body([data])
    )
    assert Web(answer).fetch() == PICTURE
