"""The notification: its schema, what SNS takes, and what people read."""

import json
import unicodedata
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posedrop.aws.notifier import email, incomplete, publish, subject
from posedrop.aws.notifier import notification as notified
from posedrop.aws.record import Record, Status, WaitingRecord
from posedrop.contract.reasons import InputFault
from posedrop.contract.times import epoch
from tests.support import load_event, schema

SNS_LIMIT = 256 * 1024
SUBJECT_LIMIT = 100
RFC3339 = "2026-11-23T10:16:12.900Z"

INPUT = {
    "bucket": "in",
    "key": "incoming/hero/face.png",
    "version_id": "1",
    "sha256": "0" * 64,
    "etag": "e",
    "bytes": 9,
}
OUTPUT = {
    "bucket": "out",
    "key": "outputs/hero/walk/hero-walk-0123456789abcdef/1/1.png",
    "uri": "s3://out/outputs/hero/walk/hero-walk-0123456789abcdef/1/1.png",
    "url": None,
    "content_type": "image/png",
    "bytes": 1,
    "sha256": "2" * 64,
    "width": 1024,
    "height": 1024,
}
SUCCEEDED = Record(
    job_id="hero-walk-0123456789abcdef",
    status=Status.SUCCEEDED,
    character="hero",
    pose="walk",
    inputs={"face": INPUT, "pose": INPUT},
    parameters={"prompt": "walking", "samples": 1},
    context={"order": 17},
    request_id="request-1",
    submitted_at=epoch(RFC3339),
    completed_at=epoch(RFC3339),
    outputs=[OUTPUT],
    metrics={"inference_seconds": 31.06, "total_seconds": 36.2, "polls": 3},
)
FAILED = replace(
    SUCCEEDED, status=Status.FAILED, outputs=[], error={"type": "InferenceFailed", "message": "Content was blocked."}
)
NOTHING_KNOWN = Record(
    job_id="hero-walk-0123456789abcdef",
    status=Status.FAILED,
    character="hero",
    pose="walk",
    error={"type": "InternalError", "message": "the files could not be read"},
    completed_at=epoch(RFC3339),
)
UNREAD_FACE = replace(NOTHING_KNOWN, inputs={"face": {**INPUT, "sha256": None, "version_id": None}})


