"""Read the rows of the provider's request history. Pure.

The history is not part of the documented API; the official SDK 1.3.0 names its fields. A row is one output, and each
row of a request has the request's whole cost. So the rows of a request are merged before anything is counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from posedrop.segmind.model import MODELS
from posedrop.segmind.outputs import BadOutput, Source, parse_output
from posedrop.segmind.responses import HIGHEST_COST, LONGEST_SECONDS, load_json, usable_request_id

URL_FIELDS = frozenset(field for model in MODELS.values() for field in model.image_fields.values())
DEPTH = 4


@dataclass(frozen=True)
class PastRequest:
    """What the history says about one request. Unknown fields are None or empty.

    - state: in upper case (COMPLETED, FAILED, PENDING).
    - sources: where its pictures are, each once.
    - names: the file names in the URLs of its input images.
    - created_at: seconds since the epoch.
    - cost_usd: of the whole request.
    - seconds: how long the model took.
    """

    request_id: str
    state: str | None = None
    sources: tuple[Source, ...] = ()
    names: frozenset[str] = frozenset()
    created_at: float | None = None
    cost_usd: float | None = None
    seconds: float | None = None

    @property
    def billed(self) -> bool:
        """Whether the request was paid for. If its cost is unknown, a completed request counts as paid."""
        return self.cost_usd > 0 if self.cost_usd is not None else self.state == "COMPLETED"


def rows_of(response: object) -> list[Mapping[str, Any]] | None:
    """Return the rows of a page, or None if it has none. Any list counts: the name of the field is not documented."""
    candidates = [response, *response.values()] if isinstance(response, dict) else [response]
    for candidate in candidates:
        if isinstance(candidate, list):
            return [row for row in candidate if isinstance(row, dict)]
    return None


def rows_of_one(response: object, request_id: str) -> list[Mapping[str, Any]]:
    """Return the rows about one request: the response itself, or the rows in it."""
    if isinstance(response, dict) and response.get("request_id") == request_id:
        return [response]
    inner = [value for value in response.values() if isinstance(value, dict)] if isinstance(response, dict) else []
    return [row for row in [*(rows_of(response) or []), *inner] if row.get("request_id") == request_id]


def past_requests(rows: Iterable[Mapping[str, Any]]) -> dict[str, PastRequest]:
    """Return requests by id from rows, in the order of their first rows."""
    ids = ((usable_request_id(row.get("request_id")), row) for row in rows)
    return merged(_read(request_id, row) for request_id, row in ids if request_id)


def row_time(value: object) -> float | None:
    """Return a row's time in seconds since the epoch, or None if it cannot be read (its format is not documented).

    A time without a zone is UTC.
    """
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def image_file_names(request_body: object) -> frozenset[str]:
    """Return the file names in a request's image URLs. Only these names identify a request.

    Other fields are not searched, because a user may write any name into them, such as into the prompt.
    """
    if isinstance(request_body, str):
        try:
            request_body = load_json(request_body)
        except ValueError:
            return frozenset()
    return frozenset(name for url in _image_urls(request_body, DEPTH) if (name := _file_name(url)))


def merged(requests: Iterable[PastRequest]) -> dict[str, PastRequest]:
    """Return requests by id, merging those with the same id: the rows of a request may be on several pages."""
    found: dict[str, PastRequest] = {}
    for new in requests:
        known = found.get(new.request_id)
        found[new.request_id] = _merge(known, new) if known else new
    return found


def _read(request_id: str, row: Mapping[str, Any]) -> PastRequest:
    state = row.get("model_status")
    milliseconds = _number(row.get("latency_ms"), LONGEST_SECONDS * 1000)
    return PastRequest(
        request_id,
        state.strip().upper()[:64] if isinstance(state, str) and state.strip() else None,
        _sources(row.get("generation_url")),
        image_file_names(row.get("request_body")),
        row_time(row.get("model_created")),
        _number(row.get("credits_deduction"), HIGHEST_COST),
        None if milliseconds is None else round(milliseconds / 1000, 3),
    )


def _merge(one: PastRequest, other: PastRequest) -> PastRequest:
    """Merge two rows of one request. The second fills the gaps of the first. Each row has the whole cost."""
    values = {
        name: getattr(other, name)
        for name in ("state", "created_at", "cost_usd", "seconds")
        if getattr(one, name) is None
    }
    sources = tuple(dict.fromkeys((*one.sources, *other.sources)))
    return replace(one, sources=sources, names=one.names | other.names, **values)


def _sources(value: object) -> tuple[Source, ...]:
    try:
        return tuple(parse_output(value)) if value else ()
    except BadOutput:
        return ()


def _number(value: object, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return round(float(value), 6)


def _image_urls(value: object, depth: int) -> Iterator[object]:
    """Yield the values of the image fields at any depth: the structure of a row's request_body is not documented."""
    if not isinstance(value, dict) or not depth:
        return
    for key, inner in value.items():
        if key in URL_FIELDS:
            yield from inner if isinstance(inner, list) else [inner]
        else:
            yield from _image_urls(inner, depth - 1)


def _file_name(url: object) -> str | None:
    """Return the file name in a presigned URL (response-content-disposition), or None."""
    if not isinstance(url, str):
        return None
    try:
        dispositions = parse_qs(urlsplit(url).query).get("response-content-disposition", [])
    except ValueError:
        return None
    _, marker, rest = (dispositions[0] if len(dispositions) == 1 else "").partition('filename="')
    return rest.removesuffix('"') if marker and rest.endswith('"') else None
