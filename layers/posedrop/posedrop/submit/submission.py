"""Handle the messages of dispatched jobs: send, resolve a claim, or start an execution again."""

from collections.abc import Callable

from aws_lambda_powertools import Logger

from posedrop.aws.errors import is_transient
from posedrop.aws.ledger import UNEXPECTED_ERRORS, Ledger
from posedrop.aws.messages import SubmitMessage, UnreadableMessage, parse_message
from posedrop.aws.record import Record, Status
from posedrop.contract.errors import Conflict, Deferred, InternalError, PosedropError
from posedrop.contract.reasons import AT_THE_GATE, ReasonCode, backoff
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.sending import Sending
from posedrop.submit.wait_loop import WaitLoop

logger = Logger(child=True)

SHORT_WAIT = 60.0
"""The longest wait in seconds for which a job keeps its message. After a longer one it is dispatched again."""


class Submission:
    """Resumes jobs according to their status in the ledger. `clock` is for tests."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sending: Sending,
        outcomes: Outcomes,
        wait_loop: WaitLoop,
        wake_dispatch: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._sending = sending
        self._outcomes = outcomes
        self._wait_loop = wait_loop
        self._wake_dispatch = wake_dispatch
        self._clock = clock

    def handle(self, body: str, receive_count: int, remaining: Callable[[], float]) -> None:
        """Resume the job that a message is about. `remaining` gives the function's seconds left.

        `receive_count` is how often the message was received. Raises UnreadableMessage if there is no such job, and
        Deferred if the message must be redelivered.
        """
        message = parse_message(body)
        if not isinstance(message, SubmitMessage):
            raise UnreadableMessage("the message belongs to another queue")
        record = self._ledger.get(message.job_id)
        if record is None:
            raise UnreadableMessage(f"no such job: {message.job_id}")
        logger.append_keys(
            job_id=record.job_id,
            attempt=record.attempt,
            character=record.character,
            pose=record.pose,
            execution=record.execution_name,
        )
        self.advance(record, message, receive_count, remaining)

    def advance(
        self, record: Record, message: SubmitMessage, receive_count: int, remaining: Callable[[], float]
    ) -> None:
        """Do the next step of a job, if the message is the current one.

        `receive_count` is how often the message was received, `remaining` gives the function's seconds left. Raises
        Deferred if the message must be redelivered. The fifth unexpected error in a row ends the job.
        """
        queued = record.status is Status.QUEUED
        if message.number != record.dispatch_number and (queued or message.number):
            logger.info("the job was dispatched again, or put back in line", number=message.number)
            return
        try:
            self._advance(record, message, remaining)
        except Deferred as exc:
            if not queued or not self._put_back(record, exc, probe=message.probe):
                raise
        except Conflict as exc:
            raise Deferred(ReasonCode.BUSY, "another function went ahead with the job", 5) from exc
        except Exception as exc:
            if is_transient(exc):
                reason = f"an AWS service failed for now: {type(exc).__name__}: {exc}"
                raise Deferred(ReasonCode.AWS, reason, backoff(receive_count)) from exc
            if not isinstance(exc, PosedropError):
                self._count(record, exc)
            raise

    def _advance(self, record: Record, message: SubmitMessage, remaining: Callable[[], float]) -> None:
        if record.status is Status.QUEUED:
            if not self._sending.send(record, remaining, probe=message.probe) and message.probe:
                self._outcomes.leave_probe()
                self._wake_dispatch()
        elif record.status is Status.SUBMITTING:
            self._outcomes.resolve_claim(record, remaining)
        elif record.notified_at:
            logger.info("duplicate: the job has ended", status=record.status)
        else:
            # The execution may not have been started. Its name makes it harmless to start it twice.
            logger.info("in progress, or not notified yet", status=record.status)
            self._wait_loop.start_again(record)

    def _put_back(self, record: Record, deferred: Deferred, *, probe: bool) -> bool:
        """Record why a queued job waits. Return whether its message is void, because the job is dispatched again.

        If the probe has to wait, another job becomes the probe.
        """
        now = self._clock()
        at_the_gate = deferred.code in AT_THE_GATE
        dispatched_again = at_the_gate or deferred.seconds > SHORT_WAIT or probe
        try:
            if dispatched_again:
                self._ledger.put_back(record, deferred.code, str(deferred), now + deferred.seconds, now)
            elif deferred.code is not ReasonCode.BUSY:
                self._ledger.defer(record, deferred.code, str(deferred), now + deferred.seconds, now)
        except Conflict:
            return False  # the record has changed
        logger.info("put back", reason=str(deferred), code=deferred.code, seconds=deferred.seconds)
        if probe:
            self._outcomes.leave_probe()
            if not at_the_gate:  # a closed gate would put back the next probe too
                self._wake_dispatch()
        return dispatched_again

    def _count(self, record: Record, exc: Exception) -> None:
        text = f"unexpected error: {type(exc).__name__}: {exc}"
        current = self._ledger.get(record.job_id)
        if current is None or current.ended or current.attempt != record.attempt:
            return
        counted = self._ledger.count_error(current, text, self._clock())
        if counted.errors >= UNEXPECTED_ERRORS and counted.status is Status.QUEUED:
            logger.exception("too many unexpected errors: the job ends")
            self._outcomes.fail(
                counted, InternalError(f"{counted.errors} unexpected errors, the last: {type(exc).__name__}: {exc}")
            )
