"""Sum the costs of requests by day, month, character or client, known costs apart from estimated ones."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.record import Record
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import Request, RequestStatus

DIGITS = 6

GROUPS: dict[str, Callable[[Record, Request], str]] = {
    "day": lambda record, request: rfc3339(request.sent_at)[:10],
    "month": lambda record, request: rfc3339(request.sent_at)[:7],
    "character": lambda record, request: record.character,
    "client": lambda record, request: record.character.partition("/")[0],
}
"""The groups of costs: the day or month (UTC) of a request, or its character or client."""


@dataclass
class Sum:
    """The cost of some requests, in USD.

    known_usd: reported by the provider. estimated_usd: charged to the budget for `estimated` requests without a
    reported cost, because they are in flight, have failed, or are older than the records of costs.
    """

    name: str
    jobs: int = 0
    requests: int = 0
    known_usd: float = 0.0
    estimated: int = 0
    estimated_usd: float = 0.0

    def add(self, request: Request) -> None:
        """Add one request."""
        self.requests += 1
        if request.cost_usd is not None:
            self.known_usd = round(self.known_usd + request.cost_usd, DIGITS)
        else:
            self.estimated += 1
            self.estimated_usd = round(self.estimated_usd + request.charged_usd, DIGITS)


@dataclass(frozen=True)
class Costs:
    """Costs since a time (RFC 3339), by group, and in total."""

    by: str
    since: str
    groups: list[Sum]
    total: Sum = field(default_factory=lambda: Sum("total"))


def costs(stack: Stack, by: str, since: float) -> Costs:
    """Sum the requests since a time (seconds since the epoch). Reads the whole table; AWS's errors pass."""
    return sum_costs(Records(stack).every(), by, since)


def sum_costs(records: Iterable[Record], by: str, since: float) -> Costs:
    """Sum the requests of some records since a time (seconds since the epoch). Pure."""
    groups: dict[str, Sum] = {}
    total = Sum("total")
    for record in records:
        names = set()
        for request in record.requests:
            if request.sent_at < since or request.status is RequestStatus.ABSENT:
                continue
            name = GROUPS[by](record, request)
            groups.setdefault(name, Sum(name)).add(request)
            total.add(request)
            names.add(name)
        for name in names:
            groups[name].jobs += 1
        total.jobs += bool(names)
    return Costs(by, rfc3339(since), [groups[name] for name in sorted(groups)], total)


def as_csv(found: Costs) -> str:
    """Return the groups as a table for a spreadsheet, without the total."""
    columns = [column.name for column in fields(Sum)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([found.by, *columns[1:]])
    writer.writerows([cell(value) for value in asdict(group).values()] for group in found.groups)
    return text.getvalue()


def cell(value: Any) -> Any:
    """Return a value for a spreadsheet. A name that looks like a formula is quoted as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
