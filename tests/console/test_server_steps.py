"""The next step of a job as the page says it: with the names of its buttons, and no command beside a button."""

from dataclasses import replace

import pytest

from ops.console.cards import card
from ops.inspect.explain_record import explain_record
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.record import Record, Status, WaitingRecord

FAILED = Record(
    "hero-walk-0123456789abcdef",
    Status.FAILED,
    "hero",
    "walk",
    "uploads",
    created_at=1_800_000_000.0,
    updated_at=1_800_000_060.0,
    completed_at=1_800_000_060.0,
    notified_at=1_800_000_060.0,
)
ERRORS = (
    *("InvalidInput", "Rejected", "InferenceFailed", "TimedOut", "ResultExpired", "OutputInvalid"),
    *("SubmitOutcomeUnknown", "InternalError"),
)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failed_job_names_its_button_on_the_page_and_the_command_elsewhere(stack: Stack, kind: str) -> None:
    record = replace(FAILED, error={"type": kind, "message": "of this test"})
    situation = Situation.of(stack)
    shown = card(record, situation)
    assert shown["can_retry"]
    assert "Retry " in shown["step"]
    assert "python" not in f"{shown['sentence']} {shown['step']}"
    assert stack.command("retry") in explain_record(record, situation).next_step


@pytest.mark.parametrize("missing", ["face", "pose", "prompt"])
def test_what_is_missing_can_be_added_on_the_page(stack: Stack, missing: str) -> None:
    waiting = WaitingRecord("waiting/hero/walk", Status.WAITING, "hero", "walk", "uploads", missing=[missing])
    shown = card(waiting, Situation.of(stack))
    assert shown["step"].startswith("Upload ")
    assert shown["step"].endswith("Or add it here with Edit and send again.")


def test_a_cancelled_job_and_one_that_was_never_sent_name_it_too(stack: Stack) -> None:
    situation = Situation.of(stack)
    cancelled = replace(FAILED, error={"type": "InternalError", "message": "cancelled"}, cancelled=True)
    assert card(cancelled, situation)["step"] == "Retry runs it after all."
    unsent = replace(FAILED, error={"type": "InternalError", "message": "archived"})
    assert unsent.failed_unsent
    assert card(unsent, situation)["step"].startswith("Nothing was sent. Fix the cause")
