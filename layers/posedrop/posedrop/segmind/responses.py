"""Parse the provider's responses. No body makes these functions raise an error, whatever its bytes are.

The provider's texts appear in notifications and logs, so they are redacted: a query string may contain the signature of
a presigned URL, and a long run of base64 may be one of the images.
"""

import html
import json
import re
from dataclasses import dataclass

ERROR_BYTES = 1024
MAX_DEPTH = 6
MAX_PARTS = 100_000  # lists and objects: each needs far more memory than its two bytes
LONGEST_SECONDS = 1e6  # a longer time is not a real one, and DynamoDB cannot store every number
OUTPUT_KEYS = ("output", "outputs", "images", "image_urls", "image_url", "image")
HIGHEST_COST = 1000.0  # USD; a higher cost of a request is not a real one
HIGHEST_CREDITS = 1e9  # USD; the same for the credits
NOT_FOUND_APART = 30.0
"""A 404 or 410 means that the result is gone if it is seen twice, at least this many seconds apart..."""
NOT_FOUND_AFTER = 60.0
"""...and at least this many seconds after the submission. Not all of the provider's servers may know a new request."""
READ_CHARACTERS = 16 * 1024  # of a text from the provider, before it is cut to ERROR_BYTES

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^<>]*>", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"\?[^\s\"'<>]+|x-amz-[a-z-]+=[^\s&\"'<>]+", re.IGNORECASE)
_KEY = re.compile(r"\bSG_\w+")
_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{120,}")
_REQUEST_ID = re.compile(r"(?!\.{1,2}$)[!-~]{1,128}")


@dataclass(frozen=True)
class ProviderResponse:
    """A parsed response of the provider. A field is None if the body has no usable value for it.

    - state: the body's status in upper case.
    - error: at most 1 KiB of UTF-8, redacted.
    - inference_seconds: from 0 to LONGEST_SECONDS.
    - cost_usd: from 0 to HIGHEST_COST.
    - remaining_credits: in USD.
    - output: unchanged.
    - request_id: safe as a segment of a URL path.
    - named_id: the body's request id, usable or not.
    """

    state: str | None = None
    error: str | None = None
    inference_seconds: float | None = None
    cost_usd: float | None = None
    remaining_credits: float | None = None
    output: object = None
    request_id: str | None = None
    named_id: object = None


def parse_response(status_code: int, body: bytes) -> ProviderResponse:
    """Parse any body. If it is not JSON, its text is the `error`, unless `status_code` is a success."""
    text = body.decode("utf-8-sig", "replace")
    try:
        value: object = load_json(text)
    except ValueError:
        failed = not 200 <= status_code < 300
        return ProviderResponse(error=_body_text(text) if failed else None)
    if not isinstance(value, dict):
        return ProviderResponse(error=_error_text(value) if not 200 <= status_code < 300 else None)
    errors = (_error_text(value.get(key)) for key in ("error", "message", "detail"))
    return ProviderResponse(
        state=_state(value.get("status")),
        error=next((error for error in errors if error), None),
        inference_seconds=_metric(value.get("metrics"), "inference_time", LONGEST_SECONDS),
        cost_usd=_metric(value.get("metrics"), "cost", HIGHEST_COST),
        remaining_credits=_metric(value.get("metrics"), "remaining_credits", HIGHEST_CREDITS),
        output=_output(value),
        request_id=usable_request_id(value.get("request_id")),
        named_id=value.get("request_id"),
    )


def parse_credits(body: bytes) -> float | None:
    """Return the credits left on the account (USD) from any body of the documented call, or None if it has none."""
    try:
        value = load_json(body.decode("utf-8-sig", "replace"))
    except ValueError:
        return None
    parts = [_metric(value, name, HIGHEST_CREDITS) for name in ("credits", "free-credits")]
    known = [part for part in parts if part is not None]
    return round(sum(known), 6) if known else None


def load_json(text: str) -> object:
    """Parse JSON leniently (control characters in strings, numbers of any length). Raises ValueError only."""
    if text.count("[") + text.count("{") > MAX_PARTS:
        raise ValueError("too many lists and objects")
    try:
        value: object = json.loads(text, strict=False, parse_int=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def cut(text: str, limit_bytes: int) -> str:
    """Return the beginning of a text: at most `limit_bytes` of UTF-8, in whole characters. Lone surrogates become ?."""
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")


def redact(text: str) -> str:
    """Return a text as one line, without query strings, API keys, long runs of base64 and control characters."""
    text = " ".join(_CONTROL.sub(" ", text[:READ_CHARACTERS]).split())
    return _ENCODED.sub("[...]", _KEY.sub("SG_...", _QUERY.sub("?...", text)))


def _output(body: dict[str, object]) -> object:
    """Return the output. If the body has other output fields (such as `images`), return all of them as an object."""
    found = {key: body[key] for key in OUTPUT_KEYS if body.get(key)}
    return found if found.keys() - {"output"} else body.get("output")


def _number(digits: str) -> int | float:
    """Convert digits to a number. Very long integers become floats, because Python refuses to parse them."""
    return int(digits) if len(digits) <= 300 else float(digits)


def _state(value: object) -> str | None:
    return (cut(redact(value).upper(), 64) or None) if isinstance(value, str) else None


def _metric(metrics: object, name: str, most: float) -> float | None:
    value = metrics.get(name) if isinstance(metrics, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(float(value), 6) if 0 <= value <= most else None


def usable_request_id(value: object) -> str | None:
    """Return the value if it is a request id that is safe as a segment of a URL path, else None."""
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value) or any(c in "/?#%\\" for c in value):
        return None
    return value


def _error_text(value: object) -> str | None:
    return cut(redact(_flatten(value, MAX_DEPTH)), ERROR_BYTES).strip() or None


def _flatten(value: object, depth: int) -> str:
    """Return the text of an error, which may be a string, a list of errors, or an object with a message field."""
    if value is None or depth == 0:
        return ""
    if isinstance(value, str):
        return value[:READ_CHARACTERS]
    if isinstance(value, list):
        return "; ".join(filter(None, (_flatten(item, depth - 1) for item in value[:10])))
    if isinstance(value, dict):
        for key in ("message", "msg", "error", "detail", "reason", "description"):
            if text := _flatten(value.get(key), depth - 1):
                place = value.get("loc")  # the name of the field, in validation errors of common web frameworks
                return f"{'.'.join(map(str, place[:10]))}: {text}" if isinstance(place, list) and place else text
        pairs = ((key, _flatten(item, depth - 1)) for key, item in list(value.items())[:10])
        return ", ".join(f"{key}: {text}" for key, text in pairs if text)
    return str(value)


def _body_text(text: str) -> str | None:
    text = text[:READ_CHARACTERS].strip()
    if "\x00" in text:  # an image or other binary data
        return None
    if text.startswith("<"):
        text = html.unescape(_MARKUP.sub(" ", text))
    return _error_text(text)


def result_gone(first: float, now: float, submitted_at: float) -> bool:
    """Return whether the result is gone, after a 404 or 410 at `first` and again at `now`. Pure.

    All three are seconds since the epoch.
    """
    return now - first >= NOT_FOUND_APART and now - submitted_at >= NOT_FOUND_AFTER
