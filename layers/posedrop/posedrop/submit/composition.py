"""Create the objects that `submit` works with."""

import time
from collections.abc import Callable

from posedrop.aws.api_key import ApiKey
from posedrop.aws.ledger import Ledger
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.segmind.client import Segmind, Timeouts
from posedrop.settings import SubmitSettings
from posedrop.submit.lookup import RequestLookup
from posedrop.submit.outcomes import Outcomes
from posedrop.submit.request_body import RequestBody
from posedrop.submit.sending import Sending
from posedrop.submit.submission import Submission
from posedrop.submit.wait_loop import WaitLoop

LONGEST_REQUEST = 36.0
"""Seconds for a request, and at most half of the function's time."""


def make_submission(
    settings: SubmitSettings,
    *,
    ledger: Ledger,
    gate: Gate,
    segmind: Segmind,
    lookup: RequestLookup,
    api_key: ApiKey,
    body: RequestBody,
    wait_loop: WaitLoop,
    wake_dispatch: Callable[[], None],
    account: CreditsStore | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Submission:
    """Return what handles the messages of dispatched jobs. `account` None never asks for the remaining credits."""
    outcomes = Outcomes(
        ledger=ledger,
        gate=gate,
        lookup=lookup,
        api_key=api_key,
        wait_loop=wait_loop,
        pause_seconds=settings.account_pause_seconds,
        wake_dispatch=wake_dispatch,
        clock=clock,
    )
    sending = Sending(
        ledger=ledger,
        gate=gate,
        segmind=segmind,
        api_key=api_key,
        lookup=lookup,
        body=body,
        outcomes=outcomes,
        wait_loop=wait_loop,
        timeouts=Timeouts.within(min(LONGEST_REQUEST, settings.submit_timeout_seconds / 2)),
        account=account,
        clock=clock,
        sleep=sleep,
    )
    return Submission(
        ledger=ledger,
        sending=sending,
        outcomes=outcomes,
        wait_loop=wait_loop,
        wake_dispatch=wake_dispatch,
        submit_timeout_seconds=settings.submit_timeout_seconds,
        clock=clock,
    )
