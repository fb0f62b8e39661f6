"""The governor's one item in the table: shared by all functions, changed by compare-and-swap."""

import json
import time
from dataclasses import asdict
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from posedrop.governor import Governor, PacingBusy
from posedrop.pacing import Held, Limits, Pacing, Turn
from tests.integration.conftest import TABLE, Pipeline

NOW = 1_800_000_000.0
LIMITS = Limits(600, "submits")


@pytest.fixture
def governor(pipeline: Pipeline) -> Governor:
    return Governor(boto3.client("dynamodb"), TABLE, LIMITS)


def test_the_state_is_kept(governor: Governor) -> None:
    assert governor.read() == Pacing()
    changed = governor.change(lambda pacing: pacing.account_refused(NOW, "because", 900))
    assert governor.read() == changed == Pacing().account_refused(NOW, "because", 900)


@pytest.mark.parametrize("before", [0, 1])
def test_who_loses_a_race_takes_the_next_slot(pipeline: Pipeline, governor: Governor, before: int) -> None:
    for _ in range(before):
        governor.take(NOW, None)
    winners: list[Turn | Held] = []

    def race(**_: Any) -> None:
        end()
        winners.append(Governor(boto3.client("dynamodb"), TABLE, LIMITS).take(NOW, None))

    end = pipeline.hook("dynamodb", "UpdateItem", race)
    loser = governor.take(NOW, None)
    assert [taken.at - NOW for taken in (*winners, loser) if isinstance(taken, Turn)] == pytest.approx(
        [before * LIMITS.interval, (before + 1) * LIMITS.interval], abs=0.001
    )


def test_what_changes_nothing_is_not_written(pipeline: Pipeline, governor: Governor) -> None:
    pipeline.break_call("dynamodb", "UpdateItem")
    assert governor.change(Pacing.answered) == Pacing()


@pytest.mark.parametrize("before", [0, 1])
def test_a_state_that_never_holds_still_is_told(
    pipeline: Pipeline, governor: Governor, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    for number in range(before):
        governor.take(NOW + number, None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    pipeline.break_call("dynamodb", "UpdateItem", "ConditionalCheckFailedException")
    with pytest.raises(PacingBusy):
        governor.take(NOW, None)


def test_a_fault_of_the_table_passes(pipeline: Pipeline, governor: Governor) -> None:
    pipeline.break_call("dynamodb", "UpdateItem", "ProvisionedThroughputExceededException")
    with pytest.raises(ClientError):
        governor.take(NOW, None)


def test_a_state_of_another_version_of_this_program_is_read(governor: Governor, pipeline: Pipeline) -> None:
    state: dict[str, Any] = {**asdict(Pacing()), "unknowns": 1, "something_new": 7}
    del state["openings"]
    pipeline.dynamodb.put_item(Item={"job_id": "pacing", "state": json.dumps(state), "version": 4})
    assert governor.read() == Pacing(unknowns=1)
    assert isinstance(governor.take(NOW, None), Turn)
