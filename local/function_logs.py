"""Read the functions' logs from the local stack."""

from collections.abc import Iterator
from typing import Any

PAGE = 10_000
"""The most events of one response (CloudWatch Logs API reference, GetLogEvents)."""


def log_lines(logs: Any, group: str, page: int = PAGE) -> Iterator[str]:
    """Yield the lines of a log group, in the order of their times. `page` is how many are read at a time.

    The streams are read one by one, because MiniStack's FilterLogEvents returns 10,000 events at most, and no token for
    the rest.
    """
    found = [
        event
        for streams in logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        for stream in streams["logStreams"]
        for event in _events(logs, group, stream["logStreamName"], page)
    ]
    for event in sorted(found, key=lambda event: int(event["timestamp"])):
        yield event["message"].rstrip("\n") + "\n"


def _events(logs: Any, group: str, stream: str, page: int) -> Iterator[dict[str, Any]]:
    request = {"logGroupName": group, "logStreamName": stream, "startFromHead": True, "limit": page}
    response = logs.get_log_events(**request)
    while response["events"]:
        yield from response["events"]
        response = logs.get_log_events(**request, nextToken=response["nextForwardToken"])
