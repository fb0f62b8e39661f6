"""The provider's request history: does a request exist that no usable response told of?

The address is not part of the documented API (the official SDK 1.3.0 names it), so any fault here means only that
the history cannot say.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from posedrop.answers import load_json, usable_request_id
from posedrop.bodies import read_body
from posedrop.errors import PosedropError
from posedrop.segmind import MODEL
from posedrop.version import USER_AGENT

PATH = "/inference-request/request-history"
PAGE = 100
PAGE_BYTES = 8 * 1024 * 1024
TIMEOUT = httpx.Timeout(5)
SECONDS = 15.0
"""For all pages of one search together: the function has little time left."""
LAST_PAGE = 1000
"""Further pages are not read: whoever sends 100,000 requests in two days has another way to find one."""
MARGIN = 300.0
"""Seconds before a request at which the search for it ends: clocks differ."""
URL_FIELDS = ("face_image", "pose_image")
DEPTH = 4


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
    ) -> None:
        self._url = f"{base_url.rstrip('/')}{PATH}"
        self._api_key = api_key
        self._clock = clock
        self._client = httpx.Client(
            transport=transport,
            timeout=TIMEOUT,
            limits=httpx.Limits(max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
            headers={"accept-encoding": "identity", "user-agent": USER_AGENT},
        )

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
            rows = _list(self._get(_query(sent_at, page), deadline))
            for row in rows:
                request_id = usable_request_id(row.get("request_id"))
                if request_id and _serves(row.get("request_body"), name):
                    return request_id
            created = [at for at in (_time(row.get("model_created")) for row in rows) if at is not None]
            if len(rows) < PAGE or (created and max(created) < sent_at - MARGIN):
                return None
            if page >= LAST_PAGE:
                raise HistoryUnavailable(f"the request history has more than {LAST_PAGE} pages", final=True)
            page += 1

    def _get(self, query: Mapping[str, str | int], deadline: float) -> object:
        try:
            with self._client.stream(
                "GET", self._url, params=dict(query), headers={"x-api-key": self._api_key()}
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


def _query(sent_at: float, page: int) -> dict[str, str | int]:
    # A day around it: the dates of the window have no time zone. It may span 31 days at most (official SDK 1.3.0).
    day, sent = timedelta(days=1), datetime.fromtimestamp(sent_at, UTC)
    return {
        "page": page,
        "per_page": PAGE,
        "from_date": f"{sent - day:%Y-%m-%d}",
        "to_date": f"{sent + day:%Y-%m-%d}",
        "sort_order": "desc",
        "model_name": MODEL,
    }


def _list(response: object) -> list[Mapping[str, Any]]:
    """The rows of a page, wherever they are: the name of their list is not documented."""
    candidates = [response, *response.values()] if isinstance(response, dict) else [response]
    for candidate in candidates:
        if isinstance(candidate, list):
            return [row for row in candidate if isinstance(row, dict)]
    raise HistoryUnavailable("the request history's response has no rows")


def _time(value: object) -> float | None:
    """A row's time in seconds since the epoch, or None: its format is not documented. Without a zone it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _serves(request_body: object, name: str) -> bool:
    """Whether an image URL of the request asks to be served under the file name. Nothing else identifies a request:
    what a user writes, the prompt above all, may hold any name.
    """
    if isinstance(request_body, str):
        try:
            request_body = load_json(request_body)
        except ValueError:
            return False
    return any(_file_name(url) == name for url in _image_urls(request_body, DEPTH))


def _image_urls(value: object, depth: int) -> Iterator[object]:
    """What stands in the image fields, wherever they are: the shape of a row's request_body is not documented."""
    if not isinstance(value, dict) or not depth:
        return
    for key, inner in value.items():
        if key in URL_FIELDS:
            yield from inner if isinstance(inner, list) else [inner]
        else:
            yield from _image_urls(inner, depth - 1)


def _file_name(url: object) -> str | None:
    """The file name that a presigned URL asks S3 to serve the object under, or None."""
    if not isinstance(url, str):
        return None
    try:
        dispositions = parse_qs(urlsplit(url).query).get("response-content-disposition", [])
    except ValueError:
        return None
    _, marker, rest = (dispositions[0] if len(dispositions) == 1 else "").partition('filename="')
    return rest.removesuffix('"') if marker and rest.endswith('"') else None
