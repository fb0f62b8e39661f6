"""The provider's request history: does a request exist of which no usable response came, and what did it make?

The address is not part of the documented API (the official SDK 1.3.0 names it), so any fault here means only that
the history cannot say.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from posedrop.contract.errors import PosedropError
from posedrop.segmind.bodies import read_body
from posedrop.segmind.history_rows import PastRequest, past_requests, row_time, rows_of, rows_of_one
from posedrop.segmind.http import http_client
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec
from posedrop.segmind.responses import load_json

PATH = "/inference-request/request-history"
PAGE = 100
PAGE_BYTES = 8 * 1024 * 1024
TIMEOUT = httpx.Timeout(5)
SECONDS = 15.0
"""For all pages of one search together: the function has little time left."""
LAST_PAGE = 1000
"""Further pages are not read: whoever sends 100,000 requests in two days has another way to find one."""
MOST_PAGES = 100
"""Pages that are read for one response of a function, whose size is bounded."""
MARGIN = 300.0
"""Seconds before a request at which the search for it ends: clocks differ."""


class HistoryUnavailable(PosedropError):
    """The history cannot say. `final`: it will not be able to later either."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class HistoryUnfinished(PosedropError):
    """The time for one search is over. It goes on at `page`."""

    def __init__(self, page: int) -> None:
        super().__init__("the provider's history is long: the search goes on")
        self.page = page


