"""Start the execution of an attempt. It polls until the job ends, or only notifies if the job has already ended."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.record import Record, Status
from posedrop.contract.errors import ExecutionNameTaken
from posedrop.contract.execution import ExecutionState
from posedrop.contract.naming import execution_arn

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


class Executions:
    """The executions of one state machine."""

    def __init__(self, sfn: "SFNClient", state_machine_arn: str) -> None:
        self._sfn = sfn
        self._state_machine_arn = state_machine_arn

    def start_ended(self, record: Record) -> None:
        """Start an execution that only notifies, for an attempt that ended unsent. Raises as `start` does."""
        self._start(record, ExecutionState(record.job_id, record.attempt, finished=True))

    def start(self, record: Record, first_wait: int, tenths: Sequence[int]) -> None:
        """Start the execution of the record's attempt. Do nothing if it was already started for the same request.

        `first_wait` is in seconds. `tenths` are the durations of the last jobs in tenths of a second.

        Raises ExecutionNameTaken. Errors of Step Functions pass as botocore's ClientError.
        """
        self._start(record, first_state(record, first_wait, tenths))

    def _start(self, record: Record, state: ExecutionState) -> None:
        name = record.execution_name
        try:
            self._sfn.start_execution(
                stateMachineArn=self._state_machine_arn, name=name, input=json.dumps(state.to_dict())
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise
            other = self._input(name)
            if other and other.get("request_id") != record.request_id:
                raise ExecutionNameTaken(f"{name} was started for another request: {other.get('request_id')}") from exc

    def _input(self, name: str) -> dict[str, Any]:
        """Return an execution's input, or an empty dict if the execution has expired (after 90 days)."""
        try:
            found = self._sfn.describe_execution(executionArn=execution_arn(self._state_machine_arn, name))
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            return {}
        given: dict[str, Any] = json.loads(found["input"])
        return given


def first_state(record: Record, first_wait: int, tenths: Sequence[int]) -> ExecutionState:
    """Return the input of an execution: ids, times and the latency, but never images."""
    if record.status is not Status.SUBMITTED or record.submitted_at is None:
        return ExecutionState(record.job_id, record.attempt, finished=True)
    return ExecutionState(
        record.job_id,
        record.attempt,
        record.character,
        record.pose,
        record.request_id,
        record.submitted_at,
        wait_seconds=first_wait,
        tenths=tuple(tenths),
    )
