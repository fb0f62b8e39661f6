"""Times as the ledger and the notification write them: RFC 3339, UTC."""

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """A time in seconds since the epoch, to the millisecond, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(text: str) -> float:
    """The seconds since the epoch of an RFC 3339 text. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
