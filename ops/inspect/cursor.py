"""Where a page of records begins, as a text that a person can copy."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from posedrop.aws.record_reader import DAY_INDEX, SORTED_BY, Place

DATE = "%Y-%m-%d"


@dataclass(frozen=True)
class Cursor:
    """The beginning of a page: after a record of an index place, or without a job id, at the place's beginning."""

    key: str
    sort: str = ""
    job_id: str = ""


def cursor_after(places: Sequence[Place] | None, key: dict[str, Any]) -> str:
    """Return the cursor of the page that begins after a key of an index. Without `places` it is the index of days."""
    index, name, _ = places[0] if places else (DAY_INDEX, "day", "")
    if places:
        index, name, _ = next(place for place in places if key.get(place[1], {}).get("S") == place[2])
    parts = [key[part].get("S", "") for part in (name, SORTED_BY[index], "job_id") if part in key]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> Cursor:
    """Return the place where a page begins. Raises ValueError if the text is not a cursor."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not all(isinstance(part, str) for part in parts):
            raise TypeError
        return Cursor(*parts)
    except (ValueError, TypeError):
        raise ValueError(f"no page begins at {cursor}") from None


def day_of(time: str) -> datetime:
    """Return the day of a time (RFC 3339). Raises ValueError if it is not a time."""
    try:
        return datetime.strptime(time[:10], DATE).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("the page's cursor belongs to other filters") from None
