"""Search the provider's request history for requests of unknown outcome, and for the images of a request.

The endpoint is not part of the documented API (the official SDK 1.3.0 uses it). So an error here never ends a job. It
only means that the history could not be searched.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from posedrop.contract.errors import HistoryUnavailable, HistoryUnfinished, PosedropError
from posedrop.segmind.bodies import read_body
from posedrop.segmind.history_rows import PastRequest, past_requests, row_time, rows_of, rows_of_one
from posedrop.segmind.http import http_client
from posedrop.segmind.model import ModelSpec
from posedrop.segmind.responses import load_json

PATH = "/inference-request/request-history"
PAGE = 100
PAGE_BYTES = 8 * 1024 * 1024
TIMEOUT = httpx.Timeout(5)
SECONDS = 15.0
"""The time for all pages of one search, because the function has little time left."""
LAST_PAGE = 1000
"""Pages after this one are not read. It would take 100,000 requests within two days to have more."""
MOST_PAGES = 100
"""The most pages that are read for one response of the function, because Lambda limits the response's size."""
MARGIN = 300.0
"""Rows are read until they are this many seconds older than the request, because clocks differ."""


class History:
    """Searches for requests by the file name in their image URLs. `transport` and `clock` are for tests."""

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        model: ModelSpec,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._url = f"{base_url.rstrip('/')}{PATH}"
        self._api_key = api_key
        self._clock = clock
        self._client = http_client(transport, TIMEOUT)

    def find(self, name: str, sent_at: float, page: int = 1) -> str | None:
        """Return the id of the request whose images had the file name `name`, or None if there is no such request.

        `sent_at` is when it was sent (seconds since the epoch). Rows are read newest first, starting at `page`, until
        they are some minutes older than that. Raises HistoryUnavailable, and HistoryUnfinished after SECONDS.
        """
        deadline = self._clock() + SECONDS
        begin = page
        while True:
            if self._clock() > deadline and page > begin:
                # New rows may have moved older ones to the next page, so read one page again. Always advance by one.
                raise HistoryUnfinished(max(begin + 1, page - 1))
            rows = self._page(_query(self._model.name, sent_at, sent_at, page), deadline)
            for past in past_requests(rows).values():
                if name in past.names:
                    return past.request_id
            if _is_last(rows, page, sent_at):
                return None
            page += 1

    def get(self, request_id: str, sent_at: float, outputs: int = 1, seconds: float = SECONDS) -> PastRequest | None:
        """Return what the history says about a request id, or None if the history does not have it.

        The request is first read by its id. A row is one picture, and the response may have only one of several rows.
        So if it has fewer than `outputs` pictures, the list is read, too, from `sent_at` (seconds since the epoch) on.
        Takes about `seconds` at most. Raises HistoryUnavailable.
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
        """Return the requests between two times (seconds since the epoch; at most 28 days), and the next page or None.

        The newest requests come first, starting at `page`. Some minutes before and after the two times are included.
        Reading stops after about `seconds`. Raises HistoryUnavailable.
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
                raise HistoryUnavailable("the request history is too long for the time left")

    def _pages(
        self, first: float, last: float, page: int, deadline: float
    ) -> Iterator[tuple[list[Mapping[str, Any]], int | None]]:
        """Yield page by page: the rows between two times, and the number of the next page or None."""
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
                return None  # not found, or not readable by id: the list may have it
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
            raise HistoryUnavailable(f"the request history cannot be read: {type(exc).__name__}: {exc}") from exc
        except ValueError as exc:  # also UnicodeError, which httpx raises for the host in a Location header
            raise HistoryUnavailable("the request history's response is not JSON") from exc


def _is_last(rows: Sequence[Mapping[str, Any]], page: int, first: float) -> bool:
    """Return whether older pages have only rows from before `first`. Raises HistoryUnavailable after LAST_PAGE."""
    created = [at for at in (row_time(row.get("model_created")) for row in rows) if at is not None]
    if len(rows) < PAGE or (created and max(created) < first - MARGIN):
        return True
    if page >= LAST_PAGE:
        raise HistoryUnavailable(f"the request history has more than {LAST_PAGE} pages", final=True)
    return False


def _query(model: str, first: float, last: float, page: int) -> dict[str, str | int]:
    # One day more at each end, because the dates have no time zone. The window may span 31 days (official SDK 1.3.0).
    day = timedelta(days=1)
    return {
        "page": page,
        "per_page": PAGE,
        "from_date": f"{datetime.fromtimestamp(first, UTC) - day:%Y-%m-%d}",
        "to_date": f"{datetime.fromtimestamp(last, UTC) + day:%Y-%m-%d}",
        "sort_order": "desc",
        "model_name": model,
    }
