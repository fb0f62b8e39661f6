"""The request history: what was asked, what became of it, what it cost, as the official SDK 1.3.0 documents it."""

from collections.abc import Mapping

from local.segmind.jobs import COMPLETED, FAILED, MODEL, Job, timestamp
from local.segmind.provider import ApiError, Provider

COST_DOLLARS = 0.0294  # source: provider's documentation, the model's average
STATES = (COMPLETED, FAILED, "PENDING")
MAX_ROWS = 100


def row(provider: Provider, job: Job, sample: int = 1) -> dict[str, object]:
    """The row of a job and one of its outputs."""
    state = provider.state(job) if provider.ended(job) else "PENDING"
    completed = job.completed if provider.ended(job) else None
    return {
        "request_id": job.request_id,
        "model_name": MODEL,
        "model_status": state,
        "request_body": job.body,
        "generation_url": provider.output_urls(job)[sample - 1] if state == COMPLETED else None,
        "credits_deduction": COST_DOLLARS if state == COMPLETED else 0.0,
        "latency_ms": round(job.metrics["inference_time"] * 1000) if completed else None,
        "error": job.error if state == FAILED else None,
        "model_created": timestamp(job.created),
        "model_updated": timestamp(completed or job.created),
    }


def rows(provider: Provider, query: Mapping[str, str]) -> dict[str, object]:
    """A page of the history, a row for each output. Raises ApiError.

    Read from the query: `page` (from 1), `per_page` or `page_size` (1 to 100), `model_name`, `status`, `from_date` and
    `to_date` (YYYY-MM-DD, inclusive), `sort_order` (desc, asc).
    """
    page = _whole(query, "page", 1)
    size = _whole(query, "per_page" if "per_page" in query else "page_size", 20)
    if size > MAX_ROWS or query.get("status", COMPLETED) not in STATES:
        raise ApiError(400, f"per_page is at most {MAX_ROWS}, status one of {', '.join(STATES)}")
    found = [
        (job, sample)
        for job in provider.jobs.values()
        if _asked_for(provider, job, query)
        for sample in range(1, (job.parameters.samples if provider.state(job) == COMPLETED else 1) + 1)
    ]
    if query.get("sort_order") != "asc":
        found.reverse()
    shown = found[(page - 1) * size : page * size]
    return {
        "generations": [row(provider, job, sample) for job, sample in shown],
        "page": page,
        "per_page": size,
        "total": len(found),
        "total_pages": -(-len(found) // size),
    }


def _asked_for(provider: Provider, job: Job, query: Mapping[str, str]) -> bool:
    day = job.created.date().isoformat()
    state = provider.state(job) if provider.ended(job) else "PENDING"
    return (
        query.get("model_name", "") in MODEL
        and query.get("status", state) == state
        and query.get("from_date", day) <= day <= query.get("to_date", day)
    )


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ApiError(400, f"{name} must be a whole number from 1")
    return int(text)
