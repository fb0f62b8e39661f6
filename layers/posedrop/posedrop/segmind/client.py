"""The client of Segmind's asynchronous (v2) API.

It never sends the key to another host: URLs are built from the base and the request id, not taken from answers, and
redirects are not followed. Foreign errors are translated here, once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from posedrop.contract.errors import (
    AccountRefused,
    PosedropError,
    ProviderUnavailable,
    RateLimited,
    Refused,
    Rejected,
    ServerFault,
    StatusUnavailable,
    SubmitOutcomeUnknown,
)
from posedrop.segmind.bodies import BodyTooLarge, read_body
from posedrop.segmind.http import http_client
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec
from posedrop.segmind.responses import ProviderResponse, cut, parse_credits, parse_response, redact
from posedrop.segmind.retry_after import requested_wait

SMALL_ANSWER = 1024 * 1024
RESULT_ANSWER = 32 * 1024 * 1024
"""A result that carries its images as base64 may have 32 MiB."""

CREDITS_PATH = "/v1/get-user-credits"

COMPLETED = "COMPLETED"
FAILED = "FAILED"
END_STATUSES = (200, 422)
"""The HTTP statuses that a job's end comes with: COMPLETED as 200, FAILED as 422 (provider's API page). A gateway that
answers 429 or 500 may have a `status` in its body as well, which is not the job's."""

# The exceptions after which the provider cannot have seen the request: no connection was made.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
# UnicodeError: httpx passes on what idna raises of the host in a Location header.
_NO_ANSWER = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError)


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
        """Timeouts of a call that is over after `seconds`."""
        return cls(connect=seconds / 6, write=seconds / 6, read=seconds * 4 / 6)


GET_TIMEOUTS = Timeouts.within(20)


class Segmind:
    """The calls that the pipeline makes: a submit, two GETs of a request, and one of the account.

    `api_key` is called for each request, so that a rotated key is picked up. `transport` and `clock` (seconds since the
    epoch) are for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        model: ModelSpec = CONSISTENT_CHARACTER,
    ) -> None:
        self.model = model
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._clock = clock
        self._client = http_client(transport)

    def submit(self, body: dict[str, Any], timeouts: Timeouts) -> str:
        """Submit one job, once, and return its request id.

        Raises Rejected or NotAccepted (AccountRefused, Refused, RateLimited, ProviderUnavailable) where the provider
        did not accept it, ServerFault after 500, 502 and 503, and SubmitOutcomeUnknown in every other case: after
        these two the job may exist and be billed.
        """
        headers = {"x-api-key": self._api_key()}
        url = f"{self._base_url}{self.model.path}"
        try:
            status, response_headers, content = self._call("POST", url, headers, timeouts, SMALL_ANSWER, body)
        except _NEVER_SENT as exc:
            raise ProviderUnavailable(f"no connection to the provider: {_reason(exc)}") from exc
        except (*_NO_ANSWER, BodyTooLarge) as exc:
            raise SubmitOutcomeUnknown(f"no response to the request: {_reason(exc)}") from exc
        parsed = parse_response(status, content)
        if 200 <= status < 300:
            if parsed.request_id:
                return parsed.request_id
            found = "without a request id" if parsed.named_id is None else "with a request id that cannot be used"
            raise SubmitOutcomeUnknown(f"the provider answered {status} {found}")
        raise submit_error(status, parsed.error, requested_wait(response_headers, self._clock()))

    def status(self, request_id: str) -> ProviderResponse:
        """How a job is doing. Its state is set, and is COMPLETED or FAILED at its end. Raises StatusUnavailable."""
        return self._get(request_id, "/status", SMALL_ANSWER)

    def result(self, request_id: str) -> ProviderResponse:
        """A job's end with its output. Its state is set. Raises StatusUnavailable."""
        return self._get(request_id, "", RESULT_ANSWER)

    def credits(self) -> float:
        """What is left on the account, in USD (provider's documentation, account and billing).

        Raises StatusUnavailable.
        """
        status, response_headers, content = self._fetch(f"{self._base_url}{CREDITS_PATH}", SMALL_ANSWER)
        if status != 200:
            wait = requested_wait(response_headers, self._clock())
            raise StatusUnavailable(f"the provider answered {status}", status, wait)
        found = parse_credits(content)
        if found is None:
            raise StatusUnavailable("the provider does not say what is left on the account", status)
        return found

    def _get(self, request_id: str, path: str, limit: int) -> ProviderResponse:
        url = f"{self._base_url}/v2/requests/{quote(request_id, safe='')}{path}"
        status, response_headers, content = self._fetch(url, limit)
        parsed = parse_response(status, content)
        wait = requested_wait(response_headers, self._clock())
        success, ended = 200 <= status < 300, parsed.state in (COMPLETED, FAILED)
        # In the body of any other error such an id may be the name of this very GET in a gateway's log.
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
        except (*_NO_ANSWER, BodyTooLarge) as exc:
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
    """The error of a submit that was answered with an HTTP `status` other than 2xx. Pure.

    `text` is the provider's reason, `retry_after` the seconds that it asked for; None where it said nothing.
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
