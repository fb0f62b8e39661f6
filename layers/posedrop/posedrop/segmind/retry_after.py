"""Read the Retry-After header: how long a server asks the client to wait. Pure."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRY_AFTER_CAP = 300.0
"""Seconds. A longer Retry-After is cut to this: the provider does not document the header."""


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, from 0 to RETRY_AFTER_CAP, or None if it is not usable.

    Both forms are accepted (RFC 9110, 10.2.3): seconds, or an HTTP-date. The wait until a date is counted from `now`
    (seconds since the epoch, by the server's clock).
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        until = http_date(header)
        if until is None:
            return None
        seconds = max(until - now, 0.0)  # a date in the past asks for no wait
    # NaN compares false with everything, so it is rejected like a negative number.
    return min(seconds, RETRY_AFTER_CAP) if seconds >= 0 else None


def requested_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a response's Retry-After asks for, as `retry_after` does. Header names are in lower case.

    A date is counted from the response's own Date header, so the two clocks need not agree. If there is no Date header,
    it is counted from `now` (seconds since the epoch).
    """
    sent = http_date(headers.get("date", ""))
    return retry_after(headers.get("retry-after"), now if sent is None else sent)


def http_date(text: str) -> float | None:
    """Return an HTTP-date (RFC 9110, 5.6.7, all three formats) as seconds since the epoch, or None if it is invalid."""
    try:
        parsed = parsedate_to_datetime(text)
        # Only the asctime format has no zone. It is UTC.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
