"""The request history: requests with their outcomes and costs, as the official SDK 1.3.0 documents it.

The account may have other users (`Settings.history_others`). Their requests are generated for each page, so a history
of many thousand rows a day needs no storage.
"""

import math
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from heapq import merge
from itertools import islice

from local.segmind.jobs import COMPLETED, FAILED, MODEL, Job, timestamp
from local.segmind.provider import ApiError, Provider
from local.segmind.settings import COST_USD

PENDING = "PENDING"
STATES = (COMPLETED, FAILED, PENDING)
MAX_ROWS = 100
DEFAULT_DAYS, MAX_DAYS = 7, 31  # source: official SDK 1.3.0
DAY_SECONDS = 86_400
OTHERS = uuid.UUID("b5a3c1de-0000-4000-8000-000000000000")
"""The namespace of others' request ids: the same request has the same id on each page."""


@dataclass(frozen=True)
class Query:
    """The filters: `first` and `last` are days in UTC, both included; an empty text matches any."""

    page: int
    size: int
    model: str
    status: str
    first: date
    last: date
    ascending: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], today: date) -> "Query":
        """Read `page` (from 1), `per_page` or `page_size` (1 to 100), `model_name`, `status`, `from_date` and `to_date`
        (YYYY-MM-DD), `sort_order` (desc, asc). Raises ApiError.
        """
        size = _whole(query, "per_page" if "per_page" in query else "page_size", 20)
        status = query.get("status", "")
        if size > MAX_ROWS or status not in ("", *STATES):
            raise ApiError(400, f"per_page is at most {MAX_ROWS}, status one of {', '.join(STATES)}")
        last = _day(query, "to_date", today)
        first = _day(query, "from_date", last - timedelta(days=DEFAULT_DAYS - 1))
        if (last - first).days >= MAX_DAYS:
            raise ApiError(400, f"from_date and to_date span {MAX_DAYS} days at most")
        ascending = query.get("sort_order") == "asc"
        return cls(_whole(query, "page", 1), size, query.get("model_name", ""), status, first, last, ascending)


def row(provider: Provider, job: Job, sample: int = 1) -> dict[str, object]:
    """Return the row of a job and one of its outputs; `sample` counts from 1."""
    state = _state(provider, job)
    completed = job.completed if state != PENDING else None
    return {
        "request_id": job.request_id,
        "model_name": MODEL,
        "model_status": state,
        "request_body": job.body,
        "generation_url": provider.output_urls(job)[sample - 1] if state == COMPLETED else None,
        "credits_deduction": job.cost if state == COMPLETED else 0.0,
        "latency_ms": round(job.metrics["inference_time"] * 1000) if completed else None,
        "error": job.error if state == FAILED else None,
        "model_created": timestamp(job.created),
        "model_updated": timestamp(completed or job.created),
    }


def visible(provider: Provider, job: Job) -> bool:
    """Return whether a job has appeared in the history, and is not removed yet."""
    appeared = datetime.now(UTC) - job.created >= timedelta(seconds=provider.settings.history_lag)
    return appeared and not job.removed(time.monotonic())


def rows(provider: Provider, query: Mapping[str, str]) -> dict[str, object]:
    """Return a page of the history, with a row for each output. Raises ApiError."""
    asked = Query.parse(query, datetime.now(UTC).date())
    own = [
        (job.created, number, job, sample)
        for number, job in enumerate(provider.jobs.values())
        if visible(provider, job) and _asked_for(provider, job, asked)
        for sample in range(1, (job.parameters.samples if _state(provider, job) == COMPLETED else 1) + 1)
    ]
    numbers = _other_requests(provider, asked)
    everything = merge(
        ((created, row(provider, job, sample)) for created, _, job, sample in _ordered(own, asked)),
        (_other_row(provider, number) for number in (numbers if asked.ascending else reversed(numbers))),
        key=lambda found: found[0],
        reverse=not asked.ascending,
    )
    total = len(own) + len(numbers)
    begin = (asked.page - 1) * asked.size
    return {
        "generations": [found for _, found in islice(everything, begin, begin + asked.size)],
        "page": asked.page,
        "per_page": asked.size,
        "total": total,
        "total_pages": -(-total // asked.size),
    }


def _ordered(own: list[tuple[datetime, int, Job, int]], asked: Query) -> Iterator[tuple[datetime, int, Job, int]]:
    """Yield the account's own rows by time; jobs of one time in the order of their acceptance."""
    yield from sorted(own, key=lambda found: found[:2], reverse=not asked.ascending)


def _state(provider: Provider, job: Job) -> str:
    return provider.state(job) if provider.ended(job) else PENDING


def _asked_for(provider: Provider, job: Job, asked: Query) -> bool:
    return (
        asked.model in MODEL
        and asked.status in ("", _state(provider, job))
        and asked.first <= job.created.astimezone(UTC).date() <= asked.last
    )


def _other_requests(provider: Provider, asked: Query) -> range:
    """Return the numbers of others' requests that match: evenly spread over each day, all completed."""
    a_day = provider.settings.history_others
    if not a_day or asked.model not in MODEL or asked.status not in ("", COMPLETED):
        return range(0)
    interval = DAY_SECONDS / a_day
    begin = _midnight(asked.first)
    end = min(_midnight(asked.last + timedelta(days=1)), datetime.now(UTC).timestamp())
    return range(math.ceil(begin / interval), math.ceil(end / interval))


def _other_row(provider: Provider, number: int) -> tuple[datetime, dict[str, object]]:
    created = datetime.fromtimestamp(number * DAY_SECONDS / provider.settings.history_others, UTC)
    request_id = str(uuid.uuid5(OTHERS, str(number)))
    return created, {
        "request_id": request_id,
        "model_name": MODEL,
        "model_status": COMPLETED,
        "request_body": {
            "face_image": f"https://others.example/{number}/face.png",
            "pose_image": f"https://others.example/{number}/pose.png",
            "prompt": f"somebody else's picture, number {number}",
        },
        "generation_url": f"{provider.base_url}/media/{request_id}/1.png",
        "credits_deduction": COST_USD,
        "latency_ms": 31_060,
        "error": None,
        "model_created": timestamp(created),
        "model_updated": timestamp(created + timedelta(seconds=31.06)),
    }


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day(query: Mapping[str, str], name: str, default: date) -> date:
    try:
        return date.fromisoformat(query[name]) if name in query else default
    except ValueError as exc:
        raise ApiError(400, f"{name} must be a date, YYYY-MM-DD") from exc


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ApiError(400, f"{name} must be a whole number from 1")
    return int(text)
