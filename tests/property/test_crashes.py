"""Functions that end anywhere, any number of times: still paid once, told, and whole."""

import json
import time
import uuid
from itertools import count
from typing import Any

import boto3
import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Pipeline
from tests.support import Context, image

SERVICES = ("dynamodb", "s3", "sqs", "sns", "stepfunctions")
CHARACTERS = (f"crash{number}" for number in count())


class Death(BaseException):
    """The process ends: nothing in it goes on."""


class Fate:
    """Counts what the functions call, and ends them before or after the calls of these numbers."""

    def __init__(self, deaths: list[int]) -> None:
        self.deaths = set(deaths)
        self.calls = 0
        self.inside = False

    def __call__(self, **_: Any) -> None:
        self.calls += self.inside
        if self.inside and self.calls in self.deaths:
            raise Death

    def survives(self, handler: Any, event: object) -> Any:
        """What a function answers, or None if it ended."""
        self.inside = True
        try:
            return handler(event, Context(300))
        except Death:
            return None
        finally:
            self.inside = False


@given(
    deaths=st.lists(st.integers(1, 90), max_size=6, unique=True),
    answers=st.lists(st.sampled_from([429, 503, 500]), max_size=2),
    end=st.sampled_from(["COMPLETED", "FAILED"]),
)
@settings(max_examples=12)
def test_any_number_of_crashes(pipeline: Pipeline, deaths: list[int], answers: list[int], end: str) -> None:
    character, posts = next(CHARACTERS), len(pipeline.provider.posts)
    request_id = f"request-{character}"
    pipeline.provider.submits = [
        *(httpx.Response(status) for status in answers),
        httpx.Response(200, json={"request_id": request_id}),
    ]
    pipeline.provider.statuses = [httpx.Response(200, json={"status": end, "metrics": {}, "error": "no luck"})]
    pipeline.clock.now = max(pipeline.clock.now, time.time() + 60)
    pipeline.put(f"incoming/{character}/face.png", image())
    event = pipeline.put(f"incoming/{character}/pose.png", image("png", (9, 9)))
    drive(pipeline, character, event, Fate(deaths))

    (record,) = [record for record in pipeline.records().values() if record["character"] == character]
    executions = [name for name in pipeline.executions() if name.startswith(f"{record['job_id']}-")]
    told = pipeline.notifications()
    outputs = [key for key in pipeline.outputs() if f"/{character}/" in key]
    accepted = len(pipeline.provider.posts) - posts - len(answers)
    assert executions == [f"{record['job_id']}-1"]
    assert len(told) >= 1
    assert all(message == told[0] for message in told)
    assert told[0]["status"] == record["status"]
    assert record["notified_at"]
    if told[0]["status"] == "SUCCEEDED":
        assert accepted == 1
        assert sorted(key.rpartition("/")[2] for key in outputs) == ["1.png", "result.json"]
    else:
        # An end after the request, before it is written: nobody can know, and it is never sent again.
        assert told[0]["error"]["type"] in ("SubmitOutcomeUnknown", "InferenceFailed")
        assert accepted <= 1
        assert outputs == []


def drive(pipeline: Pipeline, character: str, event: dict[str, Any], fate: Fate) -> None:
    """Deliver each message until it is done, then run the execution, each state until it is done."""
    registered = [
        (boto3.client(service).meta.events, f"{moment}.{service}")  # type: ignore[call-overload]
        for service in SERVICES
        for moment in ("before-call", "after-call")
    ]
    for events, name in registered:
        events.register(name, fate)
    try:
        bodies = [json.dumps(event)]
        for receive_count in range(1, 60):
            if not bodies:
                break
            pipeline.later.clear()
            answer = fate.survives(pipeline.submit.handler, sqs_event(bodies[0], receive_count))
            if answer == {"batchItemFailures": []}:
                bodies.pop(0)
            bodies += [body for body, _ in pipeline.later if body]
            bodies += [message["Body"] for message in pipeline.receive(pipeline.queue_url)]
            pipeline.clock.now += 61
        assert not bodies
        started = pipeline.executions()
        (state,) = [state for name, state in started.items() if name.startswith(f"{character}-pose-")]
        while not state["finished"]:
            pipeline.clock.now += state["wait_seconds"]
            state = fate.survives(pipeline.poll.handler, state) or state
        while not fate.survives(pipeline.deliver.handler, state):
            pipeline.clock.now += 5
    finally:
        for events, name in registered:
            events.unregister(name, fate)


def sqs_event(body: str, receive_count: int) -> dict[str, Any]:
    record = {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "receipt",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(receive_count)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:uploads",
        "awsRegion": "eu-central-1",
    }
    return {"Records": [record]}
