"""Tests of the queue messages: each kind is written and parsed, and unreadable ones are reported."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.aws.messages import (
    CancelMessage,
    Message,
    PoseMessage,
    RetryMessage,
    SourceUpload,
    SubmitMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)
from tests.support import load_event

SOURCE = SourceUpload("incoming/hero/face.png", "d41d8cd98f00b204e9800998ecf8427e")
DONE_AT = datetime(2026, 11, 23, 10, 15, 30, tzinfo=UTC).timestamp()
JOB_ID = "hero-walk-0123456789abcdef"


def body(name: str) -> str:
    return str(load_event(name)["Records"][0]["body"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("intake-face.json", UploadMessage("posedrop-uploads", SOURCE, DONE_AT)),
        (
            "intake-unusual-key.json",
            UploadMessage(
                "posedrop-uploads",
                SourceUpload("incoming/Kundin Ä/held + heldin/poses/geh langsam+weit ü.png", SOURCE.etag),
                DONE_AT,
            ),
        ),
        ("intake-pose-message.json", PoseMessage("posedrop-uploads", "hero", "walk", SOURCE)),
    ],
)
def test_the_sample_events_are_read(name: str, message: Message) -> None:
    assert parse_message(body(name)) == message


@pytest.mark.parametrize("time", [None, 7, "", "yesterday", {}])
def test_an_upload_without_a_time_is_read(time: object) -> None:
    event = {**json.loads(body("intake-face.json")), "time": time}
    assert parse_message(json.dumps(event)) == UploadMessage("posedrop-uploads", SOURCE)


@pytest.mark.parametrize(
    "message",
    [
        PoseMessage("bucket", "client ä/hero", "walk + run", SOURCE),
        PoseMessage("bucket", "hero", "walk", None),
        PoseMessage("bucket", "hero", "", SOURCE),
        PoseMessage("bucket", "hero", "", SOURCE, 1700000000.0, "incoming/hero/poses/ä.png"),
        PoseMessage("bucket", "hero", "", None, None, "incoming/hero/poses/walk.png"),
        PoseMessage("bucket", "hero", "walk", SourceUpload("incoming/hero/face.png", "")),
        SubmitMessage(JOB_ID),
        RetryMessage(JOB_ID),
        RetryMessage(JOB_ID, buy_again=True),
        CancelMessage(JOB_ID, 3),
        CancelMessage("waiting/client ä/hero/walk"),
    ],
)
def test_our_own_messages_are_read_as_they_were_sent(
    message: PoseMessage | SubmitMessage | RetryMessage | CancelMessage,
) -> None:
    assert parse_message(message.to_json()) == message
    assert message.to_json().isascii()


def event(**changes: Any) -> dict[str, Any]:
    return {**json.loads(body("intake-face.json")), **changes}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not an event", "not a JSON object"),
        (None, "not a JSON object"),
        ([], "not a JSON object"),
        ({}, "none of"),
        ({"detail": {}}, "missing"),
        (event(**{"detail-type": "Object Deleted"}), "another kind: 'Object Deleted'"),
        (event(**{"detail-type": "\ud800\0"}), r"another kind: '\ud800\x00'"),
        (event(detail=None), "wrong type"),
        (event(detail="x"), "wrong type"),
        (event(detail={"bucket": {"name": "b"}, "object": {}}), "missing"),
        (event(detail={"bucket": {"name": "b"}, "object": {"key": ""}}), "expected a text"),
        (event(detail={"bucket": {"name": 1}, "object": {"key": "k"}}), "expected a text, got int"),
        (event(detail={"bucket": [], "object": {"key": "k"}}), "wrong type"),
        ({"job": "x"}, "wrong type"),
        ({"job": []}, "wrong type"),
        ({"job": {"bucket": "b", "character": "c"}}, "missing"),
        ({"job": {"bucket": "b", "character": "", "pose": "p"}}, "expected a text"),
        ({"job": {"bucket": "b", "character": "c", "pose": None}}, "expected a text, got NoneType"),
        ({"job": {"bucket": "b", "character": "c", "pose": 0}}, "expected a text, got int"),
        ({"job": {"bucket": "b", "character": "c", "pose": "p", "upload": 7}}, "wrong type"),
        ({"job": {"bucket": "b", "character": "c", "pose": "", "after": 1}}, "expected a text, got int"),
        ({"submit": 1}, "expected a text, got int"),
        ({"submit": "waiting/hero/walk"}, "not the id of a job"),
        ({"submit": "rate-limit"}, "not the id of a job"),
        ({"retry": JOB_ID.upper()}, "not the id of a job"),
        ({"cancel": "walk", "attempt": 1}, "not the id of a job"),
        ({"cancel": 7, "attempt": 1}, "expected a text, got int"),
        ({"cancel": JOB_ID}, "missing"),
        ({"cancel": JOB_ID, "attempt": "1"}, "expected a whole number, got '1'"),
        ({"submit": JOB_ID, "number": True}, "expected a whole number, got True"),
    ],
)
def test_an_unreadable_message_is_reported_with_the_reason(content: object, reason: str) -> None:
    with pytest.raises(UnreadableMessage) as caught:
        parse_message(json.dumps(content))
    assert reason in str(caught.value)
    # A message attribute of SQS takes no control characters and nothing that is not Unicode.
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "hello"])
def test_what_is_not_json_is_reported_so(text: str) -> None:
    with pytest.raises(UnreadableMessage, match=r"^not JSON"):
        parse_message(text)


JSON_VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["detail", "detail-type", "bucket", "name", "object", "key", "job", "pose", "upload", "after"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_any_json_is_a_message_or_unreadable(content: object) -> None:
    try:
        message = parse_message(json.dumps(content))
    except UnreadableMessage:
        return
    assert isinstance(message, Message)
