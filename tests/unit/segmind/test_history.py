"""The provider's request history: its requests, which row belongs to the job, and that an error means unknown."""

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from posedrop.contract.errors import AccountRefused, HistoryUnavailable, HistoryUnfinished
from posedrop.contract.version import VERSION
from posedrop.segmind.history import History
from posedrop.segmind.model import CONSISTENT_CHARACTER

KEY = "SG_0123456789abcdef"
MODEL = "consistent-character-with-pose"
NAME = "hero-walk-0123456789abcdef-1"
SINCE = datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()
PAGE = 100
"""The rows of a full page."""
SECONDS = 15
"""How long a search may take."""

Handler = Callable[[httpx.Request], httpx.Response]


def url(name: str) -> str:
    """A presigned URL as it is sent to the provider."""
    disposition = quote(f'inline; filename="{name}"')
    return f"https://b.s3.amazonaws.com/face.png?response-content-disposition={disposition}&X-Amz-Signature=0a"


def row(name: str, request_id: object = "found") -> dict[str, Any]:
    return {
        "request_id": request_id,
        "model_name": MODEL,
        "request_body": {"prompt": "x", "face_image": url(name)},
    }


def find(answer: object, name: str = NAME, api_key: Callable[[], str] = lambda: KEY) -> str | None:
    """Search for a request in a history with these responses."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)

    return History("https://history.test/", api_key, CONSISTENT_CHARACTER, httpx.MockTransport(handle)).find(
        name, SINCE
    )


def test_what_is_asked() -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"generations": []})

    assert (
        History("https://history.test/", lambda: KEY, CONSISTENT_CHARACTER, httpx.MockTransport(handle)).find(
            NAME, SINCE
        )
        is None
    )
    (request,) = requests
    assert (request.method, request.url.host) == ("GET", "history.test")
    assert request.url.path == "/inference-request/request-history"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["user-agent"] == f"posedrop/{VERSION}"
    # The day before: nobody says in which time zone the provider's days begin.
    assert dict(request.url.params) == {
        **{"page": "1", "per_page": "100"},
        **{
            "from_date": "2026-11-22",
            "to_date": "2026-11-24",
            "sort_order": "desc",
            "model_name": MODEL,
        },
    }
    assert set(request.extensions["timeout"].values()) == {5}


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
def test_found_in_a_body_of_any_shape(body: object) -> None:
    assert find([{"request_id": "found", "request_body": body}]) == "found"


@pytest.mark.parametrize(
    "other",
    [f"{NAME}1", f"1{NAME}", f"x-{NAME}", f"{NAME}-1", NAME[:-2], NAME[:-1] + "2", NAME.upper(), f"{NAME} "],
)
def test_a_similar_name_is_another_job(other: str) -> None:
    assert find([row(other)]) is None


DISPOSITION = f'inline; filename="{NAME}"'
HIDDEN = f"x?response-content-disposition={DISPOSITION}"
OTHER = url("villain-run-fedcba9876543210-1")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": f"a picture like {NAME}"},
        {"prompt": f'filename="{NAME}"', "face_image": OTHER},
        {"prompt": f'inline; filename="{NAME}"', "face_image": OTHER, "pose_image": OTHER},
        {"prompt": url(NAME), "face_image": OTHER},
        {"prompt": json.dumps({"face_image": url(NAME)}), "face_image": OTHER},
        {"face_image": f'https://b.test/filename="{NAME}"?a=b'},
        {"face_image": f"https://b.test/{quote(HIDDEN)}"},
        {"face_image": f"https://b.test/x?other={quote(DISPOSITION)}"},
        {"face_image": f"{OTHER}&response-content-disposition={quote(DISPOSITION)}"},
        {"face_image": f'https://b.test/#?response-content-disposition=inline; filename="{NAME}"'},
    ],
    ids=["words", "marker", "disposition", "url", "json", "path", "encoded-path", "other-query", "twice", "fragment"],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_a_name_elsewhere_in_the_body_is_no_proof(body: dict[str, Any], as_text: bool) -> None:
    assert find([{"request_id": "x", "request_body": json.dumps(body) if as_text else body}]) is None


@pytest.mark.parametrize("request_id", [None, 17, ["found"], "", "x" * 1000, "../../x", "a b"])
def test_a_row_without_a_usable_id_is_passed_over(request_id: object) -> None:
    assert find([row(NAME, request_id), row(NAME)]) == "found"


def pages(found_on: int, *, asked: list[int] | None = None, newest: float = SINCE + 7200) -> Handler:
    """A busy account: each page is a minute older than the one before."""

    def handle(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        if asked is not None:
            asked.append(page)
        created = datetime.fromtimestamp(newest - 60 * (page - 1), UTC).isoformat()
        found = row(NAME if page == found_on else "other") | {"model_created": created}
        return httpx.Response(200, json={"generations": [found] * PAGE})

    return handle


def history(handle: Handler, clock: Callable[[], float] = lambda: 0.0) -> History:
    return History("https://history.test", lambda: KEY, CONSISTENT_CHARACTER, httpx.MockTransport(handle), clock)


@pytest.mark.parametrize("page", [1, 2, 30, 120])
def test_it_is_read_page_by_page(page: int) -> None:
    assert history(pages(page)).find(NAME, SINCE) == "found"


def test_the_search_ends_once_the_rows_are_minutes_older_than_the_request() -> None:
    asked: list[int] = []
    assert history(pages(0, asked=asked)).find(NAME, SINCE) is None
    assert asked == list(range(1, len(asked) + 1))
    assert len(asked) == (7200 + 300) / 60 + 2  # the page that is five minutes older, and the next one


@pytest.mark.parametrize("created", [None, 17, "", "yesterday", {}])
def test_rows_without_a_time_are_read_to_the_end(created: object) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        last = request.url.params["page"] == "3"
        found = row(NAME if last else "other") | {"model_created": created}
        return httpx.Response(200, json=[found] * (1 if last else PAGE))

    assert history(handle).find(NAME, SINCE) == "found"


def test_a_long_search_continues_where_it_stopped() -> None:
    now = [0.0]
    asked: list[int] = []

    def slow(request: httpx.Request) -> httpx.Response:
        now[0] += 4
        return pages(11, asked=asked)(request)

    found, page, searches = None, 1, 0
    while found is None:
        searches += 1
        try:
            found = history(slow, lambda: now[0]).find(NAME, SINCE, page)
        except HistoryUnfinished as exc:
            page = exc.page
    assert found == "found"
    assert searches > 2
    assert now[0] / searches <= SECONDS + 8
    assert sorted(set(asked)) == list(range(1, 12))


@pytest.mark.parametrize("each", [4.0, 5.0])
def test_a_search_ends_after_15_seconds_and_reads_its_last_page_again(each: float) -> None:
    now = [0.0]
    asked: list[int] = []

    def slow(request: httpx.Request) -> httpx.Response:
        now[0] += each
        return pages(0, asked=asked)(request)

    with pytest.raises(HistoryUnfinished) as caught:
        history(slow, lambda: now[0]).find(NAME, SINCE)
    assert asked == [1, 2, 3, 4]
    assert caught.value.page == 4


def test_the_first_page_is_always_read() -> None:
    clock = itertools.count(step=100)
    assert history(pages(1), lambda: next(clock)).find(NAME, SINCE) == "found"


def test_a_search_advances_although_each_page_needs_all_its_time() -> None:
    now = [0.0]
    asked: list[int] = []

    def slow(request: httpx.Request) -> httpx.Response:
        now[0] += SECONDS + 1
        return pages(4, asked=asked)(request)

    page = 1
    for _ in range(3):
        with pytest.raises(HistoryUnfinished) as caught:
            history(slow, lambda: now[0]).find(NAME, SINCE, page)
        assert caught.value.page > page
        page = caught.value.page
    assert history(slow, lambda: now[0]).find(NAME, SINCE, page) == "found"
    assert asked == [1, 2, 3, 4]


def test_rows_in_any_order_do_not_end_the_search_early() -> None:
    """One row of the page is as young as the request: older ones beside it prove nothing."""

    def handle(request: httpx.Request) -> httpx.Response:
        last = request.url.params["page"] == "2"
        times = [SINCE - 7200] * (PAGE - 1) + [SINCE]
        rows = [row("other") | {"model_created": datetime.fromtimestamp(at, UTC).isoformat()} for at in times]
        return httpx.Response(200, json=[row(NAME)] if last else rows)

    assert history(handle).find(NAME, SINCE) == "found"


@pytest.mark.parametrize(("apart", "found"), [(0.0, "found"), (300.0, "found"), (301.0, None)])
def test_a_clock_that_is_five_minutes_off_hides_no_request(apart: float, found: str | None) -> None:
    created = datetime.fromtimestamp(SINCE - apart, UTC).replace(tzinfo=None).isoformat()  # without a zone: UTC

    def handle(request: httpx.Request) -> httpx.Response:
        wanted = row(NAME if request.url.params["page"] == "2" else "other") | {"model_created": created}
        return httpx.Response(200, json=[wanted] * PAGE)

    assert history(handle).find(NAME, SINCE) == found


def test_the_number_of_pages_is_bounded() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["page"])
        return httpx.Response(200, json=[row("other")] * PAGE)

    with pytest.raises(HistoryUnavailable, match="more than 1000 pages") as caught:
        history(handle).find(NAME, SINCE, 999)
    assert caught.value.final
    assert asked == ["999", "1000"]


@pytest.mark.parametrize(
    ("status", "final"),
    [
        *((status, True) for status in (300, 301, 302, 400, 404, 410, 424, 426, 499)),
        *((status, False) for status in (201, 299, 401, 403, 408, 425, 429, 500, 503)),
    ],
)
def test_what_will_not_pass_is_distinguished(status: int, final: bool) -> None:
    with pytest.raises(HistoryUnavailable) as caught:
        find(httpx.Response(status))
    assert caught.value.final is final


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
def test_an_endless_response_is_given_up(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = [0.0]
    monkeypatch.setattr("posedrop.segmind.history.time.monotonic", lambda: now[0])
    with pytest.raises(HistoryUnavailable, match=r"more than|took too long"):
        find(httpx.Response(200, content=endless(seconds, now)))
    assert now[0] < 2 * SECONDS


def test_a_page_has_eight_mebibytes_at_most() -> None:
    content = json.dumps([row(NAME)]).encode().ljust(8 * 1024 * 1024)
    assert find(httpx.Response(200, content=content)) == "found"
    with pytest.raises(HistoryUnavailable, match="more than 8388608 bytes"):
        find(httpx.Response(200, content=content + b" "))


def test_a_page_that_is_asked_for_late_has_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, clock = [0.0], itertools.count(step=100)
    monkeypatch.setattr("posedrop.segmind.history.time.monotonic", lambda: now[0])
    with pytest.raises(HistoryUnavailable, match="took too long"):
        history(lambda _: httpx.Response(200, content=endless(0.5, now)), lambda: next(clock)).find(NAME, SINCE)
    assert now[0] == 1.5
