"""Check the month's budget against the charges in the ledger. Pure.

docs/guarantees.md documents the differences. A function that dies between its writes to the ledger and the budget
leaves one job's price. `submit` charges first and gives back last, so its deaths leave too much. A death of `deliver`
leaves a charge that its cost did not replace. If a reply to a budget write is lost, the write may be repeated.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from local.chaos.evidence import Accepted, Evidence, Record
from local.chaos.faults import COST_USD
from local.chaos.gateway import BUDGET_REPLIES

FIRST_PRICE_USD = 0.0294
"""The charge of the first jobs (docs/operations.md)."""
EXACT = 1e-6
HAS_ID = ("ACCEPTED", "FAILED", "GONE")
"""The statuses of a request with an id from the provider."""


def spent(budgets: Mapping[str, Record]) -> float:
    """Return the spend of all months (USD)."""
    return float(sum(month["spent"] for month in budgets.values()))


def owed(records: Iterable[Record]) -> float:
    """Return the sum of the records' requests (USD): their costs if known, else their charges."""
    return sum(
        float(request["cost_usd"]) if request.get("cost_usd") is not None else _charged(request)
        for record in records
        for request in record.get("requests") or ()
    )


def check_sums(evidence: Evidence, records: Sequence[Record]) -> Iterator[str]:
    """Yield the violations of the sums. `records` are all records, including expired ones."""
    budgets, deaths = evidence.budgets, evidence.deaths
    for key, month in budgets.items():
        days = sum(float(value) for name, value in month.items() if name.startswith("day_"))
        if abs(days - float(month["spent"])) > EXACT:
            yield f"{key}: its days add up to {days:.4f} USD, but its month has {month['spent']:.4f}"
    difference = spent(budgets) - owed(records)
    # A new kind of job is charged in proportion to a kind with a known price.
    charges = [_charged(request) for record in records for request in record.get("requests") or ()]
    highest = max([COST_USD, *charges])
    repeated = evidence.aws_struck[BUDGET_REPLIES] * highest
    most = deaths["submit"] * highest + deaths["deliver"] * (highest - COST_USD) + repeated
    least = -deaths["deliver"] * (COST_USD - FIRST_PRICE_USD) - repeated
    if not least - EXACT <= difference <= most + EXACT:
        yield f"the budget differs from the ledger by {difference:+.4f} USD, {least:+.4f} to {most:+.4f} are documented"


def check_charges(records: Iterable[Record], accepted: Iterable[Accepted]) -> Iterator[str]:
    """Yield accepted requests without a charge, and charges of requests that were not accepted."""
    charged: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for request in record.get("requests") or ():
            if _charged(request):
                charged[f"{record['job_id']}-{int(request['attempt'])}"].append(str(request["status"]))
    names = [found.name for found in accepted]
    for name in names:
        if not charged[name]:
            yield f"{name}: was accepted, but not charged"
    for name, statuses in charged.items():
        if "ABSENT" in statuses:
            yield f"{name}: is charged, but the history does not have it"
        if name not in names and any(status in HAS_ID for status in statuses):
            yield f"{name}: is charged as accepted, but was not accepted"


def _charged(request: Record) -> float:
    return float(request.get("charged_usd") or 0)
