"""Dead letters one by one."""

from typing import Any

from ops.act.dead_letters import discard_letters, list_letters, redrive_letters
from ops.stack import Stack
from tests.integration.conftest import Pipeline

POSE = '{"job": {"bucket": "b", "character": "hero", "pose": "walk", "upload": null}}'
GONE = '{"retry": "hero-walk-0123456789abcdef"}'
UPLOAD = (
    '{"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, '
    '"object": {"key": "incoming/hero/face.png", "etag": "e"}}}'
)


def send(pipeline: Pipeline, *bodies: str) -> None:
    """Put messages into the dead-letter queue."""
    for body in bodies:
        reason: Any = {"reason": {"DataType": "String", "StringValue": "it failed"}}
        pipeline.sqs.send_message(
            QueueUrl=pipeline.dead_letter_url, MessageBody=body, DelaySeconds=0, MessageAttributes=reason
        )


def test_each_says_what_it_is_and_whether_it_helps_to_send_it_again(stack: Stack, pipeline: Pipeline) -> None:
    send(pipeline, POSE, "no JSON", GONE, UPLOAD)
    found = {letter.body: letter for letter in list_letters(stack)}
    assert {body: letter.helps for body, letter in found.items()} == {
        POSE: True,
        "no JSON": False,
        GONE: False,
        UPLOAD: True,
    }
    assert found[POSE].what == "hero / walk"
    assert found[UPLOAD].what == "The upload incoming/hero/face.png"
    assert "which does not exist" in found[GONE].what
    assert "cannot be read" in found["no JSON"].what
    assert {letter.reason for letter in found.values()} == {"it failed"}
    assert len(list_letters(stack)) == 4  # they stay


def test_one_is_sent_again_and_one_is_discarded(stack: Stack, pipeline: Pipeline) -> None:
    send(pipeline, *[f"{number}" for number in range(12)], POSE, GONE)
    found = {letter.body: letter.message_id for letter in list_letters(stack)}
    assert redrive_letters(stack, [found[POSE]]) == 1
    assert [message["Body"] for message in pipeline.receive(pipeline.queue_url)] == [POSE]
    assert discard_letters(stack, [found[GONE], found["3"], "none"]) == 2
    assert sorted(letter.body for letter in list_letters(stack)) == sorted(str(n) for n in range(12) if n != 3)
