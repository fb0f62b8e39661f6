"""Tests of starting executions: once for each attempt. A name used by another request is an error."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from posedrop.aws.executions import Executions
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import ExecutionNameTaken
from posedrop.gate.poll_schedule import Latency

ARN = "arn:aws:states:eu-central-1:123456789012:stateMachine:job"
NAME = "hero-walk-0123456789abcdef-2"
LATENCY = Latency.typical(31)
SUBMITTED = Record(
    "hero-walk-0123456789abcdef",
    Status.SUBMITTED,
    "hero",
    "walk",
    attempt=2,
    request_id="request-1",
    submitted_at=1_795_428_930.0,
)
ENDED = Record("hero-walk-0123456789abcdef", Status.FAILED, "hero", "walk", attempt=2)


def fault(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, operation)


class StepFunctions:
    """Executions by name. Where `forgotten`, their history has expired."""

    def __init__(self, *, forgotten: bool = False, broken: str = "") -> None:
        self.inputs: dict[str, dict[str, Any]] = {}
        self.forgotten = forgotten
        self.broken = broken

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:  # noqa: A002
        assert stateMachineArn == ARN
        if name in self.inputs:
            raise fault("ExecutionAlreadyExists", "StartExecution")
        if self.broken:
            raise fault(self.broken, "StartExecution")
        self.inputs[name] = json.loads(input)

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:
        arn, _, name = executionArn.rpartition(":")
        assert arn == ARN.replace(":stateMachine:", ":execution:")
        if self.forgotten:
            raise fault("ExecutionDoesNotExist", "DescribeExecution")
        if self.broken:
            raise fault(self.broken, "DescribeExecution")
        return {"input": json.dumps(self.inputs[name])}


def start(sfn: StepFunctions, record: Record) -> None:
    Executions(sfn, ARN).start(record, 23, LATENCY.tenths)  # type: ignore[arg-type]


@pytest.mark.parametrize("record", [SUBMITTED, ENDED], ids=["submitted", "ended"])
def test_its_own_execution_again_is_a_duplicate(record: Record) -> None:
    sfn = StepFunctions()
    for _ in range(3):
        start(sfn, record)
    assert list(sfn.inputs) == [NAME]


def test_another_request_under_the_name_is_an_error() -> None:
    """A record that expired, from a time when numbers were used again (P6)."""
    sfn = StepFunctions()
    sfn.inputs[NAME] = {
        "job_id": SUBMITTED.job_id,
        "attempt": 2,
        "request_id": "of an earlier record",
        "finished": False,
    }
    with pytest.raises(ExecutionNameTaken, match="of an earlier record"):
        start(sfn, SUBMITTED)


def test_an_end_without_a_request_does_not_pass_for_one_with_it() -> None:
    sfn = StepFunctions()
    start(sfn, ENDED)
    with pytest.raises(ExecutionNameTaken):
        start(sfn, SUBMITTED)


def test_after_ninety_days_nobody_knows_and_nothing_is_raised() -> None:
    sfn = StepFunctions(forgotten=True)
    sfn.inputs[NAME] = {"request_id": "whatever"}
    start(sfn, SUBMITTED)


@pytest.mark.parametrize("taken", [False, True])
def test_other_faults_of_step_functions_pass(taken: bool) -> None:
    sfn = StepFunctions(broken="ThrottlingException")
    if taken:
        sfn.inputs[NAME] = {}
    with pytest.raises(ClientError, match="Throttling"):
        start(sfn, SUBMITTED)
