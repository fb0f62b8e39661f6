"""End a job: fetch and store its outputs, write the ledger, notify."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Logger

from posedrop.aws.ledger import Ledger
from posedrop.aws.metrics import count
from posedrop.aws.record import RESCUABLE, Record
from posedrop.contract.delivery_requests import ExecutionEnd
from posedrop.contract.errors import (
    JOB_ERRORS,
    Conflict,
    DeliveryFailed,
    InternalError,
    JobError,
    OutputInvalid,
    RecordMissing,
    RescueDeferred,
    Superseded,
)
from posedrop.contract.execution import ExecutionState, TaskFault
from posedrop.deliver.ending import Ending
from posedrop.deliver.fetching import Fetching
from posedrop.deliver.notifying import Notifying

logger = Logger(child=True)

# Lambda's error object begins with the message (AWS Lambda developer guide, Python function errors).
_ERROR_MESSAGE = re.compile(r'\s*\{\s*"errorMessage":\s*("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")')

DEFERRALS = 10
"""How often a delivery waits for a Retry-After. After that, Step Functions retries it as after any other fault."""


class Delivery:
    """Ends the attempts of executions."""

    def __init__(self, ledger: Ledger, fetching: Fetching, ending: Ending, notifying: Notifying) -> None:
        self._ledger = ledger
        self._fetching = fetching
        self._ending = ending
        self._notifying = notifying

    def deliver(self, state: ExecutionState, remaining: Callable[[], float]) -> dict[str, Any]:
        """End the attempt of an execution, notify, and return the result of the execution.

        A second call changes nothing. If a server asks to wait, the result is the state with which the execution
        continues after the wait. `remaining` returns the function's seconds left. Raises DeliveryFailed if a retry may
        succeed, and RecordMissing.
        """
        try:
            record = self._record(state.job_id, state.attempt)
            if not record.ended:
                record = self._end(record, state, remaining)
        except Superseded as exc:
            logger.warning("superseded", reason=str(exc))
            error = InternalError(str(exc))
            return {**state.to_dict(), "status": "SUPERSEDED", "error": {"type": error.type, "message": str(error)}}
        except DeliveryFailed as exc:
            if not exc.retry_after or state.faults >= DEFERRALS:
                raise
            logger.warning("deferred", reason=str(exc), seconds=exc.retry_after)
            return _deferred(state, exc.retry_after)
        self._notifying.notify(record, state, last=state.deliver_fault is not None)
        return {
            "job_id": record.job_id,
            "attempt": record.attempt,
            "status": str(record.status),
            "error": record.error,
            "outputs": [output["uri"] for output in record.outputs],
        }

    def report_execution(self, end: ExecutionEnd, remaining: Callable[[], float]) -> None:
        """End and notify the job of an execution that failed, unless it was notified already. Raises RecordMissing."""
        try:
            record = self._record(end.job_id, end.attempt)
            if record.notified_at:
                return
            if not record.ended:
                text = f"the execution ended as {end.status}" + (f": {end.cause[:500]}" if end.cause else "")
                record = self._fail(record, InternalError(text), None, remaining)
        except Superseded as exc:
            logger.info("superseded", reason=str(exc))
            return
        logger.error("the execution did not notify its job's end", status=end.status)
        count("ExecutionWithoutNotification")
        self._notifying.notify(record, None, last=True)

    def _record(self, job_id: str, attempt: int) -> Record:
        record = self._ledger.get(job_id)
        if record is None:
            raise RecordMissing(f"{job_id} has no record")
        logger.append_keys(character=record.character, pose=record.pose)
        if record.attempt != attempt:
            raise Superseded(f"{job_id} is at attempt {record.attempt}, this is attempt {attempt}")
        return record

    def _end(self, record: Record, state: ExecutionState, remaining: Callable[[], float]) -> Record:
        """Find out how the attempt ended, store its outputs, and write the end into the ledger."""
        try:
            if state.error:
                error = JOB_ERRORS[state.error["type"]](state.error["message"])
                error.cost_usd = state.cost_usd
                raise error
            if state.deliver_fault:
                raise _final(state.deliver_fault, state.poll_fault)
            made = self._fetching.fetch(record, remaining)
            return self._written(record, lambda: self._ending.succeed(record, state, made))
        except JobError as exc:
            return self._fail(record, exc, state, remaining)

    def _fail(
        self, record: Record, error: JobError, state: ExecutionState | None, remaining: Callable[[], float]
    ) -> Record:
        """Fail an attempt, unless its images can still be fetched through the provider's history.

        The history is tried once here. The sweep tries it again later.
        """
        if error.type in RESCUABLE and record.request_id is not None:
            try:
                made = self._fetching.rescue(record, remaining)
            except (RescueDeferred, DeliveryFailed, OutputInvalid) as exc:
                logger.warning("not rescued", reason=str(exc))
            else:
                if made.outputs:
                    logger.warning("rescued: its result was gone", error_type=error.type, reason=str(error))
                    return self._written(record, lambda: self._ending.succeed(record, state, made, rescued=True))
                error.cost_usd = made.cost_usd
        return self._written(record, lambda: self._ending.fail(record, error, state))

    def _written(self, record: Record, write: Callable[[], Record]) -> Record:
        """Do a write and return the record. If another run ended the attempt first, return the record of that run."""
        try:
            return write()
        except Conflict:
            return self._record(record.job_id, record.attempt)


def _deferred(state: ExecutionState, seconds: float) -> dict[str, Any]:
    """Return the state with which the execution waits `seconds` and then delivers again. No function runs meanwhile.

    Because `completed` is set, `poll` makes no call, and restores `wait_seconds` from `poll_wait_seconds`.
    """
    waiting = replace(
        state,
        finished=False,
        completed=True,
        wait_seconds=math.ceil(seconds),
        poll_wait_seconds=state.wait_seconds,
        faults=state.faults + 1,
        poll_fault=None,
    )
    return {**waiting.to_dict(), "status": "DEFERRED"}


def _final(fault: TaskFault, poll_fault: TaskFault | None) -> JobError:
    """Return the error of a job whose delivery was given up, from what Step Functions reports about the last try."""
    if poll_fault:
        return InternalError(f"the status could not be polled: {poll_fault.error}: {_message(fault.cause)}")
    if fault.error == DeliveryFailed.__name__:
        return OutputInvalid(f"the output could not be delivered: {_message(fault.cause)}")
    return InternalError(f"the delivery failed: {fault.error}: {_message(fault.cause)}")


def _message(cause: str) -> str:
    """Return the error message in a cause. The cause is Lambda's JSON, and may be cut off in the stack trace."""
    found = _ERROR_MESSAGE.match(cause)
    return str(json.loads(found[1])) if found else cause
