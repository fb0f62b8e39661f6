"""The functions' logs: all of their lines, in the order of their times, however many there are."""

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.function_logs import log_lines

GROUP = "/posedrop/submit"
BEGAN = int(time.time() * 1000) - 100_000
"""Milliseconds since the epoch. The events are at times after it."""


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("logs", region_name="eu-central-1")
        client.create_log_group(logGroupName=GROUP)
        yield client


def write(logs: Any, stream: str, lines: dict[int, str]) -> None:
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    events = [{"timestamp": BEGAN + at, "message": line} for at, line in lines.items()]
    logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)


@pytest.mark.parametrize("page", [1, 2, 3, 7, 100])
def test_all_lines_of_all_streams_are_read_in_order(logs: Any, page: int) -> None:
    write(logs, "a", {at: f"a{at}" for at in (0, 3, 4, 9)})
    write(logs, "b", {at: f"b{at}\n" for at in (1, 2, 8)})
    expected = ["a0", "b1", "b2", "a3", "a4", "b8", "a9"]
    assert list(log_lines(logs, GROUP, page)) == [f"{line}\n" for line in expected]


def test_a_group_without_a_stream_has_no_lines(logs: Any) -> None:
    assert list(log_lines(logs, GROUP)) == []
