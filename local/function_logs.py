"""Read the functions' logs from the local stack."""

from collections.abc import Iterator
from typing import Any

PAGE = 10_000
"""The most events of one response (CloudWatch Logs API reference, GetLogEvents)."""


def log_lines(logs: Any, group: str, page: int = PAGE) -> Iterator[str]:
    """Yield the lines of a log group, in the order of their times. `page` is how many are read at a time.

    One response usually has them all. But MiniStack's FilterLogEvents returns 10,000 events at most, and no token for
    the rest: then the streams are read one by one.
    """
    found = logs.filter_log_events(logGroupName=group, limit=page)["events"]
    if len(found) == page:
        found = list(_of_each_stream(logs, group, page))
    for event in sorted(found, key=lambda event: int(event["timestamp"])):
        yield event["message"].rstrip("\n") + "\n"


def _of_each_stream(logs: Any, group: str, page: int) -> Iterator[dict[str, Any]]:
    for streams in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for stream in streams["logStreams"]:
            yield from _events(logs, group, stream["logStreamName"], page)


def _events(logs: Any, group: str, stream: str, page: int) -> Iterator[dict[str, Any]]:
    request = {"logGroupName": group, "logStreamName": stream, "startFromHead": True, "limit": page}
    response = logs.get_log_events(**request)
    while response["events"]:
        yield from response["events"]
        response = logs.get_log_events(**request, nextToken=response["nextForwardToken"])
