"""A folder's files tell of the same jobs several times, while the jobs wait for the plan's limit."""

import json
from typing import Any

import pytest

from tests.integration.conftest import Pipeline
from tests.support import image


@pytest.fixture
def small_plan(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests a minute."""
    monkeypatch.setenv("SEGMIND_REQUESTS_PER_MINUTE", "2")


def folder(pipeline: Pipeline, poses: int) -> list[dict[str, Any]]:
    """Upload a folder, and let its events come once it has settled."""
    files = [("face.png", image()), ("job.json", {"prompt": "a walk"})]
    files += [(f"poses/{number}.png", image(color="green")) for number in range(poses)]
    events = [pipeline.put(f"incoming/hero/{name}", body) for name, body in files]
    pipeline.clock.now += 10
    return events


@pytest.mark.usefixtures("small_plan")
def test_all_events_of_a_folder_leave_a_waiting_job_to_its_own_message(pipeline: Pipeline) -> None:
    for event in folder(pipeline, poses=4):
        assert pipeline.handle(event)
    waiting = sorted(job_id for job_id, record in pipeline.records().items() if record.get("slot"))
    assert len(waiting) == 3
    assert sorted(json.loads(body)["submit"] for body, _ in pipeline.later) == waiting


@pytest.mark.usefixtures("small_plan")
def test_a_message_that_is_received_again_goes_on_with_a_waiting_job(pipeline: Pipeline) -> None:
    events = folder(pipeline, poses=2)
    for event in events:
        pipeline.handle(event)
    assert len(pipeline.later) == 1
    pipeline.receive_count = 2  # its function may have died before the job had a message of its own
    for event in events[2:]:
        assert pipeline.handle(event)
    assert len(pipeline.later) == 2
