"""Find and resume stuck jobs, whose message, function or execution was lost, and check uploads that wait."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError

from posedrop.aws.ledger import Ledger
from posedrop.aws.messages import SubmitMessage
from posedrop.aws.record import JobStatus, Record, Status
from posedrop.aws.record_table import ENDED_UNSENT, INCOMPLETE, PAID, RESCUE, Conflict
from posedrop.contract.delivery_requests import CreditsRequest, RescueRequest
from posedrop.contract.errors import PosedropError
from posedrop.contract.job import is_waiting_id
from posedrop.contract.naming import execution_arn, execution_name
from posedrop.sweep.waiting_uploads import WaitingSweep

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

logger = Logger(child=True)

RESERVE = 30.0
"""No further record is begun if the function has fewer seconds left than this."""
RECORD_KEYS = ("job_id", "attempt", "character", "pose", "execution")
"""The log keys that are set for one record and removed after it."""


@dataclass(frozen=True)
class Ages:
    """A record counts as stuck after so many seconds without a change, by its status."""

    waiting: float = 600.0
    submitting: float = 600.0
    submitted: float = 600.0  # the provider keeps a result for an hour; a running execution is not touched
    ended: float = 900.0
    rescue: float = 600.0  # since the last try to rescue an ended job

    def of(self, status: JobStatus) -> float:
        """Return the age for a job's status. An ended job counts as stuck while it is not notified."""
        named: float = getattr(self, "ended" if status in (Status.SUCCEEDED, Status.FAILED) else status.lower())
        return named


class SweepIncomplete(PosedropError):
    """Some records could not be resumed. The others were."""


class Sweep:
    """Resumes stuck jobs. `clock` is for tests."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sqs: "SQSClient",
        sfn: "SFNClient",
        waiting: WaitingSweep,
        invoker: "LambdaClient",
        submit_queue_url: str,
        state_machine_arn: str,
        deliver_function: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._sqs = sqs
        self._sfn = sfn
        self._waiting = waiting
        self._invoker = invoker
        self._submit_queue_url = submit_queue_url
        self._state_machine_arn = state_machine_arn
        self._deliver_function = deliver_function
        self._clock = clock
        self._running: frozenset[str] | None = None

    def run(self, ages: Ages, remaining: Callable[[], float]) -> dict[str, int]:
        """Check all unfinished records, and return how many records of each status were resumed.

        The sweep stops early if `remaining` (the function's seconds left) runs out. A checked record goes behind the
        others, so the next sweep begins with the unchecked ones. At the end it raises SweepIncomplete if some records
        could not be resumed.
        """
        # deliver has the API key. While no jobs are sent, nothing else reads the credits.
        self._invoke_deliver(CreditsRequest().to_dict())
        counts = dict.fromkeys(map(str, Status), 0)
        failures: list[str] = []
        self._running = None
        for job_id in self._stuck(ages):
            logger.remove_keys(RECORD_KEYS)
            if remaining() < RESERVE:
                logger.warning("the sweep ran out of time", counts=counts)
                break
            logger.append_keys(job_id=job_id)
            try:
                for status in self._check(job_id, ages):
                    counts[str(status)] += 1
            except Exception as exc:  # one record must not stop the others
                logger.exception("not resumed")
                failures.append(f"{job_id}: {type(exc).__name__}: {exc}")
        logger.remove_keys(RECORD_KEYS)
        if failures:
            raise SweepIncomplete(f"{len(failures)} records were not resumed, {counts}; the first: {failures[0]}")
        return counts

    def _stuck(self, ages: Ages) -> Iterator[str]:
        """Yield the ids of records that may be stuck: by kind, longest unchecked first. `dispatch` has queued jobs."""
        now = self._clock()
        yield from self._ledger.unfinished(PAID, now - min(ages.submitting, ages.submitted, ages.ended))
        yield from self._ledger.unfinished(ENDED_UNSENT, now - ages.ended)
        yield from self._ledger.unfinished(INCOMPLETE, now)
        yield from self._ledger.unfinished(RESCUE, now - ages.rescue)

    def _check(self, job_id: str, ages: Ages) -> list[Status]:
        """Resume a record if it is stuck. Return its status in a list, or an empty list if nothing was done."""
        if is_waiting_id(job_id):
            return [Status.WAITING] if self._waiting.check(job_id, ages.waiting) else []
        record = self._ledger.get(job_id)
        now = self._clock()
        if record is not None and record.notified_at and record.unfinished == RESCUE:
            return self._try_rescue(record, now)
        if record is None or record.notified_at or record.status is Status.QUEUED:  # the index may be behind the table
            return []
        if record.updated_at > now - ages.of(record.status):
            return []
        logger.append_keys(character=record.character, pose=record.pose)
        logger.append_keys(attempt=record.attempt, execution=execution_name(record.job_id, record.attempt))
        try:
            done = self._resume_record(record)
        finally:
            with suppress(Conflict):  # the record has changed
                self._ledger.check_later(record, now)
        return [record.status] if done else []

    def _try_rescue(self, record: Record, now: float) -> list[Status]:
        """Invoke `deliver` to fetch what an ended job lacks, as long as the provider keeps its pictures.

        `deliver` schedules the next try. If its run is lost, the next sweep invokes it again.
        """
        logger.append_keys(attempt=record.attempt, character=record.character, pose=record.pose)
        kept = now < record.images_kept_until
        with suppress(Conflict):  # the record has changed
            self._ledger.rescue_at(record, now if kept else None)
        if not kept:
            logger.info("the provider no longer keeps its pictures")
            return []
        self._invoke_deliver(RescueRequest(record.job_id, record.attempt).to_dict())
        return [record.status]

    def _resume_record(self, record: Record) -> bool:
        """Resume one job. Return whether anything was done."""
        if record.status is Status.SUBMITTING:
            self._resume(record)
            return True
        return self._check_execution(record)

    def _check_execution(self, record: Record) -> bool:
        """Resume a job without an execution. Report an execution that ended without notifying."""
        name = execution_name(record.job_id, record.attempt)
        if name in self._running_executions():
            return False
        try:
            execution = self._sfn.describe_execution(executionArn=execution_arn(self._state_machine_arn, name))
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            self._resume(record)
            return True
        if execution["status"] == "RUNNING":
            return False
        logger.error("an execution has ended without notifying", status=execution["status"])
        detail = {
            "name": name,
            "status": execution["status"],
            "input": execution["input"],
            "error": execution.get("error"),
            "cause": execution.get("cause"),
        }
        event = {"detail-type": "Step Functions Execution Status Change", "detail": detail}
        self._invoke_deliver(event)
        return True

    def _invoke_deliver(self, event: Mapping[str, Any]) -> None:
        self._invoker.invoke(
            FunctionName=self._deliver_function, InvocationType="Event", Payload=json.dumps(event).encode()
        )

    def _running_executions(self) -> frozenset[str]:
        """Return the names of the running executions. They are listed once in each sweep.

        One call lists a thousand executions, while DescribeExecution is limited to 10 to 15 calls a second (Step
        Functions developer guide, quotas).
        """
        if self._running is None:
            pages = self._sfn.get_paginator("list_executions").paginate(
                stateMachineArn=self._state_machine_arn, statusFilter="RUNNING", PaginationConfig={"PageSize": 1000}
            )
            self._running = frozenset(found["name"] for page in pages for found in page["executions"])
        return self._running

    def _resume(self, record: Record) -> None:
        message = SubmitMessage(record.job_id)
        self._sqs.send_message(QueueUrl=self._submit_queue_url, MessageBody=message.to_json(), DelaySeconds=0)
        logger.info("sent again")
