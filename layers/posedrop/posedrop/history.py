"""The provider's request history: did a request without an answer arrive?

The address is not part of the documented API (the official SDK 1.3.0 names it), so any fault here means only that
nothing is known.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

import httpx

from posedrop.answers import load_json, usable_request_id
from posedrop.bodies import read_body
from posedrop.errors import PosedropError
from posedrop.segmind import MODEL

PATH = "/inference-request/request-history"
PAGE = 100
PAGES = 30
PAGE_BYTES = 8 * 1024 * 1024
TIMEOUT = httpx.Timeout(5)
SECONDS = 15.0
"""For all pages together: the function that asks has little time left."""


class HistoryUnavailable(PosedropError):
    """The history cannot be asked, or its answer cannot be read."""


class History:
    """Asks for requests by the name that their image URLs carry. `transport` is for tests."""

    def __init__(self, base_url: str, api_key: Callable[[], str], transport: httpx.BaseTransport | None = None) -> None:
        self._url = f"{base_url.rstrip('/')}{PATH}"
        self._api_key = api_key
        self._client = httpx.Client(
            transport=transport,
            timeout=TIMEOUT,
            limits=httpx.Limits(max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
            headers={"accept-encoding": "identity"},
        )

    def find(self, name: str, sent_at: float) -> str | None:
        """The id of the request whose images were served under the file name `name`, or None.

        `sent_at` is when it was sent, in seconds since the epoch. Raises HistoryUnavailable, also where there is more
        in the history than can be looked through.
        """
        for row in self._rows(sent_at):
            request_id = usable_request_id(row.get("request_id"))
            if request_id and _names(row.get("request_body"), name):
                return request_id
        return None

    def _rows(self, sent_at: float) -> Iterator[Mapping[str, Any]]:
        # A day around it: the dates of the window have no time zone. It may span 31 days at most (official SDK 1.3.0).
        day, sent = timedelta(days=1), datetime.fromtimestamp(sent_at, UTC)
        deadline = time.monotonic() + SECONDS
        for page in range(1, PAGES + 1):
            query: dict[str, str | int] = {
                "page": page,
                "per_page": PAGE,
                "from_date": f"{sent - day:%Y-%m-%d}",
                "to_date": f"{sent + day:%Y-%m-%d}",
                "model_name": MODEL,
            }
            rows = _list(self._get(query, deadline))
            yield from rows
            if len(rows) < PAGE:
                return
        raise HistoryUnavailable(f"the request history has more than {PAGES * PAGE} rows of that time")

    def _get(self, query: Mapping[str, str | int], deadline: float) -> object:
        try:
            with self._client.stream(
                "GET", self._url, params=dict(query), headers={"x-api-key": self._api_key()}
            ) as response:
                if response.status_code != 200:
                    raise HistoryUnavailable(f"the request history answered {response.status_code}")
                return load_json(read_body(response, PAGE_BYTES, deadline).decode())
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, PosedropError) as exc:
            raise HistoryUnavailable(f"the request history cannot be asked: {type(exc).__name__}: {exc}") from exc
        except ValueError as exc:  # UnicodeError too, which httpx passes on from the host in a Location header
            raise HistoryUnavailable("the request history's answer is not JSON") from exc


def _list(answer: object) -> list[Mapping[str, Any]]:
    """The rows of a page, wherever they are: the name of their list is not documented."""
    candidates = [answer, *answer.values()] if isinstance(answer, dict) else [answer]
    for candidate in candidates:
        if isinstance(candidate, list):
            return [row for row in candidate if isinstance(row, dict)]
    raise HistoryUnavailable("the request history's answer has no rows")


def _names(request_body: object, name: str) -> bool:
    """Whether the request as it was sent carries the file name in a URL."""
    text = request_body if isinstance(request_body, str) else json.dumps(request_body)
    return f'filename="{name}"' in unquote_plus(text).replace("\\", "")
