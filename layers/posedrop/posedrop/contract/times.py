"""Convert times between seconds since the epoch and RFC 3339 in UTC, the form in the ledger and the notification."""

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400
"""In seconds."""


def rfc3339(seconds: float) -> str:
    """Return a time (seconds since the epoch) as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(text: str) -> float:
    """Return an RFC 3339 text as seconds since the epoch. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
