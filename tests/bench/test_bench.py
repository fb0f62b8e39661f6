"""The benchmarks' own arithmetic."""

from dataclasses import replace

import pytest

from bench.cost import Batch, fixed_loop, load_prices, polls_every_second, sqs_requests, variable, waiting_function
from bench.limit import PLANS, Call, limit_use
from bench.stage import FunctionUse, Usage, transitions

USAGE = Usage(
    functions={
        "intake": FunctionUse(invocations=14, billed_ms=7_000, memory_mb=1024, log_bytes=5_000),
        "submit": FunctionUse(invocations=20, billed_ms=20_000, memory_mb=512, log_bytes=10_000),
        "poll": FunctionUse(invocations=30, billed_ms=3_000, memory_mb=256, log_bytes=10_000),
        "deliver": FunctionUse(invocations=10, billed_ms=2_000, memory_mb=512, log_bytes=10_000),
    },
    transitions=130,
    requests={
        "function sqs ChangeMessageVisibility": 4,
        "function s3 PUT": 20,
        "user s3 PUT": 12,
        "function s3 GET": 20,
        "url s3 GET": 20,
        "function sns POST": 10,
        "user sns POST": 99,
    },
    units={"function write table": 100, "function write by-character": 50, "function read": 40, "user read": 99},
)
BATCH = Batch(jobs=10, uploads=12, egress_bytes=1e6, inference=[30.0] * 10, usage=USAGE)
PRICES = load_prices()


def test_cost_of_a_thousand_jobs() -> None:
    lines = variable(BATCH, PRICES)
    assert lines["Step Functions"] == pytest.approx(13 * 0.025)
    gb_seconds = 0.7 * 1 + 2.0 * 0.5 + 0.3 * 0.25 + 0.2 * 0.5  # a job
    assert lines["Lambda"] == pytest.approx(1000 * (7.4 * 0.2e-6 + gb_seconds * 0.0000133334))
    assert lines["S3"] == pytest.approx(1000 * (3.2 * 5e-6 + 4 * 0.4e-6))
    assert lines["DynamoDB"] == pytest.approx(1000 * (15 * 0.625e-6 + 4 * 0.125e-6))
    assert lines["SNS, KMS"] == pytest.approx(1000 * 3.5e-6)


def test_sqs_requests_of_the_event_source_are_counted() -> None:
    assert sqs_requests(BATCH) == 12 + 4 + 34 + 30


def test_a_fixed_loop_pays_for_each_poll() -> None:
    assert polls_every_second([30.0, 29.5], 0.0) == [31, 30]
    assert polls_every_second([30.0], 0.5) == [21]
    loop = fixed_loop(BATCH, [30.0] * 10)
    assert loop.usage.functions["poll"].invocations == 300
    assert loop.usage.transitions == 130 + 3 * 270
    assert variable(loop, PRICES)["SQS"] == variable(BATCH, PRICES)["SQS"]


def test_a_waiting_function_is_billed_for_the_whole_time() -> None:
    waiting = waiting_function(BATCH).usage
    assert waiting.transitions == 0
    assert "poll" not in waiting.functions
    assert waiting.functions["submit"].billed_ms == 20_000 + 10 * 30_500


def test_usage_is_counted_from_a_moment_on() -> None:
    later = replace(USAGE, transitions=150, requests={**USAGE.requests, "function s3 PUT": 25})
    assert (later - USAGE).transitions == 20
    assert (later - USAGE).requests["function s3 PUT"] == 5
    assert (later - USAGE).functions["poll"].invocations == 0


def test_use_of_the_limit_counts_from_the_second_minute_to_the_last_submit() -> None:
    fifty = PLANS[0]
    submits = [Call(at * 1.2, "submit", refused=False) for at in range(151)]  # for 180 s
    polls = [Call(100.0, "status", refused=False), Call(200.0, "status", refused=True)]
    found = limit_use(fifty, sorted([*submits, *polls], key=lambda call: call.at))
    assert found["use"] == pytest.approx(1.0)
    assert found["accepted"] == 151
    assert found["busiest"] in (50, 51)
    assert (found["refused"], found["refused_late"]) == (1, 1)
    everything = limit_use(replace(fifty, counts="all"), [*submits, *polls])
    assert everything["accepted"] == 152


def test_a_retry_is_a_transition() -> None:
    types = ["ChoiceStateEntered", "TaskStateEntered", "TaskScheduled", "TaskFailed", "TaskScheduled", "TaskSucceeded"]
    assert transitions([{"type": name} for name in types]) == 3
