"""The submit: what is sent, what is not, and over which connection."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from posedrop.contract.errors import AccountRefused, PosedropError, ProviderUnavailable, SubmitOutcomeUnknown
from posedrop.contract.version import VERSION
from posedrop.segmind.client import Segmind, Timeouts
from posedrop.segmind.model import CONSISTENT_CHARACTER

KEY = "SG_0123456789abcdef"
TIMEOUTS = Timeouts(connect=1, write=1, read=1)
BODY = {"prompt": "im Büro 歩", "samples": 2, "base_64": False, "face_image": "https://x/?a=1&b=2", "seed": 2778725438}
ACCEPTED = {
    "request_id": "2c7f59ea-1",
    "status": "QUEUED",
    "poll_url": "https://elsewhere.example/v1/requests/2c7f59ea-1",
    "status_url": "https://elsewhere.example/v2/requests/2c7f59ea-1/status",
    "response_url": "https://elsewhere.example/v2/requests/2c7f59ea-1",
}


class Recorder:
    """Records the requests, and gives one response."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer

    def submit(self, base_url: str = "https://api.segmind.test") -> str:
        return Segmind(base_url, lambda: KEY, CONSISTENT_CHARACTER, httpx.MockTransport(self)).submit(BODY, TIMEOUTS)


@pytest.mark.parametrize("base_url", ["https://api.segmind.test", "https://api.segmind.test/"])
def test_one_post_with_the_key_and_the_parameters(base_url: str) -> None:
    recorder = Recorder(httpx.Response(200, json=ACCEPTED))
    assert recorder.submit(base_url) == "2c7f59ea-1"
    (request,) = recorder.requests
    assert (request.method, str(request.url)) == ("POST", "https://api.segmind.test/v2/consistent-character-with-pose")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["user-agent"] == f"posedrop/{VERSION}"
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert json.loads(request.content) == BODY


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_any_success_with_a_request_id_is_accepted(status: int) -> None:
    assert Recorder(httpx.Response(status, json={"request_id": "r"})).submit() == "r"


@pytest.mark.parametrize("status", [199, 300])
def test_a_status_that_is_neither_a_success_nor_an_error_has_an_unknown_outcome(status: int) -> None:
    with pytest.raises(SubmitOutcomeUnknown):
        Recorder(httpx.Response(status, json={"request_id": "r"})).submit()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    recorder = Recorder(httpx.Response(status, headers={"location": "https://elsewhere.example/"}))
    with pytest.raises(SubmitOutcomeUnknown):
        recorder.submit()
    assert [request.url.host for request in recorder.requests] == ["api.segmind.test"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"<html></html>", b'{"request_id": null}', b'{"status": "QUEUED"}']
)
def test_a_success_without_a_request_id_has_an_unknown_outcome(content: bytes) -> None:
    with pytest.raises(SubmitOutcomeUnknown, match="answered 200 without a request id"):
        Recorder(httpx.Response(200, content=content)).submit()


@pytest.mark.parametrize(
    "content",
    [
        b'{"request_id": 7}',
        b'{"request_id": ""}',
        b'{"request_id": "../../v1/other"}',
        b'{"request_id": "a?b"}',
        b'{"request_id": "\xff"}',
        b'{"request_id": "' + b"r" * 129 + b'"}',
    ],
)
def test_a_request_id_that_cannot_be_used_is_reported_as_such(content: bytes) -> None:
    with pytest.raises(SubmitOutcomeUnknown, match="answered 200 with a request id that cannot be used"):
        Recorder(httpx.Response(200, content=content)).submit()


def test_the_largest_response() -> None:
    content = json.dumps(ACCEPTED).encode().ljust(1024 * 1024)
    assert Recorder(httpx.Response(200, content=content)).submit() == "2c7f59ea-1"
    with pytest.raises(SubmitOutcomeUnknown, match="more than 1048576 bytes"):
        Recorder(httpx.Response(200, content=content + b" ")).submit()


