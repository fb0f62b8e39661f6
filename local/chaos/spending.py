"""Does the budget's month hold what the ledger says was charged? Pure.

What is documented (docs/guarantees.md): a function that dies between the ledger's write and the budget's leaves one
job's price. `submit` charges first and gives back last, so its deaths leave too much; a death of `deliver` leaves a
charge that was not replaced by the cost. A lost reply to a write of the budget may let that be repeated.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from local.chaos.evidence import Accepted, Evidence, Record
from local.chaos.faults import COST_USD
from local.chaos.gateway import BUDGET_REPLIES

FIRST_PRICE_USD = 0.0294
"""What the first jobs are charged (docs/operations.md)."""
EXACT = 1e-6
HAS_ID = ("ACCEPTED", "FAILED", "GONE")
"""The fates of a request that the provider gave an id to."""


def spent(budgets: Mapping[str, Record]) -> float:
    """Return what all months say was spent (USD)."""
    return float(sum(month["spent"] for month in budgets.values()))


def owed(records: Iterable[Record]) -> float:
    """Return what the records' requests come to (USD): their costs where they are known, else what was charged."""
    return sum(
        float(request["cost_usd"]) if request.get("cost_usd") is not None else _charged(request)
        for record in records
        for request in record.get("requests") or ()
    )


def check_sums(evidence: Evidence, records: Sequence[Record]) -> Iterator[str]:
    """Yield what is wrong with the sums. `records` are all there were, those that have expired too."""
    budgets, deaths = evidence.budgets, evidence.deaths
    for key, month in budgets.items():
        days = sum(float(value) for name, value in month.items() if name.startswith("day_"))
        if abs(days - float(month["spent"])) > EXACT:
            yield f"{key}: its days come to {days:.4f} USD, its month to {month['spent']:.4f}"
    difference = spent(budgets) - owed(records)
    # A kind of jobs that was not paid for yet is charged in proportion to one that was.
    charges = [_charged(request) for record in records for request in record.get("requests") or ()]
    highest = max([COST_USD, *charges])
    repeated = evidence.aws_struck[BUDGET_REPLIES] * highest
    most = deaths["submit"] * highest + deaths["deliver"] * (highest - COST_USD) + repeated
    least = -deaths["deliver"] * (COST_USD - FIRST_PRICE_USD) - repeated
    if not least - EXACT <= difference <= most + EXACT:
        yield f"the budget has {difference:+.4f} USD beside the ledger, {least:+.4f} to {most:+.4f} are documented"


def check_charges(records: Iterable[Record], accepted: Iterable[Accepted]) -> Iterator[str]:
    """Yield accepted requests that were not charged, and charges of requests that nobody has accepted."""
    charged: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for request in record.get("requests") or ():
            if _charged(request):
                charged[f"{record['job_id']}-{int(request['attempt'])}"].append(str(request["fate"]))
    names = [found.name for found in accepted]
    for name in names:
        if not charged[name]:
            yield f"{name}: was accepted, and not charged"
    for name, fates in charged.items():
        if "ABSENT" in fates:
            yield f"{name}: is charged, and the history does not have it"
        if name not in names and any(fate in HAS_ID for fate in fates):
            yield f"{name}: is charged as accepted, and was not accepted"


def _charged(request: Record) -> float:
    return float(request.get("charged_usd") or 0)
