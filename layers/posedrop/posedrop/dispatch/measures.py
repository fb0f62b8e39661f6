"""Emit the metrics of a run of `dispatch`."""

from posedrop.aws.metrics import count, flush, seconds
from posedrop.contract.reasons import BUDGETS, ReasonCode
from posedrop.dispatch.dispatcher import Dispatched
from posedrop.gate.credits import Credits


def measure(done: Dispatched, left: Credits | None) -> None:
    """Emit the metrics of a run, also if they are zero, so that alarms have no missing data. `left` None: unknown."""
    code = done.closed.code if done.closed else None
    seconds("OldestJobSeconds", done.oldest_seconds)
    seconds("NoSuccessSeconds", done.idle_seconds)
    count("Paused", code is ReasonCode.PAUSED)
    count("WaitingForBudget", code in BUDGETS and done.oldest_seconds > 0)
    if left is not None:
        count("RemainingCredits", left.usd)
        count("JobsPaidFor", left.jobs)
    flush()