def test_a_key_that_cannot_be_read_sends_nothing() -> None:
    def no_key() -> str:
        raise AccountRefused("no key", 0)

    recorder = Recorder(httpx.Response(200, json=ACCEPTED))
    with pytest.raises(AccountRefused):
        Segmind("https://api.segmind.test", no_key, CONSISTENT_CHARACTER, httpx.MockTransport(recorder)).submit(
            BODY, TIMEOUTS
        )
    assert recorder.requests == []


def test_the_key_is_asked_for_each_time() -> None:
    keys = iter(["SG_old", "SG_new"])
    recorder = Recorder(httpx.Response(200, json=ACCEPTED))
    client = Segmind(
        "https://api.segmind.test", lambda: next(keys), CONSISTENT_CHARACTER, httpx.MockTransport(recorder)
    )
    client.submit(BODY, TIMEOUTS)
    client.submit(BODY, TIMEOUTS)
    assert [request.headers["x-api-key"] for request in recorder.requests] == ["SG_old", "SG_new"]


@pytest.mark.parametrize("seconds", [1.0, 20.0, 36.0])
def test_the_parts_of_a_timeout_add_up(seconds: float) -> None:
    assert Timeouts.within(seconds).total == pytest.approx(seconds)


# ---- over real connections -------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A provider on the loopback. `behaviour` is what a request meets; `peers` has an entry for each request;
    `sent` counts the bytes of a response that trickles."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = "answer"
        self.peers: list[Any] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, unless the client does not want that
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.peers.append(self.client_address)
        if self.server.behaviour == "hang up":
            self.close_connection = True
            return
        content = json.dumps(ACCEPTED).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.server.behaviour == "trickle":
            with suppress(ConnectionError):  # the client has given up
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.server.sent += 1
                    time.sleep(0.1)
        elif self.server.behaviour == "cut":
            self.wfile.write(content[:10])
            self.close_connection = True
        else:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_every_submit_opens_a_new_connection(server: Server) -> None:
    client = Segmind(server.url, lambda: KEY, CONSISTENT_CHARACTER)
    for _ in range(3):
        assert client.submit(BODY, TIMEOUTS) == "2c7f59ea-1"
    assert len(set(server.peers)) == 3


@pytest.mark.parametrize("behaviour", ["hang up", "cut"])
def test_a_connection_that_ends_after_the_request_leaves_the_outcome_unknown(server: Server, behaviour: str) -> None:
    server.behaviour = behaviour
    with pytest.raises(SubmitOutcomeUnknown):
        Segmind(server.url, lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, TIMEOUTS)
    assert len(server.peers) == 1


def test_a_response_that_trickles_is_over_in_time(server: Server) -> None:
    server.behaviour = "trickle"
    with pytest.raises(SubmitOutcomeUnknown, match="too long"):
        Segmind(server.url, lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, Timeouts(connect=0.1, write=0.1, read=0.4))
    assert server.sent < len(json.dumps(ACCEPTED))


def test_a_refused_connection_sent_nothing() -> None:
    with pytest.raises(ProviderUnavailable, match="no connection"):
        Segmind("http://127.0.0.1:1", lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, TIMEOUTS)


def test_an_unknown_host_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror("unknown host")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ProviderUnavailable, match="unknown host"):
        Segmind("http://segmind.test", lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, TIMEOUTS)


def test_the_environment_s_proxies_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert Segmind(server.url, lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, TIMEOUTS) == "2c7f59ea-1"


@pytest.mark.parametrize("base_url", ["", "segmind", "ftp://x", "http://[", "http://a b"])
def test_a_wrong_base_url_is_an_error_of_the_tree(base_url: str) -> None:
    with pytest.raises(PosedropError):
        Segmind(base_url, lambda: KEY, CONSISTENT_CHARACTER).submit(BODY, TIMEOUTS)
