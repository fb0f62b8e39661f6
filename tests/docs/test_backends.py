"""docs/backends.md, what needs no stack: types of error, notifications that come twice. tests/e2e runs the program."""

import email.header
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from posedrop.contract.parameters import metadata_prompt
from tests.backend import DOCUMENT, program
from tests.support import ROOT, load_event

VARIABLES = {
    "UPLOAD_BUCKET_NAME": "uploads",
    "UPLOAD_PREFIX": "incoming/",
    "UPLOAD_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/uploads",
    "JOBS_TABLE_NAME": "jobs",
    "NOTIFICATION_TOPIC_ARN": "arn:aws:sns:us-east-1:1:topic",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
}


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ModuleType]:
    """The document's program, imported; its database is empty."""
    with program(tmp_path, VARIABLES) as found:
        yield found


def types() -> set[str]:
    spec = importlib.util.spec_from_file_location("events_notification", ROOT / "events" / "notification.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return set(get_args(module.ErrorType))


def test_the_table_names_every_type_of_error() -> None:
    rows = re.findall(r"^\| ([A-Z][\w, ]+)(?: \(.*?\))? \|", DOCUMENT.path.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} == types()


def test_the_program_knows_every_type_of_error(backend: ModuleType) -> None:
    assert types() == backend.FOR_THE_USER | backend.LATER | backend.FOR_US | {"Incomplete"}


def notification(**changes: Any) -> dict[str, Any]:
    return {**load_event("notification.json"), **changes}


FAILED = {"status": "FAILED", "outputs": []}


@pytest.mark.parametrize("kind", sorted(types() - {"Incomplete"}))
def test_what_may_pass_is_tried_again_twice(backend: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    retried: list[str] = []
    monkeypatch.setattr(backend, "retry", retried.append)
    for attempt in (1, 2, 3):
        backend.handle(notification(**FAILED, attempt=attempt, error={"type": kind, "message": "why"}))
    assert len(retried) == (2 if kind in backend.LATER else 0)


def test_a_notification_that_comes_twice_or_late_changes_nothing(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    monkeypatch.setattr(backend, "fetch", lambda found: fetched.append(found["attempt"]))
    for attempt in (2, 2, 1, 3):
        backend.handle(notification(attempt=attempt))
    assert fetched == [2, 3]


def test_what_could_not_be_handled_is_not_noted(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(backend, "fetch", broken)
    with pytest.raises(OSError, match="full"):
        backend.handle(notification())
    assert backend.database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def test_incomplete_uploads_are_sent_and_not_retried(backend: ModuleType) -> None:
    error = {"type": "Incomplete", "message": "the uploads wait: pose missing"}
    backend.handle(notification(status="INCOMPLETE", job_id="waiting/hero/", outputs=[], error=error))
    assert "pose missing" in backend.database.execute("SELECT state FROM jobs").fetchone()[0]


# ---- prompts in metadata ---------------------------------------------------------------------------------------------


def test_the_prompts_of_the_commands_are_what_the_text_says() -> None:
    commands = "".join(DOCUMENT.under("Send a pair", "sh")).splitlines()
    given = [json.loads(shlex.split(command)[-1])["prompt"] for command in commands]
    assert all(prompt.isascii() for prompt in given)
    assert [metadata_prompt({"prompt": prompt}) for prompt in given] == ["walking, in the rain", "im Büro"]


def test_the_encoding_of_the_text_is_read_as_it_was() -> None:
    (code,) = [span for span in DOCUMENT.spans if "email.header" in span]
    text = "雨の中を歩く " * 200
    encoded = eval(code.replace('"im Büro"', "text"), {"email": email, "text": text})
    assert encoded.isascii()
    assert "\n" not in encoded
    assert metadata_prompt({"prompt": encoded}) == text.strip()