class Topic:
    """Stands for SNS: keeps what was published."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []

    def publish(self, **arguments: Any) -> None:
        self.published.append(arguments)


def notification(record: Record) -> dict[str, Any]:
    """The notification as JSON has it."""
    return notified(record).to_dict()


def published(record: Record) -> dict[str, Any]:
    topic = Topic()
    publish(topic, "arn:aws:sns:eu-central-1:123456789012:topic", notified(record))  # type: ignore[arg-type]
    (found,) = topic.published
    return found


def valid(message: dict[str, Any]) -> bool:
    jsonschema.validate(message, schema("notification"), cls=jsonschema.Draft7Validator)
    return True


@pytest.mark.parametrize("record", [SUCCEEDED, FAILED, NOTHING_KNOWN, UNREAD_FACE])
def test_every_notification_has_all_keys_and_fits_the_schema(record: Record) -> None:
    message = notification(record)
    assert valid(message)
    assert list(message) == list(load_event("notification.json"))
    assert message == json.loads(json.dumps(message))


def test_the_sample_fits_the_schema_and_looks_like_a_real_one() -> None:
    sample = load_event("notification.json")
    assert valid(sample)
    real = notification(SUCCEEDED)
    for part in ("inputs", "metrics"):
        assert list(sample[part]) == list(real[part])
    assert list(sample["outputs"][0]) == list(real["outputs"][0])
    assert list(sample["inputs"]["face"]) == list(real["inputs"]["face"])


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"status": "DONE"},
        {"error": {"type": "Oops", "message": ""}},
        {"outputs": []},
        {"completed_at": "2026-11-23 10:16"},
        {"extra": 1},
        {"job_id": "hero"},
    ],
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid({**notification(SUCCEEDED), **change})


def test_an_ended_job_without_known_values_has_null_in_their_place() -> None:
    message = notification(NOTHING_KNOWN)
    for key in ("request_id", "parameters", "context", "submitted_at"):
        assert message[key] is None
    assert message["inputs"] == {"face": None, "pose": None}
    assert set(message["metrics"].values()) == {None}


def test_a_code_for_operators_is_no_part_of_a_notification() -> None:
    sent = notification(replace(FAILED, error={"type": "InvalidInput", "message": "bad", "code": InputFault.IMAGE}))
    assert sent["error"] == {"type": "InvalidInput", "message": "bad"}


@pytest.mark.parametrize(
    ("pose", "missing", "reason", "message"),
    [
        ("walk", ["face"], None, f"the uploads wait: face missing since {RFC3339}"),
        ("walk", ["face", "pose"], "a hint", f"the uploads wait: face and pose missing since {RFC3339} (a hint)"),
        ("", ["pose"], None, f"the uploads wait: pose missing since {RFC3339}"),
        ("walk", [], "not read", f"the uploads wait: nothing missing since {RFC3339} (not read)"),
    ],
)
def test_uploads_that_wait_too_long(pose: str, missing: list[str], reason: str | None, message: str) -> None:
    record = WaitingRecord(f"waiting/hero/{pose}", Status.WAITING, "hero", pose, missing=missing, reason=reason)
    sent = incomplete(replace(record, created_at=epoch(RFC3339))).to_dict()
    assert valid(sent)
    assert list(sent) == list(load_event("notification.json"))
    unknown = {**notification(NOTHING_KNOWN), "completed_at": None}
    error = {"type": "Incomplete", "message": message}
    named = {"job_id": f"waiting/hero/{pose}", "attempt": 1, "status": "INCOMPLETE", "pose": pose or None}
    assert sent == {**unknown, **named, "error": error}


def test_a_failure_says_no_outputs() -> None:
    assert notification(replace(FAILED, outputs=[OUTPUT]))["outputs"] == []


# ---- what SNS takes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "attributes"),
    [
        (SUCCEEDED, {"status": "SUCCEEDED", "character": "hero"}),
        (FAILED, {"status": "FAILED", "character": "hero", "error_type": "InferenceFailed"}),
    ],
)
def test_attributes_for_filter_policies(record: Record, attributes: dict[str, str]) -> None:
    found = published(record)["MessageAttributes"]
    assert found == {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}


def test_a_message_for_programs_and_a_text_for_people() -> None:
    found = published(FAILED)
    assert found["MessageStructure"] == "json"
    message = json.loads(found["Message"])
    assert json.loads(message["default"]) == notification(FAILED)
    assert "Reason: InferenceFailed: Content was blocked." in message["email"].splitlines()
    assert set(message) == {"default", "email"}


NAMES = ["hero", "Kundin Ä/held + heldin", "日本/東京", "🦊", "a\nb", "\x00", "-", "x" * 900, "é" * 450, " ", '"\\']


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@given(
    character=st.one_of(st.sampled_from(NAMES), st.text(min_size=1)), pose=st.one_of(st.sampled_from(NAMES), st.text())
)
def test_sns_accepts_the_subject_of_any_name(status: str, character: str, pose: str) -> None:
    text = subject(replace(notified(SUCCEEDED), character=character, pose=pose, status=status))
    # SNS: ASCII text without line breaks or control characters, under 100 characters, beginning with a letter.
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < SUBJECT_LIMIT
    assert text[0].isalpha()
    assert status.lower() in text


LETTERS = ["a", '"', "\\", "ä", "日", "\U0001f98a", "\x01", "\n", "\x7f", "\u2028", "<", "/"]


def filled(letter: str, size: int) -> str:
    """A text of this letter that has `size` bytes in UTF-8, or the most that it can have below."""
    return letter * (size // len(letter.encode()))


def large(letters: list[str], outputs: int = 4) -> Record:
    """A record with all that the contract allows, of these letters."""
    prompt, context, *others = (letters * 3)[:3]
    face = next((letter for letter in others if unicodedata.category(letter) != "Cc"), '"')  # no key has such a one
    key = filled(face, 1024)  # bytes of a key (S3 user guide, object keys)
    encoded = len(json.dumps(context, ensure_ascii=False).encode()) - 2
    return replace(
        SUCCEEDED,
        character=filled(face, 900),
        pose=filled(face, 900),
        parameters={"prompt": filled(prompt, 8192), "samples": 4, "output_format": "png", "seed": 2778725438},
        context={"t": context * ((4096 - 10) // encoded)},
        outputs=[{**OUTPUT, "key": key, "uri": f"s3://{'b' * 63}/{key}"}] * outputs,
        inputs={name: {**INPUT, "bucket": "b" * 63, "key": key, "version_id": "v" * 1024} for name in ("face", "pose")},
        request_id="r" * 128,
        error=None,
    )


def counted(found: dict[str, Any]) -> int:
    """The bytes that SNS counts: of the message as it is sent, and of each attribute's name, type and value."""
    texts = [found["Message"]]
    for name, attribute in found["MessageAttributes"].items():
        texts += [name, attribute["DataType"], attribute["StringValue"]]
    return sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("error", [None, *LETTERS])
