"""The provider's request history: what is asked, which row is the job's, and that any fault means nothing is known."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from posedrop import history as module
from posedrop.errors import AccountRefused
from posedrop.history import PAGE, PAGES, History, HistoryUnavailable
from posedrop.segmind import MODEL

KEY = "SG_0123456789abcdef"
NAME = "hero-walk-0123456789abcdef-1"
SINCE = datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()

Handler = Callable[[httpx.Request], httpx.Response]


def url(name: str) -> str:
    """A presigned URL as it is sent to the provider."""
    disposition = quote(f'inline; filename="{name}"')
    return f"https://b.s3.amazonaws.com/face.png?response-content-disposition={disposition}&X-Amz-Signature=0a"


def row(name: str, request_id: object = "found") -> dict[str, Any]:
    return {"request_id": request_id, "model_name": MODEL, "request_body": {"prompt": "x", "face_image": url(name)}}


def find(answer: object, name: str = NAME, api_key: Callable[[], str] = lambda: KEY) -> str | None:
    """Look for a request in a history that answers so."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)

    return History("https://history.test/", api_key, httpx.MockTransport(handle)).find(name, SINCE)


def test_what_is_asked() -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"generations": []})

    assert History("https://history.test/", lambda: KEY, httpx.MockTransport(handle)).find(NAME, SINCE) is None
    (request,) = requests
    assert (request.method, request.url.host) == ("GET", "history.test")
    assert request.url.path == "/inference-request/request-history"
    assert request.headers["x-api-key"] == KEY
    # The day before: nobody says in which time zone the provider's days begin.
    assert dict(request.url.params) == {
        **{"page": "1", "per_page": str(PAGE)},
        **{"from_date": "2026-11-22", "to_date": "2026-11-24", "model_name": MODEL},
    }


@pytest.mark.parametrize("key", ["generations", "data", "requests", "items"])
def test_found_wherever_the_rows_are(key: str) -> None:
    assert find({"page": 1, key: [row("other"), row(NAME)]}) == "found"


@pytest.mark.parametrize(
    "body",
    [
        {"face_image": url(NAME)},
        json.dumps({"face_image": url(NAME)}),
        {"input": {"face_image": [url(NAME)]}},
        {"face_image": f'https://b.test/?response-content-disposition=inline; filename="{NAME}"'},
        {"face_image": url(NAME).replace("%20", "+")},
        json.dumps({"face_image": f'https://b.test/?response-content-disposition=inline; filename="{NAME}"'}),
    ],
    ids=["object", "text", "nested", "decoded", "plus", "decoded-text"],
)
def test_found_however_the_body_is_told(body: object) -> None:
    assert find([{"request_id": "found", "request_body": body}]) == "found"


@pytest.mark.parametrize(
    "other",
    [f"{NAME}1", f"1{NAME}", f"x-{NAME}", f"{NAME}-1", NAME[:-2], NAME[:-1] + "2", NAME.upper(), f"{NAME} "],
)
def test_a_similar_name_is_another_job(other: str) -> None:
    assert find([row(other)]) is None


def test_a_name_elsewhere_in_the_body_is_no_proof() -> None:
    assert find([{"request_id": "x", "request_body": {"prompt": f"a picture like {NAME}"}}]) is None


@pytest.mark.parametrize("request_id", [None, 17, ["found"], "", "x" * 1000, "../../x", "a b"])
def test_a_row_without_a_usable_id_is_passed_over(request_id: object) -> None:
    assert find([row(NAME, request_id), row(NAME)]) == "found"


@pytest.mark.parametrize("page", [1, 2, PAGES])
def test_pages(page: int) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        here = int(request.url.params["page"]) == page
        return httpx.Response(200, json={"generations": [row(NAME if here else "other")] * PAGE})

    assert History("https://history.test", lambda: KEY, httpx.MockTransport(handle)).find(NAME, SINCE) == "found"


def test_the_number_of_pages_is_bounded() -> None:
    pages: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        pages.append(request.url.params["page"])
        return httpx.Response(200, json={"generations": [row("other")] * PAGE})

    with pytest.raises(HistoryUnavailable, match="more than 3000 rows"):
        History("https://history.test", lambda: KEY, httpx.MockTransport(handle)).find(NAME, SINCE)
    assert pages == [str(number) for number in range(1, PAGES + 1)]


def endless(seconds: float, now: list[float]) -> Iterator[bytes]:
    yield b"["
    while True:
        now[0] += seconds
        yield b" " * 1024


FAULTS: dict[str, object] = {
    **{str(status): httpx.Response(status, json={"error": "no"}) for status in (400, 401, 403, 404, 429, 500, 503)},
    "html": httpx.Response(200, html="<html>Welcome</html>"),
    "html-502": httpx.Response(502, html="<html>Bad gateway</html>"),
    "redirect": httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
    "redirect-nowhere": httpx.Response(302, headers={"location": "http://xn--a/"}),
    "empty": httpx.Response(200),
    "binary": httpx.Response(200, content=b"\xff\xfe\x00"),
    "nested": httpx.Response(200, content=b"[" * 100_000),
    "no-rows": {"message": "moved"},
    "number": 17,
    "text": "rows",
    "null": httpx.Response(200, content=b"null"),
    "hang": httpx.ReadTimeout("slow"),
    "refused": httpx.ConnectError("refused"),
    "reset": httpx.ReadError("reset"),
    "bad-zip": httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_any_fault_means_that_nothing_is_known(fault: str) -> None:
    with pytest.raises(HistoryUnavailable):
        find(FAULTS[fault])


@pytest.mark.parametrize("rows", [[], [None, 17, "x", []], [{}], [{"request_id": "x"}], [{"request_body": 1}]])
def test_rows_that_say_nothing(rows: list[object]) -> None:
    assert find({"generations": rows}) is None


def test_without_a_key_nothing_is_known() -> None:
    def no_key() -> str:
        raise AccountRefused("the secret is missing", 0)

    with pytest.raises(HistoryUnavailable, match="the secret is missing"):
        find([], api_key=no_key)


@pytest.mark.parametrize("seconds", [0.0, 2.0], ids=["huge", "slow"])
def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with pytest.raises(HistoryUnavailable, match=r"more than|took too long"):
        find(httpx.Response(200, content=endless(seconds, now)))
    assert now[0] < 2 * module.SECONDS


def test_all_pages_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def handle(request: httpx.Request) -> httpx.Response:
        now[0] += 10
        return httpx.Response(200, json={"generations": [row("other")] * PAGE})

    with pytest.raises(HistoryUnavailable, match="took too long"):
        History("https://history.test", lambda: KEY, httpx.MockTransport(handle)).find(NAME, SINCE)
    assert now[0] < 2 * module.SECONDS
