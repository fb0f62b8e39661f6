"""Start the executions, which wait for accepted jobs and notify all ends."""

from posedrop.aws.queue_resources import QueueResources
from posedrop.aws.record import Record
from posedrop.gate.latency import LatencyStore
from posedrop.gate.poll_schedule import first_wait
from posedrop.settings import SubmitSettings


class WaitLoop:
    """Starts executions. Their names make it harmless to start one twice."""

    def __init__(self, settings: SubmitSettings, aws: QueueResources) -> None:
        self._ledger = aws.table.ledger
        self._executions = aws.executions(settings.state_machine_arn)
        self._latency = LatencyStore(aws.dynamodb, settings.jobs_table, settings.typical_inference_seconds)

    def start(self, record: Record) -> None:
        """Start the wait loop of an accepted job."""
        latency = self._latency.read()
        self._executions.start(record, first_wait(latency), latency.tenths)

    def start_again(self, record: Record) -> None:
        """Start the execution of a job again, or that of a job that ended before it was sent."""
        self._ledger.use_attempt(record)
        self.start(record)
