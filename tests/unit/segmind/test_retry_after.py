"""Retry-After, in both of its forms."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.segmind.retry_after import RETRY_AFTER_CAP, requested_wait, retry_after

NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC).timestamp()


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("17", 17),
        (" 17 ", 17),
        ("1.5", 1.5),
        ("9999", RETRY_AFTER_CAP),
        ("1e999", RETRY_AFTER_CAP),
        ("inf", RETRY_AFTER_CAP),
        ("-5", None),
        ("-0.5", None),
        ("nan", None),
        ("soon", None),
        ("17 s", None),
        ("17, 18", None),
        ("Wed, 21 Oct 2026 07:28:40 GMT", 40),
        ("Wed, 21 Oct 2026 07:28:40 +0000", 40),
        ("Wednesday, 21-Oct-26 07:28:40 GMT", 40),
        ("Wed Oct 21 07:28:40 2026", 40),
        ("Wed, 21 Oct 2026 09:28:40 +0200", 40),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2026 07:27:20 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 21 Oct 2026 08:28:00 GMT", RETRY_AFTER_CAP),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_CAP),
        ("Wed, 21 Oct 2026", None),
        ("Wed, 41 Oct 2026 07:28:40 GMT", None),
        ("Wed, 21 Oct 99999 07:28:40 GMT", None),
        ("2026-10-21T07:28:40Z", None),
    ],
)
def test_both_forms_are_read_and_capped(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize(("asked", "seconds"), [(299, 299), (300, 300), (301, 300)])
def test_a_server_may_ask_for_five_minutes_and_no_more(asked: int, seconds: int) -> None:
    assert retry_after(str(asked), NOW) == retry_after(http_date(NOW + asked), NOW) == seconds


@given(st.integers(0, 400), st.integers(0, 4 * 10**9))
def test_a_date_asks_for_as_long_as_its_seconds_do(seconds: int, now: int) -> None:
    assert retry_after(http_date(now + seconds), now) == retry_after(str(seconds), now) == min(seconds, RETRY_AFTER_CAP)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,12} \d\d:\d\d:\d\d( GMT| [+-]\d{4,9})?"))
def test_no_header_breaks_it(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or (math.isfinite(found) and 0 <= found <= RETRY_AFTER_CAP)
    assert requested_wait({"retry-after": http_date(NOW + 40), "date": header}, NOW) is not None


@pytest.mark.parametrize("skew", [-7200, -30, 0, 30, 7200])
def test_a_date_counts_from_the_response_s_own(skew: float) -> None:
    headers = httpx.Headers({"Date": http_date(NOW + skew), "Retry-After": http_date(NOW + skew + 40)})
    assert requested_wait(headers, NOW) == 40


@pytest.mark.parametrize("date", [{}, {"Date": ""}, {"Date": "today"}])
def test_without_a_usable_date_it_counts_from_now(date: dict[str, str]) -> None:
    assert requested_wait(httpx.Headers({"Retry-After": http_date(NOW + 40), **date}), NOW) == 40


def test_seconds_need_no_clock() -> None:
    assert requested_wait(httpx.Headers({"Retry-After": "40", "Date": "today"}), math.nan) == 40
