"""Create the objects that `intake` works with."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities import parameters

from posedrop.aws.queue_resources import QueueResources
from posedrop.contract.upload_layout import UploadLayout
from posedrop.intake.fan_out import FanOut
from posedrop.intake.intake import Intake
from posedrop.intake.job_reader import JobReader
from posedrop.intake.job_recorder import JobRecorder
from posedrop.intake.upload_intake import UploadIntake
from posedrop.intake.waiting import Waiting
from posedrop.line.entrance import Entrance
from posedrop.settings import IntakeSettings


class IntakeFunction:
    """The function: its queue, and what handles its messages. `make_client` makes the boto3 client of a service."""

    def __init__(self, settings: IntakeSettings, make_client: Callable[..., Any], clock: Callable[[], float]) -> None:
        aws = QueueResources(settings, make_client)
        ledger, layout = aws.table.ledger, UploadLayout(settings.upload_prefix)
        waiting = Waiting(ledger, aws.sqs, settings.upload_queue_url, clock)
        entrance = Entrance.of(settings, aws.table.items, aws.submit_queue(settings.submit_queue_url), clock)
        uploads = UploadIntake(
            layout,
            reader=JobReader(settings, default_prompt(settings), aws.s3, aws.read_images(clock), waiting, clock),
            fan_out=FanOut(aws.s3, layout, waiting, settings.settle_seconds),
            recorder=JobRecorder(ledger, entrance, clock),
        )
        self._inbox = aws.inbox(settings.upload_queue_url, settings.dead_letter_queue_url, "uploads")
        self._intake = Intake(ledger, aws.executions(settings.state_machine_arn), uploads, clock)

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        """Handle the messages of an SQS event."""
        return self._inbox.process(
            event, lambda message, received: self._intake.handle(message.body, message.message_id)
        )


def default_prompt(settings: IntakeSettings) -> Callable[[], str]:
    """Return what reads the prompt of jobs without one. A changed prompt is used after at most five minutes."""
    name = settings.default_prompt_parameter
    return lambda: str(parameters.get_parameter(name, max_age=300)) if name else ""
