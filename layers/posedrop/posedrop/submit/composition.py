"""Create the objects that `submit` works with."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.aws.queue_resources import QueueResources
from posedrop.gate.gate import Gate
from posedrop.segmind.provider import Provider
from posedrop.settings import SubmitSettings
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.request_body import RequestBody
from posedrop.submit.sending import Sending
from posedrop.submit.submission import Submission
from posedrop.submit.wait_loop import WaitLoop

logger = Logger(child=True)


class SubmitFunction:
    """The function: its queue, and what handles its messages. `make_client` makes the boto3 client of a service."""

    def __init__(
        self,
        settings: SubmitSettings,
        make_client: Callable[..., Any],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        aws = QueueResources(settings, make_client)
        key = aws.api_key(settings.segmind_secret_id)
        provider = Provider.of(settings.segmind_base_url, settings.segmind_history_url, key, settings.model, clock)
        gate = Gate(aws.table.items, settings.limit, settings.budget, settings.model)
        self._inbox = aws.inbox(settings.submit_queue_url, settings.dead_letter_queue_url, "submits")
        self._submission = make_submission(
            settings,
            aws,
            gate,
            provider,
            wake_dispatch=dispatch_waker(make_client("lambda"), settings.dispatch_function),
            refresh_credits=lambda: gate.credits.refresh(provider.api, gate.limiter.pause, clock()),
            clock=clock,
            sleep=sleep,
        )

    def handle(self, event: dict[str, Any], remaining: Callable[[], float]) -> dict[str, Any]:
        """Handle the messages of an SQS event. `remaining` gives the function's seconds left."""
        return self._inbox.process(
            event, lambda message, received: self._submission.handle(message.body, received, remaining)
        )


def make_submission(
    settings: SubmitSettings,
    aws: QueueResources,
    gate: Gate,
    provider: Provider,
    *,
    wake_dispatch: Callable[[], None],
    refresh_credits: Callable[[], object],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Submission:
    """Return what handles the messages of dispatched jobs."""
    ledger, segmind = aws.table.ledger, provider.api
    # Requests are found in the history by the file name in their image URLs. With base64 there are none.
    by_name = provider.history if settings.image_transport == "presigned-url" else None
    lookup = RequestLookup(ledger, segmind, gate, by_name, provider.rescue, clock)
    wait_loop = WaitLoop(settings, aws)
    outcomes = Outcomes(
        ledger=ledger,
        gate=gate,
        lookup=lookup,
        renew_key=segmind.renew_key,
        wait_loop=wait_loop,
        pause_seconds=settings.account_pause_seconds,
        submit_timeout_seconds=settings.submit_timeout_seconds,
        wake_dispatch=wake_dispatch,
        clock=clock,
    )
    sending = Sending(
        ledger=ledger,
        gate=gate,
        segmind=segmind,
        lookup=lookup,
        body=RequestBody(settings, aws, clock),
        outcomes=outcomes,
        submit_timeout_seconds=settings.submit_timeout_seconds,
        refresh_credits=refresh_credits,
        clock=clock,
        sleep=sleep,
    )
    return Submission(
        ledger=ledger,
        sending=sending,
        outcomes=outcomes,
        wait_loop=wait_loop,
        wake_dispatch=wake_dispatch,
        clock=clock,
    )


def dispatch_waker(functions: Any, name: str) -> Callable[[], None]:
    """Return what invokes `dispatch` now. If the call is lost, the next run is within a minute."""

    def wake() -> None:
        try:
            functions.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
        except (BotoCoreError, ClientError) as exc:
            logger.warning("dispatch could not be invoked", reason=str(exc))

    return wake
