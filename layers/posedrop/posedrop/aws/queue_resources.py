"""The AWS resources of a function that reads a queue, each made once, at its first use."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from posedrop.aws.executions import Executions
from posedrop.aws.inbox import Inbox
from posedrop.aws.read_images import ReadImages
from posedrop.aws.resources import Resources
from posedrop.aws.submit_queue import SubmitQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class QueueResources(Resources):
    """The resources of `intake` and `submit`. `deliver` needs none of these, and to import them slows a cold start."""

    @cached_property
    def sqs(self) -> "SQSClient":
        """The client of SQS."""
        made: SQSClient = self.make_client("sqs")
        return made

    def read_images(self, clock: Callable[[], float]) -> ReadImages:
        """Return the images that were read in the last day."""
        return ReadImages(self.table.items, clock)

    def executions(self, state_machine_arn: str) -> Executions:
        """Return the executions of the state machine."""
        return Executions(self.make_client("stepfunctions"), state_machine_arn)

    def inbox(self, url: str, dead_letter_url: str, source: str) -> Inbox:
        """Return the queue that the function reads. Its dead letters have `source` as an attribute."""
        return Inbox(self.sqs, url, dead_letter_url, source)

    def submit_queue(self, url: str) -> SubmitQueue:
        """Return the queue of dispatched jobs, to send to."""
        return SubmitQueue(self.sqs, url)
