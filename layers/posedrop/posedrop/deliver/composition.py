"""Create the objects that `deliver` works with."""

from collections.abc import Callable
from typing import Any

from posedrop.aws.resources import Resources
from posedrop.deliver.delivery import Delivery
from posedrop.deliver.ending import Ending
from posedrop.deliver.fetching import Fetching
from posedrop.deliver.images import Images
from posedrop.deliver.notifying import Notifying
from posedrop.deliver.rescuing import Rescuing
from posedrop.gate.gate import Gate
from posedrop.segmind.provider import Provider
from posedrop.settings import DeliverSettings

HISTORY_SECONDS = 20.0
"""The time to read one part of the history. What can be read in it fits into Lambda's response limit of 6 MB."""


class DeliverFunction:
    """The function: what handles each of its requests. `make_client` makes the boto3 client of a service."""

    def __init__(self, settings: DeliverSettings, make_client: Callable[..., Any], clock: Callable[[], float]) -> None:
        aws = Resources(settings, make_client)
        key = aws.api_key(settings.segmind_secret_id)
        provider = Provider.of(settings.segmind_base_url, settings.segmind_history_url, key, settings.model, clock)
        gate = Gate(aws.table.items, settings.limit, settings.budget, settings.model)
        ledger, images = aws.table.ledger, Images(settings, aws)
        fetching = Fetching(
            ledger=ledger, segmind=provider.api, rescue=provider.rescue, images=images, gate=gate, clock=clock
        )
        ending = Ending(settings, aws, gate.budgets, clock)
        notifying = Notifying(settings, aws, clock, can_rescue=provider.rescue.possible)
        self.delivery = Delivery(ledger, fetching, ending, notifying)
        self.rescuing = Rescuing(ledger, fetching, ending, notifying, clock)
        self._provider = provider
        self._gate = gate
        self._clock = clock

    def history(self, first: float, last: float, page: int) -> dict[str, Any]:
        """Read a part of the provider's request history for the operator's `reconcile`, which has no API key.

        `first` and `last` are seconds since the epoch.
        """
        return self._provider.rescue.requests(first, last, page, HISTORY_SECONDS)

    def refresh_credits(self) -> None:
        """Read the credits left on the provider's account, unless that was done recently."""
        self._gate.credits.refresh(self._provider.api, self._gate.limiter.pause, self._clock())