@given(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=3), st.sampled_from([4, 16]))
@example(["\x01", "\x01", '"'], 16)
def test_the_largest_message_fits_into_sns(error: str | None, letters: list[str], outputs: int) -> None:
    record = large(letters, outputs)  # of a job that ended before there were at most four outputs: more
    if error:
        error_of = {"type": "SubmitOutcomeUnknown", "message": filled(error, 1024)}
        record = replace(record, status=Status.FAILED, error=error_of)
    found = published(record)
    assert counted(found) <= SNS_LIMIT
    message = json.loads(json.loads(found["Message"])["default"])
    whole = notification(record)
    for part in whole.keys() - {"parameters", "error"}:
        assert message[part] == whole[part]
    assert whole["parameters"]["prompt"].startswith(message["parameters"]["prompt"])
    assert len(message["parameters"]["prompt"].encode()) >= 1021


def test_the_largest_of_today_s_messages_is_reported_as_it_is() -> None:
    record = large(["\x01", "\x01", '"'])
    found = json.loads(published(record)["Message"])
    assert json.loads(found["default"]) == notification(record)


def test_only_the_texts_of_a_message_that_does_not_fit_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    whole = large(["\x01", "\x01", '"'])
    record = replace(whole, parameters={**whole.parameters, "prompt": "\x01" * 65536})  # from before there was a limit
    found = json.loads(published(record)["Message"])
    assert json.loads(found["default"])["parameters"] == {**record.parameters, "prompt": "\x01" * 1024}
    assert "the notification is too large: its texts are cut" in caplog.text


def test_no_empty_attribute() -> None:
    assert "character" not in published(replace(SUCCEEDED, character=""))["MessageAttributes"]


# ---- links -----------------------------------------------------------------------------------------------------------

LINK = "https://out.s3.eu-central-1.amazonaws.com/1.png?X-Amz-Signature=0"


def test_a_notification_with_links_fits_the_schema_and_the_mail_has_them() -> None:
    keys: list[str] = []
    message = notified(SUCCEEDED).with_links(lambda key: keys.append(key) or LINK)
    assert valid(message.to_dict())
    assert keys == [OUTPUT["key"]]
    assert message.to_dict() == {**notification(SUCCEEDED), "outputs": [{**OUTPUT, "url": LINK}]}
    lines = email(message).splitlines()
    assert lines[lines.index(f"Image: {OUTPUT['uri']}") + 1] == f"Link, for a limited time: {LINK}"


@pytest.mark.parametrize("letter", LETTERS)
def test_the_largest_of_today_s_messages_fits_with_links(letter: str) -> None:
    record = large([letter, "\x01", "日"])
    # As long as they get: the key, encoded, and credentials of a session.
    link = "https://" + "%E6%97%A5" * 341 + "x" * 2500
    topic = Topic()
    publish(topic, "topic", notified(record).with_links(lambda key: link))  # type: ignore[arg-type]
    (found,) = topic.published
    assert counted(found) <= SNS_LIMIT
    sent = json.loads(json.loads(found["Message"])["default"])
    assert {output["url"] for output in sent["outputs"]} <= {link, None}
    assert [output["key"] for output in sent["outputs"]] == [output["key"] for output in record.outputs]


# ---- what people read ----------------------------------------------------------------------------------------------


def test_email_of_a_success() -> None:
    assert email(notified(SUCCEEDED)).splitlines() == [
        "Character: hero",
        "Pose: walk",
        "Status: SUCCEEDED",
        f"Image: {OUTPUT['uri']}",
        "Prompt: walking",
        "Job: hero-walk-0123456789abcdef, attempt 1",
        "Request id: request-1",
    ]


def test_an_email_has_the_beginning_of_a_long_prompt() -> None:
    record = replace(SUCCEEDED, parameters={"prompt": "walk " * 1000})
    (line,) = (line for line in email(notified(record)).splitlines() if line.startswith("Prompt: "))
    assert line.removeprefix("Prompt: ") == ("walk " * 1000)[:1024]


def test_email_of_a_job_of_which_nothing_is_known() -> None:
    text = email(notified(NOTHING_KNOWN))
    assert "Reason: InternalError: the files could not be read" in text
    assert "None" not in text
