"""Read the rows of the provider's request history. Pure.

The history is not part of the documented API: the official SDK 1.3.0 names its fields. A row stands for one output, and
each row of a request has the whole cost of it, so rows are merged before anything is counted.
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
    """What the history says of one request; None and empty where it says nothing.

    state: in upper case (COMPLETED, FAILED, PENDING). sources: where its pictures are, each once. names: the file names
    that its image URLs ask to be served under. created_at: seconds since the epoch. cost_usd: of the whole request.
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
        """Whether it was paid: by its cost, or, where none is said, because it is completed."""
        return self.cost_usd > 0 if self.cost_usd is not None else self.state == "COMPLETED"


def rows_of(response: object) -> list[Mapping[str, Any]] | None:
    """Return the rows of a page, wherever they are, or None: the name of their list is not documented."""
    candidates = [response, *response.values()] if isinstance(response, dict) else [response]
    for candidate in candidates:
        if isinstance(candidate, list):
            return [row for row in candidate if isinstance(row, dict)]
    return None


def rows_of_one(response: object, request_id: str) -> list[Mapping[str, Any]]:
    """Return the rows of a response about one request: the response itself, or what it holds."""
    if isinstance(response, dict) and response.get("request_id") == request_id:
        return [response]
    inner = [value for value in response.values() if isinstance(value, dict)] if isinstance(response, dict) else []
    return [row for row in [*(rows_of(response) or []), *inner] if row.get("request_id") == request_id]


def past_requests(rows: Iterable[Mapping[str, Any]]) -> dict[str, PastRequest]:
    """Return the requests of some rows by their ids, in the order of their first rows."""
    ids = ((usable_request_id(row.get("request_id")), row) for row in rows)
    return merged(_read(request_id, row) for request_id, row in ids if request_id)


def row_time(value: object) -> float | None:
    """Return a row's time in seconds since the epoch, or None: its format is not documented.

    Without a zone it is UTC.
    """
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def served_names(request_body: object) -> frozenset[str]:
    """Return the file names that a request's image URLs ask to be served under.

    Nothing else identifies a request: what a user writes, the prompt above all, may hold any name.
    """
    if isinstance(request_body, str):
        try:
            request_body = load_json(request_body)
        except ValueError:
            return frozenset()
    return frozenset(name for url in _image_urls(request_body, DEPTH) if (name := _file_name(url)))


def merged(requests: Iterable[PastRequest]) -> dict[str, PastRequest]:
    """Return requests by their ids, those of one id as one: rows of a request may stand on several pages."""
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
        served_names(row.get("request_body")),
        row_time(row.get("model_created")),
        _number(row.get("credits_deduction"), HIGHEST_COST),
        None if milliseconds is None else round(milliseconds / 1000, 3),
    )


def _merge(one: PastRequest, other: PastRequest) -> PastRequest:
    """Two rows of one request: what the first leaves out is taken from the second; the cost is of both together."""
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