class History:
    """Searches for requests by the name that their image URLs carry. `transport` and `clock` are for tests."""

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        model: ModelSpec = CONSISTENT_CHARACTER,
    ) -> None:
        self._model = model
        self._url = f"{base_url.rstrip('/')}{PATH}"
        self._api_key = api_key
        self._clock = clock
        self._client = http_client(transport, TIMEOUT)

    def find(self, name: str, sent_at: float, page: int = 1) -> str | None:
        """The id of the request whose images were served under the file name `name`, or None: there is none.

        `sent_at` is when it was sent, in seconds since the epoch. The rows are read newest first from `page` on, until
        they are some minutes older than that. Raises HistoryUnavailable, and HistoryUnfinished after SECONDS.
        """
        deadline = self._clock() + SECONDS
        begin = page
        while True:
            if self._clock() > deadline and page > begin:
                # One page again, in case that rows have moved; but never all that was read, lest it does not get on.
                raise HistoryUnfinished(max(begin + 1, page - 1))
            rows = self._page(_query(self._model.name, sent_at, sent_at, page), deadline)
            for past in past_requests(rows).values():
                if name in past.names:
                    return past.request_id
            if _is_last(rows, page, sent_at):
                return None
            page += 1

    def get(self, request_id: str, sent_at: float, outputs: int = 1, seconds: float = SECONDS) -> PastRequest | None:
        """What became of a request whose id is known, or None: the history does not have it.

        It is asked for by its id first. A response of fewer than `outputs` pictures may be one row of several: then the
        list is read, from about when it was sent (`sent_at`, seconds since the epoch) on. All of it takes at most about
        `seconds`. Raises HistoryUnavailable.
        """
        deadline = self._clock() + seconds
        found = self._by_id(request_id, deadline)
        if found and (found.state != "COMPLETED" or len(found.sources) >= outputs):
            return found
        rows: list[Mapping[str, Any]] = []
        begin = found.created_at if found and found.created_at else sent_at
        try:
            for row in self._rows(begin, begin, deadline):
                if row.get("request_id") == request_id:
                    rows.append(row)
                    listed = past_requests(rows)[request_id]
                    if len(listed.sources) >= outputs:
                        return listed
        except HistoryUnavailable as exc:
            if found is None or not exc.final:
                raise
        best = past_requests(rows).get(request_id)
        return best if best and (found is None or len(best.sources) > len(found.sources)) else found

    def between(self, first: float, last: float, page: int, seconds: float) -> tuple[list[PastRequest], int | None]:
        """The requests between two times (seconds since the epoch; at most 28 days), some minutes more at each end.

        The newest come first, from a page on, for about so many seconds. Returns them, and the page at which it goes
        on, None at the end. Raises HistoryUnavailable.
        """
        deadline, found = self._clock() + seconds, []
        for rows, next_page in self._pages(first, last, page, deadline):
            found += list(past_requests(rows).values())
            if next_page and (self._clock() > deadline or next_page >= page + MOST_PAGES):
                return found, next_page
        return found, None

    def _rows(self, first: float, last: float, deadline: float) -> Iterator[Mapping[str, Any]]:
        """Yield the rows between two times. Raises HistoryUnavailable, also after the deadline."""
        for rows, next_page in self._pages(first, last, 1, deadline):
            yield from rows
            if next_page and self._clock() > deadline:
                raise HistoryUnavailable("the request history is too long for the time that was left")

    def _pages(
        self, first: float, last: float, page: int, deadline: float
    ) -> Iterator[tuple[list[Mapping[str, Any]], int | None]]:
        """Yield, page by page, the rows between two times, and which page is next."""
        while True:
            rows = self._page(_query(self._model.name, first, last, page), deadline)
            ended = _is_last(rows, page, first)
            page += 1
            times = ((row, row_time(row.get("model_created"))) for row in rows)
            wanted = [row for row, at in times if at is None or first - MARGIN <= at <= last + MARGIN]
            yield wanted, None if ended else page
            if ended:
                return

    def _by_id(self, request_id: str, deadline: float) -> PastRequest | None:
        try:
            response = self._get(f"{self._url}/{quote(request_id, safe='')}", {}, deadline)
        except HistoryUnavailable as exc:
            if exc.final:
                return None  # not there, or not to be asked for by its id: the list knows
            raise
        return past_requests(rows_of_one(response, request_id)).get(request_id)

    def _page(self, query: Mapping[str, str | int], deadline: float) -> list[Mapping[str, Any]]:
        rows = rows_of(self._get(self._url, query, deadline))
        if rows is None:
            raise HistoryUnavailable("the request history's response has no rows")
        return rows

    def _get(self, url: str, query: Mapping[str, str | int], deadline: float) -> object:
        try:
            with self._client.stream(
                "GET", url, params=dict(query), headers={"x-api-key": self._api_key()}
            ) as response:
                status = response.status_code
                if status != 200:
                    final = 300 <= status < 500 and status not in (401, 403, 408, 425, 429)
                    raise HistoryUnavailable(f"the request history answered {status}", final=final)
                left = max(1.0, deadline - self._clock())
                return load_json(read_body(response, PAGE_BYTES, time.monotonic() + left).decode())
        except HistoryUnavailable:
            raise
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, PosedropError) as exc:
            raise HistoryUnavailable(f"the request history cannot be asked: {type(exc).__name__}: {exc}") from exc
        except ValueError as exc:  # UnicodeError too, which httpx passes on from the host in a Location header
            raise HistoryUnavailable("the request history's response is not JSON") from exc


def _is_last(rows: Sequence[Mapping[str, Any]], page: int, first: float) -> bool:
    """Whether no older page can have what is looked for from a time on. Raises HistoryUnavailable after LAST_PAGE."""
    created = [at for at in (row_time(row.get("model_created")) for row in rows) if at is not None]
    if len(rows) < PAGE or (created and max(created) < first - MARGIN):
        return True
    if page >= LAST_PAGE:
        raise HistoryUnavailable(f"the request history has more than {LAST_PAGE} pages", final=True)
    return False


def _query(model: str, first: float, last: float, page: int) -> dict[str, str | int]:
    # A day around it: the dates of the window have no time zone. It may span 31 days at most (official SDK 1.3.0).
    day = timedelta(days=1)
    return {
        "page": page,
        "per_page": PAGE,
        "from_date": f"{datetime.fromtimestamp(first, UTC) - day:%Y-%m-%d}",
        "to_date": f"{datetime.fromtimestamp(last, UTC) + day:%Y-%m-%d}",
        "sort_order": "desc",
        "model_name": model,
    }
