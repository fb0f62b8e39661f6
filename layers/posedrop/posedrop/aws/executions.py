"""Starting the execution of an attempt: the wait loop, or, for a job that ended before it, only the telling."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.aws.record import Record, Status
from posedrop.contract.errors import PosedropError
from posedrop.contract.naming import execution_arn, execution_name
from posedrop.contract.times import epoch

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


class ExecutionNameTaken(PosedropError):
    """An execution with the name of this attempt runs or ran for another request. Names stay taken for 90 days."""


class Executions:
    """The executions of one state machine."""

    def __init__(self, sfn: "SFNClient", state_machine_arn: str) -> None:
        self._sfn = sfn
        self._state_machine_arn = state_machine_arn

    def start_ended(self, record: Record) -> None:
        """Start the execution of an attempt that ended before it was sent: it only notifies. Raises as `start` does."""
        self._start(record, execution_input(record, 0, {}))

    def start(self, record: Record, first_wait: int, latency: Mapping[str, Any]) -> None:
        """Start the execution of the record's attempt, or leave the one that there is. `first_wait` is in seconds,
        `latency` what `poll` is to know of the last jobs' durations, as JSON has it.

        Raises ExecutionNameTaken. Errors of Step Functions pass as botocore's ClientError.
        """
        self._start(record, execution_input(record, first_wait, latency))

    def _start(self, record: Record, given: dict[str, Any]) -> None:
        name = execution_name(record.job_id, record.attempt)
        try:
            self._sfn.start_execution(stateMachineArn=self._state_machine_arn, name=name, input=json.dumps(given))
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionAlreadyExists":
                raise
            other = self._input(name)
            if other and other.get("request_id") != record.request_id:
                raise ExecutionNameTaken(f"{name} was started for another request: {other.get('request_id')}") from exc

    def _input(self, name: str) -> dict[str, Any]:
        """The input of an execution that there is, or nothing once its history has expired (after 90 days)."""
        try:
            found = self._sfn.describe_execution(executionArn=execution_arn(self._state_machine_arn, name))
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            return {}
        given: dict[str, Any] = json.loads(found["input"])
        return given


def execution_input(record: Record, first_wait: int, latency: Mapping[str, Any]) -> dict[str, Any]:
    """What an execution begins with: ids, times and what is known of the latency, never images."""
    if record.status is not Status.SUBMITTED or record.submitted_at is None:
        return {"job_id": record.job_id, "attempt": record.attempt, "finished": True}
    return {
        "job_id": record.job_id,
        "attempt": record.attempt,
        "character": record.character,
        "pose": record.pose,
        "request_id": record.request_id,
        "submitted_at": epoch(record.submitted_at),
        "polls": 0,
        "wait_seconds": first_wait,
        "finished": False,
        **latency,
    }
