"""What the provider's history says about one request, and about all requests between two times."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from posedrop.contract.errors import HistoryUnavailable
from posedrop.segmind.history import PATH, History
from posedrop.segmind.history_rows import PastRequest
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.outputs import parse_output

ID = "r-1"
SENT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


def row(request_id: str = ID, picture: int | None = None, at: float | None = SENT, **fields: Any) -> dict[str, Any]:
    """A row of a completed request, with one picture or none."""
    created = {} if at is None else {"model_created": datetime.fromtimestamp(at, UTC).isoformat()}
    url = {} if picture is None else {"generation_url": f"https://images.test/{picture}.png"}
    return {"request_id": request_id, "model_status": "COMPLETED", **created, **url, **fields}


class Account:
    """A history. `one` is the response about the request, `rows` is the list; each call takes some seconds."""

    def __init__(self, one: object, rows: list[dict[str, Any]] | httpx.Response, seconds: float = 0) -> None:
        self.one = one if isinstance(one, httpx.Response) else httpx.Response(200, json=one)
        self.rows = rows
        self.seconds = seconds
        self.now = 1000.0
        self.asked: list[str | int] = []
        self.days: set[tuple[str, str]] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.now += self.seconds
        name = request.url.path.removeprefix(PATH).removeprefix("/")
        if name:
            self.asked.append(name)
            return self.one
        page = int(request.url.params["page"])
        self.asked.append(page)
        self.days.add((request.url.params["from_date"], request.url.params["to_date"]))
        if isinstance(self.rows, httpx.Response):
            return self.rows
        return httpx.Response(200, json=self.rows[100 * (page - 1) : 100 * page])

    @property
    def history(self) -> History:
        transport = httpx.MockTransport(self)
        return History("https://history.test", lambda: "SG_0", CONSISTENT_CHARACTER, transport, lambda: self.now)


def pictures(found: PastRequest | None) -> list[str]:
    """The pictures of a request by their names."""
    assert found
    (names,) = [[str(source.url).rpartition("/")[2] for source in found.sources]]  # type: ignore[union-attr]
    return names


NOT_THERE = httpx.Response(404)
MANY = [row(f"other-{number}") for number in range(1000)]
"""Ten full pages about other requests."""


# ---- one request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "outputs"),
    [
        (row(picture=1), 1),
        ([row(picture=1), row(picture=2)], 2),
        (row(model_status="FAILED"), 2),
        (row(model_status="PENDING"), 1),
    ],
)
def test_a_request_that_is_known_by_its_id_needs_no_list(response: object, outputs: int) -> None:
    account = Account(response, MANY)
    found = account.history.get(ID, SENT, outputs)
    assert found
    assert found.request_id == ID
    assert account.asked == [ID]


def test_one_picture_is_enough_unless_more_are_expected() -> None:
    assert Account(row(picture=1), []).history.get(ID, SENT) == PastRequest(
        ID, "COMPLETED", tuple(parse_output("https://images.test/1.png")), created_at=SENT
    )
    assert pictures(Account(row(), [row(picture=1)]).history.get(ID, SENT)) == ["1.png"]
    account = Account(NOT_THERE, [row(picture=1), row(picture=2)])
    assert pictures(account.history.get(ID, SENT)) == ["1.png"]
    assert pictures(account.history.get(ID, SENT, 2)) == ["1.png", "2.png"]


def test_the_other_pictures_are_in_the_list_of_the_day_when_it_was_made() -> None:
    account = Account(row(picture=1, at=SENT + 86400), [*MANY[:50], row(picture=1), row(picture=2), *MANY], seconds=1)
    account.rows = [{**each, "model_created": row(at=SENT + 86400)["model_created"]} for each in account.rows]  # type: ignore[union-attr]
    assert pictures(account.history.get(ID, SENT, 2)) == ["1.png", "2.png"]
    assert account.asked == [ID, 1]
    assert account.days == {("2026-11-23", "2026-11-25")}


def test_a_request_that_has_no_time_is_searched_from_when_it_was_sent() -> None:
    account = Account(row(picture=1, at=None), [row(picture=2), row(picture=1)])
    assert pictures(account.history.get(ID, SENT, 2)) == ["2.png", "1.png"]
    assert account.days == {("2026-11-22", "2026-11-24")}


@pytest.mark.parametrize("rows", [[], MANY[:3], MANY[:250]])
def test_a_request_that_is_nowhere(rows: list[dict[str, Any]]) -> None:
    account = Account(NOT_THERE, rows)
    assert account.history.get(ID, SENT) is None
    assert account.asked == [ID, *range(1, len(rows) // 100 + 2)]


def test_what_has_more_pictures_is_returned() -> None:
    by_id = row(picture=1, credits_deduction=0.09)
    listed = [row(picture=2), row(picture=3)]
    assert pictures(Account(by_id, listed).history.get(ID, SENT, 3)) == ["2.png", "3.png"]
    for rows in ([], listed[:1]):
        found = Account(by_id, rows).history.get(ID, SENT, 3)
        assert pictures(found) == ["1.png"]
        assert found
        assert found.cost_usd == 0.09
    assert pictures(Account(row(), listed).history.get(ID, SENT, 3)) == ["2.png", "3.png"]
    assert Account(row(), []).history.get(ID, SENT) == PastRequest(ID, "COMPLETED", created_at=SENT)


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_fault_that_may_pass_says_nothing(status: int) -> None:
    account = Account(httpx.Response(status), [row(picture=1)])
    with pytest.raises(HistoryUnavailable, match=str(status)):
        account.history.get(ID, SENT)
    assert account.asked == [ID]
    with pytest.raises(HistoryUnavailable, match=str(status)):
        Account(row(picture=1), httpx.Response(status)).history.get(ID, SENT, 2)


def test_without_a_list_what_is_known_by_the_id_is_returned() -> None:
    assert pictures(Account(row(picture=1), NOT_THERE).history.get(ID, SENT, 2)) == ["1.png"]
    with pytest.raises(HistoryUnavailable, match="404"):
        Account(NOT_THERE, NOT_THERE).history.get(ID, SENT, 2)


@pytest.mark.parametrize(
    ("each", "given", "asked"),
    [
        (5.0, {}, [ID, 1, 2, 3]),  # 15 s are over after the third page
        (4.0, {}, [ID, 1, 2, 3]),
        (5.0, {"seconds": 6.0}, [ID, 1]),
        (3.0, {"seconds": 6.0}, [ID, 1, 2]),  # exactly in time, and one more
    ],
)
def test_a_list_that_is_too_long_for_the_time(each: float, given: dict[str, float], asked: list[object]) -> None:
    account = Account(NOT_THERE, MANY, each)
    with pytest.raises(HistoryUnavailable, match="too long for the time left") as caught:
        account.history.get(ID, SENT, **given)  # type: ignore[arg-type]
    assert account.asked == asked
    assert not caught.value.final


def test_a_list_that_ends_is_read_however_late_it_is() -> None:
    assert pictures(Account(NOT_THERE, [row(picture=1)], 60).history.get(ID, SENT, 2)) == ["1.png"]


# ---- all requests between two times ----------------------------------------------------------------------------------

HOUR = 3600.0


def ids(found: list[PastRequest]) -> list[str]:
    """The ids of requests."""
    return [past.request_id for past in found]


@pytest.mark.parametrize(
    ("at", "there"),
    [
        (SENT, True),
        (SENT + HOUR, True),
        (SENT - 300, True),
        (SENT - 301, False),
        (SENT + HOUR + 300, True),
        (SENT + HOUR + 301, False),
        (None, True),
    ],
)
def test_five_minutes_more_are_included_at_each_end(at: float | None, there: bool) -> None:
    account = Account(NOT_THERE, [row("r-2"), row("r-1", at=at), row("r-2", picture=1)])
    found, page = account.history.between(SENT, SENT + HOUR, 1, 60)
    assert ids(found) == (["r-2", "r-1"] if there else ["r-2"])
    assert page is None
    assert account.days == {("2026-11-22", "2026-11-24")}


@pytest.mark.parametrize(("count", "asked"), [(99, [1]), (100, [1, 2]), (199, [1, 2]), (200, [1, 2, 3])])
def test_a_full_page_is_not_the_last(count: int, asked: list[int]) -> None:
    account = Account(NOT_THERE, MANY[:count])
    found, page = account.history.between(SENT, SENT, 1, 60)
    assert ids(found) == [each["request_id"] for each in MANY[:count]]
    assert (account.asked, page) == (asked, None)


@pytest.mark.parametrize(("each", "asked", "next_page"), [(5.0, [3, 4, 5], 6), (4.0, [3, 4, 5], 6), (11.0, [3], 4)])
def test_it_continues_at_the_next_page_when_the_time_is_over(each: float, asked: list[int], next_page: int) -> None:
    account = Account(NOT_THERE, MANY, each)
    found, page = account.history.between(SENT, SENT, 3, 10)
    assert (account.asked, page) == (asked, next_page)
    assert len(found) == 100 * len(asked)


def test_the_last_page_is_the_end_however_late_it_is() -> None:
    found, page = Account(NOT_THERE, MANY[:3], 60).history.between(SENT, SENT, 1, 10)
    assert (len(found), page) == (3, None)


def test_one_response_has_a_hundred_pages_at_most() -> None:
    content = json.dumps([{"request_id": ID}] * 100).encode()
    account = Account(NOT_THERE, httpx.Response(200, content=content))
    found, page = account.history.between(SENT, SENT, 5, 60)
    assert (account.asked, page) == ([*range(5, 105)], 105)
    assert len(found) == 100


@pytest.mark.parametrize(("before", "asked"), [(300, [1, 2]), (301, [1])])
def test_pages_of_an_earlier_time_are_not_read(before: float, asked: list[int]) -> None:
    account = Account(NOT_THERE, [row("early", at=SENT - before)] * 100)
    account.history.between(SENT, SENT, 1, 60)
    assert account.asked == asked
