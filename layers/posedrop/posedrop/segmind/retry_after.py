"""How long the other side of an HTTP call asks to be left alone: the Retry-After header. Pure."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRY_AFTER_CAP = 300.0
"""Seconds. A longer Retry-After is cut to this: the provider does not document the header."""


def retry_after(header: str | None, now: float) -> float | None:
    """Read a Retry-After header: the seconds to wait, from 0 to RETRY_AFTER_CAP, or None if it says nothing usable.

    Takes both of its forms (RFC 9110, 10.2.3): seconds, or an HTTP-date, which counts from `now` (seconds since the
    epoch, by the clock of whoever sent the header).
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        until = http_date(header)
        if until is None:
            return None
        seconds = max(until - now, 0.0)  # a date that is over asks for no wait
    # NaN compares false with everything, so it goes with the negative ones.
    return min(seconds, RETRY_AFTER_CAP) if seconds >= 0 else None


def requested_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Read the Retry-After of a response, as `retry_after` does, from all its headers (names in lower case).

    An HTTP-date counts from the response's own Date header: so it does not matter whether the two clocks agree. `now`
    (seconds since the epoch) stands in where there is none.
    """
    sent = http_date(headers.get("date", ""))
    return retry_after(headers.get("retry-after"), now if sent is None else sent)


def http_date(text: str) -> float | None:
    """Read an HTTP-date in any of its three formats (RFC 9110, 5.6.7): seconds since the epoch, None if it is none."""
    try:
        parsed = parsedate_to_datetime(text)
        # Only asctime's format names no zone, and means UTC.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
