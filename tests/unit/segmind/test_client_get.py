"""The two GETs of the client: what counts as a response, and what does not."""

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from posedrop.contract.errors import AccountRefused, StatusUnavailable
from posedrop.contract.version import VERSION
from posedrop.segmind.client import Segmind
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.retry_after import RETRY_AFTER_CAP

KEY = "SG_0123456789abcdef"
ID = "2c7f59ea-4b5e-4a7c-9a35-8d5f0f6f1c11"
CALLS = ["status", "result"]
MIB = 1024 * 1024
MOST = {"status": MIB, "result": 32 * MIB}
"""The bytes of the largest response that is read."""


class Provider:
    """Answers with one response, or raises; keeps the requests."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def client(answer: httpx.Response | Exception) -> tuple[Segmind, Provider]:
    provider = Provider(answer)
    return Segmind(
        "https://api.segmind.com/", lambda: KEY, CONSISTENT_CHARACTER, httpx.MockTransport(provider)
    ), provider


def fault(answer: httpx.Response | Exception, call: str = "status") -> StatusUnavailable:
    with pytest.raises(StatusUnavailable) as caught:
        getattr(client(answer)[0], call)(ID)
    return caught.value


@pytest.mark.parametrize(("call", "path"), [("status", f"/v2/requests/{ID}/status"), ("result", f"/v2/requests/{ID}")])
def test_request(call: str, path: str) -> None:
    segmind, provider = client(httpx.Response(200, json={"status": "COMPLETED", "output": "https://x"}))
    assert getattr(segmind, call)(ID).state == "COMPLETED"
    (request,) = provider.requests
    assert (request.method, str(request.url)) == ("GET", f"https://api.segmind.com{path}")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["user-agent"] == f"posedrop/{VERSION}"
    assert KEY not in str(request.url)
    assert "authorization" not in request.headers
    allowed = request.extensions["timeout"]
    assert allowed["connect"] + allowed["write"] + allowed["read"] == pytest.approx(20)
    assert allowed["pool"] == 1


@pytest.mark.parametrize("request_id", ["../../v1/models", "a/b?c=d#e", "ä b", "@evil.test", "//evil.test"])
def test_no_request_id_leads_elsewhere(request_id: str) -> None:
    segmind, provider = client(httpx.Response(200, json={"status": "QUEUED"}))
    segmind.status(request_id)
    (request,) = provider.requests
    assert request.url.host == "api.segmind.com"
    assert request.url.raw_path.count(b"/") == 4
    assert request.url.raw_path.startswith(b"/v2/requests/")
    assert request.url.raw_path.endswith(b"/status")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [200, 422])
@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "failed"])
def test_a_200_and_a_422_name_the_end(call: str, status: int, state: str) -> None:
    answer = getattr(client(httpx.Response(status, json={"status": state, "error": "why"}))[0], call)(ID)
    assert (answer.state, answer.error) == (state.upper(), "why")


NO_END = [status for status in (*range(201, 600), 999) if status != 422]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "failed"])
def test_no_other_status_names_the_end(call: str, state: str) -> None:
    for status in NO_END:
        found = fault(httpx.Response(status, json={"status": state, "error": "why"}), call)
        assert (found.status, str(found)) == (status, f"the provider answered {status}: why")


@pytest.mark.parametrize("status", [199, 300, 301, 400, 404, 422, 500])
def test_an_unfinished_state_without_a_success_is_none(status: int) -> None:
    assert fault(httpx.Response(status, json={"status": "PROCESSING"})).status == status


@pytest.mark.parametrize("status", [200, 202, 299])
def test_an_unfinished_state_with_a_success(status: int) -> None:
    assert client(httpx.Response(status, json={"status": "PROCESSING"}))[0].status(ID).state == "PROCESSING"


@pytest.mark.parametrize("status", range(400, 600))
def test_404_and_410_say_that_the_request_is_gone(status: int) -> None:
    assert fault(httpx.Response(status)).gone is (status in (404, 410))


def test_without_a_response_nothing_is_gone() -> None:
    assert fault(httpx.ReadTimeout("slow")).gone is False


# ---- the response belongs to this request ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("request_id", [ID, None])
@pytest.mark.parametrize(("status", "state"), [(200, "COMPLETED"), (200, "PROCESSING"), (422, "FAILED")])
def test_a_response_of_this_request(call: str, request_id: str | None, status: int, state: str) -> None:
    answer = httpx.Response(status, json={"status": state, "request_id": request_id})
    assert getattr(client(answer)[0], call)(ID).state == state


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("request_id", "named"),
    [
        *((name, name) for name in ("another", ID.upper(), ID[:-1], "", "a/b")),
        (f"{ID} ", ID),
        ("x y " * 2_500, "x y " * 32),
        ("x" * 10_000, "[...]"),
        (5, "5"),
        ([ID], f"['{ID}']"),
        ({}, "{}"),
    ],
)
@pytest.mark.parametrize(("status", "state"), [(200, "COMPLETED"), (200, "PROCESSING"), (422, "FAILED"), (422, None)])
def test_a_response_about_another_request_says_nothing(
    call: str, request_id: object, named: str, status: int, state: str | None
) -> None:
    body = {"status": state, "request_id": request_id, "output": "https://x/another.png", "error": "blocked"}
    found = fault(httpx.Response(status, json=body, headers={"retry-after": "40"}), call)
    assert str(found) == f"the provider answered {status} about another request: {named}"
    # Its HTTP status is none either: it must not end this job.
    assert (found.status, found.gone, found.retry_after) == (None, False, 40)


@pytest.mark.parametrize("status", [401, 404, 410, 429, 500])
def test_the_id_in_an_error_may_be_a_gateway_s_own(status: int) -> None:
    found = fault(httpx.Response(status, json={"error": "no", "request_id": "trace-1"}))
    assert (found.status, str(found)) == (status, f"the provider answered {status}: no")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (httpx.Response(502, html="<html><h1>502</h1><p>Bad Gateway</p></html>"), 502, "502: 502 Bad Gateway"),
        (httpx.Response(404, json={"detail": "not found"}), 404, "404: not found"),
        (httpx.Response(500), 500, "500"),
        (httpx.Response(200, content=b"\x00\xff"), 200, "200"),
        (httpx.Response(200, json={}), 200, "200"),
        (httpx.Response(401, text=f"bad key {KEY}"), 401, "401: bad key SG_..."),
    ],
)
def test_unusable_responses(call: str, answer: httpx.Response, status: int, text: str) -> None:
    found = fault(answer, call)
    assert (found.status, str(found)) == (status, f"the provider answered {text}")


@pytest.mark.parametrize("location", ["https://evil.test/v2", "http://api.segmind.com/", "/v2/other"])
def test_redirects_are_not_followed(location: str) -> None:
    segmind, provider = client(httpx.Response(302, headers={"location": location}))
    with pytest.raises(StatusUnavailable):
        segmind.status(ID)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [429, 503, 500, 200])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1e9"}, RETRY_AFTER_CAP),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 40.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT"}, 50.0),
        ({}, None),
    ],
)
def test_retry_after(call: str, status: int, headers: dict[str, str], seconds: float | None) -> None:
    answer = httpx.Response(status, headers=headers)
    now = datetime(2026, 10, 21, 7, 27, 50, tzinfo=UTC).timestamp()
    segmind = Segmind(
        "https://segmind.test",
        lambda: KEY,
        CONSISTENT_CHARACTER,
        httpx.MockTransport(lambda _: answer),
        clock=lambda: now,
    )
    with pytest.raises(StatusUnavailable) as caught:
        getattr(segmind, call)(ID)
    assert caught.value.retry_after == seconds


def exceptions() -> list[type[httpx.HTTPError]]:
    """Every exception class that httpx can raise of a request."""
    return [
        value
        for _, value in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(value, httpx.HTTPError) and value is not httpx.HTTPStatusError
    ]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [*exceptions(), httpx.InvalidURL], ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_is_translated(call: str, kind: type[Exception]) -> None:
    found = fault(kind("why"), call)
    assert found.status is None
    assert kind.__name__ in str(found)
    assert isinstance(found.__cause__, kind)


def test_a_key_that_cannot_be_read_is_no_status_either() -> None:
    def refuse() -> str:
        raise AccountRefused("no secret", 0)

    with pytest.raises(StatusUnavailable, match="no secret"):
        Segmind("https://segmind.test", refuse, CONSISTENT_CHARACTER).status(ID)


class Body(httpx.SyncByteStream):
    """A body that counts what was read of it, and may take its time or break off."""

    def __init__(self, *chunks: bytes | Exception, passes: float = 0.0, clock: list[float] | None = None) -> None:
        self.chunks = chunks
        self.passes = passes
        self.clock = clock if clock is not None else [0.0]
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            self.clock[0] += self.passes
            self.read += len(chunk)
            yield chunk


@pytest.mark.parametrize(("call", "most"), MOST.items())
def test_the_largest_response(call: str, most: int) -> None:
    head, tail = b'{"status": "COMPLETED", "output": "', b'"}'
    body = head + b"A" * (most - len(head) - len(tail)) + tail
    assert getattr(client(httpx.Response(200, content=body))[0], call)(ID).state == "COMPLETED"
    assert f"more than {most} bytes" in str(fault(httpx.Response(200, content=body + b" "), call))


@pytest.mark.parametrize(("call", "most"), MOST.items())
def test_a_response_that_is_too_large_is_not_read_further(call: str, most: int) -> None:
    body = Body(*[bytes(MIB)] * 100)
    assert "more than" in str(fault(httpx.Response(200, stream=body), call))
    assert body.read == most + MIB


def test_a_dripping_response_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("posedrop.segmind.client.time.monotonic", lambda: clock[0])
    body = Body(*[b" "] * 1000, passes=1.0, clock=clock)
    assert "ReadTimeout" in str(fault(httpx.Response(200, stream=body)))
    assert body.read == 21


def test_a_reset_midway_is_translated() -> None:
    body = Body(b'{"status": "COMPL', httpx.ReadError("reset"))
    assert "ReadError" in str(fault(httpx.Response(200, stream=body)))


# ---- the credits -----------------------------------------------------------------------------------------------------


def test_the_credits_of_the_account() -> None:
    segmind, provider = client(httpx.Response(200, json={"credits": 12.5, "free-credits": 0.25}))
    assert segmind.credits() == 12.75
    (request,) = provider.requests
    assert (request.method, str(request.url)) == ("GET", "https://api.segmind.com/v1/get-user-credits")
    assert request.headers["x-api-key"] == KEY


@pytest.mark.parametrize("status", [199, 201, 202, 401, 404, 429, 500])
def test_credits_with_another_status_than_200_are_unknown(status: int) -> None:
    answer = httpx.Response(status, json={"credits": 12.5}, headers={"retry-after": "40"})
    with pytest.raises(StatusUnavailable, match=f"the provider answered {status}") as caught:
        client(answer)[0].credits()
    assert (caught.value.status, caught.value.retry_after) == (status, 40)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"credits": "many"}', b"<html></html>"])
def test_a_response_without_credits(body: bytes) -> None:
    with pytest.raises(StatusUnavailable, match="has no credits"):
        client(httpx.Response(200, content=body))[0].credits()


# ---- a new key -------------------------------------------------------------------------------------------------------


def test_without_a_way_to_read_the_key_again_it_stays_as_it_is() -> None:
    assert client(httpx.Response(401))[0].renew_key() is False
