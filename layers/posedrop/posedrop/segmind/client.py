"""The client of Segmind's asynchronous (v2) API.

The client never sends the key to another host: it builds URLs from the base and the request id, never from a response,
and it follows no redirects. Errors of httpx are translated here, once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from posedrop.contract.errors import (
    AccountRefused,
    BodyTooLarge,
    PosedropError,
    ProviderUnavailable,
    RateLimited,
    Refused,
    Rejected,
    ServerFault,
    StatusUnavailable,
    SubmitOutcomeUnknown,
)
from posedrop.segmind.bodies import read_body
from posedrop.segmind.http import http_client
from posedrop.segmind.model import ModelSpec
from posedrop.segmind.responses import ProviderResponse, cut, parse_credits, parse_response, redact
from posedrop.segmind.retry_after import requested_wait

SMALL_RESPONSE = 1024 * 1024
RESULT_RESPONSE = 32 * 1024 * 1024
"""The most bytes of a result, which may contain its images as base64."""

CREDITS_PATH = "/v1/get-user-credits"

COMPLETED = "COMPLETED"
FAILED = "FAILED"
END_STATUSES = (200, 422)
"""The HTTP statuses of a finished job: 200 for COMPLETED, 422 for FAILED (provider's API page). A gateway's 429 or 500
may also have a `status` in its body, but that is not the job's status."""

# After these exceptions the provider cannot have received the request: there was no connection.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
# UnicodeError: httpx does not translate what idna raises for the host in a Location header.
_NO_RESPONSE = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError)


@dataclass(frozen=True)
class Timeouts:
    """Seconds for one call."""

    connect: float
    write: float
    read: float

    @property
    def total(self) -> float:
        """The longest that a call may take, in seconds."""
        return self.connect + self.write + self.read

    @classmethod
    def within(cls, seconds: float) -> "Timeouts":
        """Return timeouts that sum to `seconds`."""
        return cls(connect=seconds / 6, write=seconds / 6, read=seconds * 4 / 6)


GET_TIMEOUTS = Timeouts.within(20)


class Segmind:
    """The calls to the provider: submit a job, get its status or result, get the account's credits.

    `api_key` is called for each request, so that a rotated key is used. `renew_key` reads the key again, and returns
    whether it has changed. `transport` and `clock` (seconds since the epoch) are for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        model: ModelSpec,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        renew_key: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model = model
        self._renew_key = renew_key
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._clock = clock
        self._client = http_client(transport)

    def submit(self, body: dict[str, Any], timeouts: Timeouts) -> str:
        """Submit one job, once, and return its request id.

        Raises:
        - Rejected or NotAccepted (AccountRefused, Refused, RateLimited, ProviderUnavailable): it was not accepted.
        - ServerFault, after 500, 502 and 503: it may exist and be billed.
        - SubmitOutcomeUnknown, in every other case: it may exist and be billed.
        """
        headers = {"x-api-key": self._api_key()}
        url = f"{self._base_url}{self.model.path}"
        try:
            status, response_headers, content = self._call("POST", url, headers, timeouts, SMALL_RESPONSE, body)
        except _NEVER_SENT as exc:
            raise ProviderUnavailable(f"no connection to the provider: {_reason(exc)}") from exc
        except (*_NO_RESPONSE, BodyTooLarge) as exc:
            raise SubmitOutcomeUnknown(f"no response to the request: {_reason(exc)}") from exc
        parsed = parse_response(status, content)
        if 200 <= status < 300:
            if parsed.request_id:
                return parsed.request_id
            found = "without a request id" if parsed.named_id is None else "with a request id that cannot be used"
            raise SubmitOutcomeUnknown(f"the provider answered {status} {found}")
        raise submit_error(status, parsed.error, requested_wait(response_headers, self._clock()))

    def status(self, request_id: str) -> ProviderResponse:
        """Return a job's status. `state` is always set, to COMPLETED or FAILED at the end. Raises StatusUnavailable."""
        return self._get(request_id, "/status", SMALL_RESPONSE)

    def result(self, request_id: str) -> ProviderResponse:
        """Return a finished job's result with its output. Its `state` is always set. Raises StatusUnavailable."""
        return self._get(request_id, "", RESULT_RESPONSE)

    def credits(self) -> float:
        """Return the credits left on the account, in USD (provider's documentation, account and billing).

        Raises StatusUnavailable.
        """
        status, response_headers, content = self._fetch(f"{self._base_url}{CREDITS_PATH}", SMALL_RESPONSE)
        if status != 200:
            wait = requested_wait(response_headers, self._clock())
            raise StatusUnavailable(f"the provider answered {status}", status, wait)
        found = parse_credits(content)
        if found is None:
            raise StatusUnavailable("the provider's response has no credits", status)
        return found

    def renew_key(self) -> bool:
        """Read the API key again after the provider refused it. Return whether it has changed."""
        return self._renew_key()

    def _get(self, request_id: str, path: str, limit: int) -> ProviderResponse:
        url = f"{self._base_url}/v2/requests/{quote(request_id, safe='')}{path}"
        status, response_headers, content = self._fetch(url, limit)
        parsed = parse_response(status, content)
        wait = requested_wait(response_headers, self._clock())
        success, ended = 200 <= status < 300, parsed.state in (COMPLETED, FAILED)
        # In other errors, a gateway may use the field `request_id` for its own id of this GET.
        if (success or status in END_STATUSES) and parsed.named_id not in (None, request_id):
            named = cut(redact(str(parsed.named_id)), 128)
            raise StatusUnavailable(f"the provider answered {status} about another request: {named}", None, wait)
        if status in END_STATUSES if ended else success and parsed.state:
            return parsed
        text = f"the provider answered {status}" + (f": {parsed.error}" if parsed.error else "")
        raise StatusUnavailable(text, status, wait)

    def _fetch(self, url: str, limit: int) -> tuple[int, httpx.Headers, bytes]:
        try:
            return self._call("GET", url, {"x-api-key": self._api_key()}, GET_TIMEOUTS, limit)
        except AccountRefused as exc:
            raise StatusUnavailable(str(exc)) from exc
        except (*_NO_RESPONSE, BodyTooLarge) as exc:
            raise StatusUnavailable(f"no response from the provider: {_reason(exc)}") from exc

    def _call(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        timeouts: Timeouts,
        limit: int,
        body: dict[str, Any] | None = None,
    ) -> tuple[int, httpx.Headers, bytes]:
        timeout = httpx.Timeout(None, connect=timeouts.connect, write=timeouts.write, read=timeouts.read, pool=1.0)
        deadline = time.monotonic() + timeouts.total
        with self._client.stream(method, url, headers=headers, json=body, timeout=timeout) as response:
            return response.status_code, response.headers, read_body(response, limit, deadline)


def submit_error(status: int, text: str | None, retry_after: float | None) -> PosedropError:
    """Return the error of a submit whose response has an HTTP `status` other than 2xx. Pure.

    `text` is the provider's reason, `retry_after` the wait that it asked for in seconds. Both may be None.
    """
    message = f"the provider answered {status}" + (f": {text}" if text else "")
    error: PosedropError
    match status:
        case 401:
            error = AccountRefused(message, status)
        case 403 | 404 | 406:
            error = Refused(message, status)
        case 429:
            error = RateLimited(message, retry_after)
        case 500 | 502 | 503:
            error = ServerFault(message, retry_after)
        case _ if 400 <= status < 500 and status != 408:
            error = Rejected(message)
        case _:
            error = SubmitOutcomeUnknown(message)
    return error


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {redact(str(exc))}" if str(exc) else type(exc).__name__
