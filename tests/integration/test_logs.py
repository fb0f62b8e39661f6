"""Every log line about a job has its id, attempt, character, pose and execution."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from posedrop.contract.times import rfc3339
from posedrop.sweep.sweeper import Ages
from tests.integration.conftest import Pipeline
from tests.integration.test_alarms import sent_by_eventbridge
from tests.integration.test_sweep import FACE, HOUR, WALK, Swept, stop_execution, sweep
from tests.support import Context

__all__ = ["sweep"]

Lines = Callable[[], list[dict[str, Any]]]
NAMES = {"job_id", "attempt", "character", "pose", "execution"}


def lines_of(logs: Lines, *functions: str) -> list[dict[str, Any]]:
    """The lines that these functions wrote, without their metrics. The sweep's last one is about no job."""
    found = [line for line in logs() if "message" in line and line["message"] != "swept"]
    return [line for line in found if line["function"] in functions]


@pytest.fixture
def logs(logs: Lines, pipeline: Pipeline, sweep: Swept, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The log lines so far, each with the function that wrote it."""
    wrote: list[tuple[int, str]] = []

    def note(name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(event: Any, context: Any) -> Any:
            try:
                return handler(event, context)
            finally:
                wrote.append((len(logs()), name))

        return handle

    modules = {
        "intake": pipeline.intake,
        "submit": pipeline.submit,
        "poll": pipeline.poll,
        "deliver": pipeline.deliver,
        "sweep": sweep.module,
    }
    for name, module in modules.items():
        monkeypatch.setattr(module, "handler", note(name, module.handler))

    def read() -> list[dict[str, Any]]:
        found = logs()
        ends = iter(wrote)
        end, name = next(ends)
        for index, line in enumerate(found):
            while index >= end:
                end, name = next(ends)
            line["function"] = name
        return found

    return read


def check(lines: list[dict[str, Any]], pipeline: Pipeline) -> None:
    """Each line has all names, and they are those of the only job."""
    record = pipeline.record()
    for line in lines:
        assert line.keys() >= NAMES, line
        assert line["job_id"] == record["job_id"]
        assert (line["character"], line["pose"]) == ("hero", "walk")
        assert line["execution"] == f"{line['job_id']}-{line['attempt']}"


def test_a_job_that_succeeds(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.provider.statuses.insert(0, httpx.Response(200, json={"status": "PROCESSING"}))
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    lines = lines_of(logs, "poll", "deliver")
    check(lines, pipeline)
    assert [line["message"] for line in lines] == ["checked", "checked", "succeeded"]


def test_submit_names_the_job_as_soon_as_it_is_known(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.provider.submits.insert(0, httpx.ConnectError("no connection"))
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    pipeline.resume()
    lines = [line for line in lines_of(logs, "submit") if "job_id" in line]
    assert {line["message"] for line in lines} >= {"not accepted", "submitted"}
    assert all(line.keys() >= NAMES for line in lines)


def test_a_job_that_fails(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.provider.statuses = [
        httpx.Response(503),
        httpx.Response(422, json={"status": "FAILED", "error": "blocked"}),
    ]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    lines = lines_of(logs, "poll", "deliver")
    check(lines, pipeline)
    assert [line["message"] for line in lines] == ["no status", "checked", "checked", "failed"]


def test_a_delivery_that_fails_says_why(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.provider.media = [httpx.Response(503)]
    pipeline.upload(FACE, WALK)
    with pytest.raises(Exception, match="503"):
        pipeline.run_all()
    (line,) = lines_of(logs, "deliver")
    check([line], pipeline)
    assert (line["level"], line["message"]) == ("WARNING", "not delivered")
    assert line["reason"].startswith("DeliveryFailed: ")
    assert "503" in line["reason"]


def test_a_failed_poll_says_why(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.provider.statuses = [ZeroDivisionError("what nobody thought of")]
    with pytest.raises(ZeroDivisionError):
        pipeline.run_all()
    (line,) = lines_of(logs, "poll")
    check([line], pipeline)
    assert (line["message"], line["reason"]) == ("not checked", "ZeroDivisionError: what nobody thought of")


def test_an_execution_that_ended_without_notifying(pipeline: Pipeline, logs: Lines) -> None:
    pipeline.upload(FACE, WALK)
    ((name, given),) = pipeline.executions().items()
    pipeline.deliver.handler(sent_by_eventbridge(name, given), Context(300))
    pipeline.deliver.handler(sent_by_eventbridge(f"{given['job_id']}-9", {**given, "attempt": 9}), Context(300))
    lines = lines_of(logs, "deliver")
    check(lines, pipeline)
    assert [(line["message"], line["attempt"]) for line in lines] == [
        ("failed", 1),
        ("the execution did not notify its job's end", 1),
        ("superseded", 9),
    ]


def test_what_the_sweep_does(sweep: Swept, logs: Lines) -> None:
    pipeline = sweep.pipeline
    end = pipeline.hook("stepfunctions", "StartExecution", lambda **_: (_ for _ in ()).throw(RuntimeError))
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    pipeline.messages.clear()
    end()
    sweep(after=HOUR)
    stop_execution(pipeline)
    pipeline.clock.now += 2 * HOUR
    sweep.module.handler({}, Context(300))
    lines = lines_of(logs, "sweep")
    check(lines, pipeline)
    assert [line["message"] for line in lines] == ["sent again", "an execution has ended without notifying"]


def test_the_sweep_s_own_lines_are_about_no_job(sweep: Swept, logs: Lines) -> None:
    pipeline = sweep.pipeline
    pipeline.upload(FACE, WALK, ("incoming/other/pose.png", WALK[1]))
    stop_execution(pipeline)
    pipeline.clock.now += 2 * HOUR
    left = iter([300.0, 1.0])
    sweep.module.sweep().run(Ages(), lambda: next(left))
    sweep.module.handler({}, Context(300))
    lines = [line for line in logs() if line.get("message") in ("the sweep ran out of time", "swept")]
    assert len(lines) == 2
    assert not [line for line in lines if line.keys() & NAMES]


def test_the_sweep_does_not_mix_up_its_records(sweep: Swept, logs: Lines) -> None:
    """After a job comes what is none, and one that cannot be read."""
    pipeline = sweep.pipeline
    pipeline.upload(FACE, WALK)
    stop_execution(pipeline)
    pipeline.dynamodb.put_item(
        Item={
            "job_id": "odd",
            "status": "SUBMITTING",
            "unfinished": "paid",
            "attempt": 1,
            "unfinished_at": rfc3339(pipeline.clock.now + 1),
            "updated_at": "2020-01-01T00:00:00.000Z",
        }
    )
    pipeline.break_call("stepfunctions", "DescribeExecution")
    with pytest.raises(Exception, match="2 records"):
        sweep(after=2 * HOUR)
    first, second = lines_of(logs, "sweep")
    assert first.keys() >= NAMES
    assert second["job_id"] == "odd"
    assert not second.keys() & (NAMES - {"job_id"})
