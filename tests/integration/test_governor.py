"""The governor's one item in the table: shared by all functions, changed by compare-and-swap."""

import json
import time
from dataclasses import asdict
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from posedrop.errors import TransientFault
from posedrop.gate.breaker import Breaker
from posedrop.governor import Governor
from posedrop.pacing import Held, Limits, Pacing, Turn
from tests.integration.conftest import TABLE, Pipeline

NOW = 1_800_000_000.0
LIMITS = Limits(600, "submits")


@pytest.fixture
def governor(pipeline: Pipeline) -> Governor:
    return Governor(boto3.client("dynamodb"), TABLE, LIMITS)


def test_the_state_is_kept(governor: Governor) -> None:
    assert governor.read() == Pacing()
    changed = governor.change(lambda pacing: pacing.rate_limited(NOW, 30, LIMITS))
    assert governor.read() == changed == Pacing().rate_limited(NOW, 30, LIMITS)
    opened = governor.trip(lambda breaker: breaker.key_refused(NOW, "because", 900))
    assert governor.read_breaker() == opened == Breaker().key_refused(NOW, "because", 900)


def test_a_pause_gives_slots_of_the_time_after_it_and_then_one_probe(governor: Governor) -> None:
    governor.trip(lambda breaker: breaker.key_refused(NOW, "because", 900))
    during = governor.take(NOW + 1, None)
    assert isinstance(during, Held)
    assert (during.until, during.code, during.reason) == (NOW + 900, "PAUSED", "because")
    assert isinstance(governor.take(NOW + 900, during.slot), Turn)
    other = governor.take(NOW + 901, None)
    assert isinstance(other, Held)
    assert "probe" in other.reason
    governor.accepted(NOW + 902, NOW + 930)
    assert isinstance(governor.take(NOW + 903, None), Turn)


def test_of_two_probes_at_once_one_is_sent(pipeline: Pipeline, governor: Governor) -> None:
    governor.trip(lambda breaker: breaker.key_refused(NOW, "because", 900))
    others: list[Turn | Held] = []

    def race(params: dict[str, Any], **_: Any) -> None:
        if b'"pacing"' in params["body"]:
            end()
            others.append(Governor(boto3.client("dynamodb"), TABLE, LIMITS).take(NOW + 900, None))

    end = pipeline.hook("dynamodb", "UpdateItem", race)
    taken = [governor.take(NOW + 900, None), *others]
    assert sorted(type(found).__name__ for found in taken) == ["Held", "Turn"]


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
    with pytest.raises(TransientFault):
        governor.take(NOW, None)


def test_a_fault_of_the_table_passes(pipeline: Pipeline, governor: Governor) -> None:
    pipeline.break_call("dynamodb", "UpdateItem", "ProvisionedThroughputExceededException")
    with pytest.raises(ClientError):
        governor.take(NOW, None)


def test_a_state_of_another_version_of_this_program_is_read(governor: Governor, pipeline: Pipeline) -> None:
    state: dict[str, Any] = {**asdict(Pacing()), "limited": 1, "something_new": 7}
    del state["day_jobs"]
    pipeline.dynamodb.put_item(Item={"job_id": "pacing", "state": json.dumps(state), "version": 4})
    assert governor.read() == Pacing(limited=1)
    assert isinstance(governor.take(NOW, None), Turn)
