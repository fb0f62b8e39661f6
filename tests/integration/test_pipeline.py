"""The whole way on moto: from the upload to the notification, for every kind of end."""

import json
from typing import Any

import httpx
import jsonschema
import pytest

from tests.integration.conftest import BASE_URL, Pipeline
from tests.support import image, schema

FACE = ("incoming/Kundin Ä/held + heldin/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/Kundin Ä/held + heldin/poses/geh langsam+weit ü.png", image("png", (12, 8), "black"))
SIT = ("incoming/Kundin Ä/held + heldin/poses/sit.JPG", image("jpeg", (9, 9), "gray"))
JOB = ("incoming/Kundin Ä/held + heldin/job.json", {"prompt": "rain", "samples": 2, "context": {"order": 17}})

QUEUED, PROCESSING, COMPLETED = (
    httpx.Response(200, json={"status": status, "metrics": {}}) for status in ("QUEUED", "PROCESSING", "COMPLETED")
)


def valid(notification: dict[str, Any]) -> dict[str, Any]:
    jsonschema.validate(notification, schema("notification"), cls=jsonschema.Draft7Validator)
    return notification


def test_two_images_become_two_more_and_a_notification(pipeline: Pipeline) -> None:
    images = [image("png", (16, 12), "green"), image("webp", (16, 12), "red")]
    urls = [f"{BASE_URL}/media/{number}" for number in (1, 2)]
    pipeline.provider.statuses = [QUEUED, httpx.Response(502, html="<h1>502</h1>"), PROCESSING, COMPLETED]
    pipeline.provider.results = [
        httpx.Response(200, json={"status": "COMPLETED", "metrics": {"inference_time": 31.06}, "output": urls})
    ]
    pipeline.provider.media = [httpx.Response(200, content=data) for data in images]
    assert pipeline.upload(FACE, JOB, WALK)
    ((name, execution),) = pipeline.executions().items()
    answer = pipeline.run(execution)

    (notified,) = map(valid, pipeline.notifications())
    assert name == f"{notified['job_id']}-1"
    assert name.isascii()
    assert (notified["status"], notified["character"], notified["pose"]) == (
        "SUCCEEDED",
        "Kundin Ä/held + heldin",
        "geh langsam+weit ü",
    )
    assert notified["inputs"]["pose"]["key"] == WALK[0]
    assert notified["parameters"]["samples"] == 2
    assert "context" not in notified["parameters"]
    assert notified["context"] == {"order": 17}
    assert notified["metrics"]["polls"] == 4
    assert answer["outputs"] == [output["uri"] for output in notified["outputs"]]
    stored = pipeline.outputs()
    assert [stored.pop(output["key"]) for output in notified["outputs"]] == images
    ((key, result),) = stored.items()
    assert key == f"outputs/{notified['character']}/{notified['pose']}/{notified['job_id']}/1/result.json"
    assert json.loads(result) == notified
    assert pipeline.record()["status"] == "SUCCEEDED"
    assert len(pipeline.provider.posts) == 1


@pytest.mark.parametrize(
    ("submit", "status", "error"),
    [
        (None, httpx.Response(422, json={"status": "FAILED", "error": "Blocked."}), ("InferenceFailed", "Blocked.")),
        (httpx.Response(400, json={"error": "bad seed"}), None, ("Rejected", "the provider answered 400: bad seed")),
        (None, httpx.Response(404), ("ResultExpired", "the provider does not know the request id")),
        (None, PROCESSING, ("TimedOut", "the job did not end within 3000 s after its submission")),
    ],
)
def test_a_failure_is_notified_with_its_reason(
    pipeline: Pipeline, submit: httpx.Response | None, status: httpx.Response | None, error: tuple[str, str]
) -> None:
    pipeline.provider.submits = [submit] if submit else pipeline.provider.submits
    pipeline.provider.statuses = [status] if status else pipeline.provider.statuses
    assert pipeline.upload(FACE, JOB, WALK)
    (answer,) = pipeline.run_all()
    (notified,) = map(valid, pipeline.notifications())
    assert (notified["error"]["type"], notified["error"]["message"]) == error
    assert answer["error"] == notified["error"]
    assert pipeline.record()["status"] == "FAILED"
    assert pipeline.outputs() == {}


def test_a_poll_that_cannot_see_the_end_does_not_wait_forever(pipeline: Pipeline) -> None:
    pipeline.provider.statuses = [httpx.ConnectError("refused")]
    pipeline.upload(FACE, JOB, WALK)
    started = pipeline.clock()
    pipeline.run_all()
    assert pipeline.notifications()[0]["error"]["type"] == "TimedOut"
    assert 3000 <= pipeline.clock() - started < 3002


def test_one_face_with_two_poses_of_which_one_is_blocked(pipeline: Pipeline) -> None:
    pipeline.provider.statuses = [httpx.Response(422, json={"status": "FAILED", "error": "Blocked."}), COMPLETED]
    assert pipeline.upload(JOB, WALK, SIT, FACE)
    assert sorted(answer["status"] for answer in pipeline.run_all()) == ["FAILED", "SUCCEEDED"]
    notified = [valid(notification) for notification in pipeline.notifications()]
    assert {notification["pose"] for notification in notified} == {"geh langsam+weit ü", "sit"}


def test_the_same_files_again_are_not_paid_for_and_not_notified_again(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, JOB, WALK)
    pipeline.run_all()
    assert len(pipeline.notifications()) == 1
    before = pipeline.records()
    pipeline.clock.now += 60
    assert pipeline.upload(FACE, JOB, WALK)
    assert len(pipeline.provider.posts) == 1
    assert len(pipeline.executions()) == 1
    assert pipeline.notifications() == []
    assert pipeline.records() == before
