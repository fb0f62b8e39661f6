"""Compare the ledger with the provider's request history.

It finds requests that were billed without a record or twice for one attempt, that the history does not have, or whose
unknown outcome is known now.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ops.errors import NotFound, OpsError
from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.record import Record
from posedrop.contract.delivery_requests import HistoryRequest
from posedrop.contract.errors import Conflict
from posedrop.contract.times import DAY, rfc3339
from posedrop.segmind.history_rows import PastRequest, merged
from posedrop.segmind.requests import Request, RequestStatus

WINDOW = 7 * DAY
"""Seconds of one query: the history returns at most 31 days, and a busy account has many rows."""
SETTLED = 900.0
"""Seconds after which a request is in the history, and the ledger has its outcome."""
CENT = 0.000_001
DIGITS = 6


class Kind(StrEnum):
    """The kinds of differences."""

    FOREIGN = "foreign"
    """Billed, but its images are not from this stack: another application uses the account or the key."""
    LOST_RECORD = "lost record"
    """Billed for a job whose record no longer exists, or has another request."""
    BILLED_TWICE = "billed twice"
    """One attempt has several billed requests."""
    NOT_IN_HISTORY = "not in the history"
    """The record names a request that the history does not have."""
    KNOWN_NOW = "known now"
    """A request of unknown outcome was found: it can be adopted."""
    COST = "cost"
    """The record and the history name different costs."""


@dataclass(frozen=True)
class Difference:
    """One difference. `usd`: the cost in the history. `adoptable`: `--adopt` can fetch its images."""

    kind: Kind
    what: str
    request_ids: list[str]
    job_id: str | None = None
    attempt: int | None = None
    usd: float | None = None
    adoptable: bool = False


@dataclass(frozen=True)
class Side:
    """One side: the number of requests, their cost (USD), and the number of unknown costs."""

    requests: int
    usd: float
    unknown: int


@dataclass(frozen=True)
class Reconciled:
    """The comparison since a time (RFC 3339). Both sides leave out requests that are younger than SETTLED."""

    since: str
    until: str
    ledger: Side
    history: Side
    differences: list[Difference]


@dataclass(frozen=True)
class _Known:
    record: Record
    request: Request


def reconcile(stack: Stack, since: float) -> tuple[Reconciled, list[tuple[Record, Request, str]]]:
    """Compare since a time (seconds since the epoch); return also the requests to adopt, with their ids.

    Reads the whole table and the history; writes nothing. Raises OpsError if the history cannot be read.
    """
    now = stack.clock()
    days = stack.seconds("RecordRetentionDays")
    past = merged(read_history(stack, since, now))
    records = list(Records(stack).every())  # read after the history, so no record is younger than the history
    return compare(records, past.values(), since, now - SETTLED, now - days * DAY if days else 0.0)


def read_history(stack: Stack, first: float, last: float) -> Iterator[PastRequest]:
    """Yield the history between two times, read by `deliver`, which has the key. Raises OpsError, NotFound."""
    function = stack.resource("DeliverFunction")
    if function is None:
        raise NotFound(f"the stack {stack.name} has no function DeliverFunction, or you may not describe its resources")
    begin = first
    while begin < last:
        end = min(begin + WINDOW, last)
        page: int | None = 1
        while page is not None:
            wanted = HistoryRequest(begin, end, page).to_dict()
            response = stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps(wanted).encode())
            found = json.loads(response["Payload"].read() or b"null")
            if response.get("FunctionError") or not isinstance(found, dict):
                raise OpsError(f"deliver could not read the history: {(found or {}).get('errorMessage', 'no text')}")
            if found["error"]:
                raise OpsError(f"the provider's history is not available: {found['error']}")
            yield from (_past(each) for each in found["requests"])
            page = found["next"]
        begin = end


def _past(found: dict[str, Any]) -> PastRequest:
    return PastRequest(
        found["request_id"],
        found["state"],
        names=frozenset(found["names"]),
        created_at=found["created_at"],
        cost_usd=found["cost_usd"],
    )


# ---- the comparison, pure --------------------------------------------------------------------------------------------


def compare(
    records: Sequence[Record], past: Iterable[PastRequest], since: float, until: float, kept_since: float = 0.0
) -> tuple[Reconciled, list[tuple[Record, Request, str]]]:
    """Compare records with the history's requests, both of any age; return also the requests to adopt. Pure.

    `kept_since`: records of older requests may have expired, as configured.
    """
    found = Comparison(records, past, since, until, kept_since)
    differences = found.differences()
    reconciled = Reconciled(rfc3339(since), rfc3339(until), found.ledger(), found.history(), differences)
    return reconciled, found.adoptable


class Comparison:
    """The two sides, by request ids and by the names of attempts."""

    def __init__(
        self, records: Sequence[Record], past: Iterable[PastRequest], since: float, until: float, kept_since: float
    ) -> None:
        self._since, self._until, self._kept_since = since, until, kept_since
        self._late_attempts: set[tuple[str | None, int | None]] = set()
        self._past = {request.request_id: request for request in past}
        self._ids: dict[str, _Known] = {}
        self._names: dict[str, list[_Known]] = defaultdict(list)
        self._known: list[_Known] = []
        for record in records:
            for request in record.requests:
                known = _Known(record, request)
                self._known.append(known)
                self._names[record.execution_name_of(request)].append(known)
                if request.request_id:
                    self._ids[request.request_id] = known
        self.adoptable: list[tuple[Record, Request, str]] = []

    def differences(self) -> list[Difference]:
        """Return all differences, those that cost money first."""
        unowned = [past for past in self._past.values() if past.request_id not in self._ids and self._counts(past)]
        found = [difference for past in unowned if (difference := self._unowned(past))]
        found += self._twice()
        for known in self._known:
            if known.request.request_id and self._since <= known.request.sent_at <= self._until:
                found += self._owned(known, self._past.get(known.request.request_id))
        order = list(Kind)
        return sorted(found, key=lambda each: (order.index(each.kind), each.request_ids))

    def ledger(self) -> Side:
        """Return the ledger's side: the requests that were accepted, or may have been."""
        requests = [
            known.request
            for known in self._known
            if self._since <= known.request.sent_at <= self._until and known.request.status is not RequestStatus.ABSENT
        ]
        return _side([request.cost_usd for request in requests])

    def history(self) -> Side:
        """Return the history's side: the billed requests."""
        return _side([past.cost_usd for past in self._past.values() if past.billed and self._counts(past)])

    def _counts(self, past: PastRequest) -> bool:
        """Return whether a request is in the time range; a request without a time is."""
        return past.created_at is None or self._since <= past.created_at <= self._until

    def _unowned(self, past: PastRequest) -> Difference | None:
        """Return the difference for a request whose id no record has."""
        named = sorted(past.names)
        attempts = [known for name in named for known in self._names.get(name, [])]
        open_ = [known for known in attempts if known.request.request_id is None and known.record.ended]
        if open_:
            late = self._late(past, open_[-1])
            return late if late and self._first(late) else None
        if not past.billed or any(not known.record.ended for known in attempts):
            return None  # not paid, or the job has not ended and will find it
        usd, ids = past.cost_usd, [past.request_id]
        if attempts:
            return None  # the attempt has another request: reported as billed twice
        if named:
            if past.created_at is not None and past.created_at < self._kept_since:
                return None
            text = f"billed for {named[0]}, which no record of this stack has"
            return Difference(Kind.LOST_RECORD, text, ids, usd=usd)
        return Difference(Kind.FOREIGN, "billed, but its images carry no job's name", ids, usd=usd)

    def _first(self, late: Difference) -> bool:
        """Return whether this is the first request found for an attempt; further ones are billed twice."""
        if (late.job_id, late.attempt) in self._late_attempts:
            return False
        self._late_attempts.add((late.job_id, late.attempt))
        return True

    def _late(self, past: PastRequest, known: _Known) -> Difference | None:
        record, request = known.record, known.request
        failed = (record.error or {}).get("type")
        adoptable = record.request_id is None and failed == "SubmitOutcomeUnknown" and request.attempt == record.attempt
        if past.state == "FAILED" or (not adoptable and not past.billed):
            return None  # it failed at the provider, so nothing was paid
        if adoptable and (record.job_id, request.attempt) not in self._late_attempts:
            self.adoptable.append((record, request, past.request_id))
        text = f"attempt {request.attempt} had an unknown outcome; the history has it: {(past.state or '?').lower()}"
        ids, usd = [past.request_id], past.cost_usd
        return Difference(Kind.KNOWN_NOW, text, ids, record.job_id, request.attempt, usd, adoptable)

    def _twice(self) -> Iterator[Difference]:
        """Yield the attempts that have several billed requests."""
        billed: dict[str, list[PastRequest]] = defaultdict(list)
        for past in self._past.values():
            if past.billed and self._counts(past):
                for name in past.names:
                    billed[name].append(past)
        for name, requests in billed.items():
            # An attempt may be sent again after a 5xx: then the record has each of these requests.
            unknown = [past for past in requests if past.request_id not in self._ids]
            known = self._names.get(name)
            if len(requests) < 2 or not known or not unknown:
                continue
            ids = sorted(past.request_id for past in requests)
            usd = round(sum(past.cost_usd or 0.0 for past in requests), DIGITS)
            text = f"{len(requests)} requests were billed for attempt {known[0].request.attempt}"
            yield Difference(Kind.BILLED_TWICE, text, ids, known[0].record.job_id, known[0].request.attempt, usd)

    def _owned(self, known: _Known, past: PastRequest | None) -> Iterator[Difference]:
        """Yield the differences between a record's request and the history's."""
        record, request = known.record, known.request
        ids = [str(request.request_id)]
        if past is None:
            yield Difference(Kind.NOT_IN_HISTORY, "the history does not have it", ids, record.job_id, request.attempt)
            return
        ours, theirs = request.cost_usd, past.cost_usd
        if ours is not None and theirs is not None and abs(ours - theirs) > CENT:
            text = f"the record has {ours} USD, the history {theirs} USD"
            yield Difference(Kind.COST, text, ids, record.job_id, request.attempt, theirs)


def _side(costs: Sequence[float | None]) -> Side:
    known = [cost for cost in costs if cost is not None]
    return Side(len(costs), round(sum(known), DIGITS), len(costs) - len(known))


# ---- adopting --------------------------------------------------------------------------------------------------------


def adopt(stack: Stack, wanted: Sequence[tuple[Record, Request, str]]) -> list[str]:
    """Add the found requests to their records, so that the sweep fetches their images; return the jobs' ids.

    Nothing is paid. A record that has changed meanwhile, or whose request belongs to another job, is not changed.
    """
    adopted = []
    for listed, request, request_id in wanted:
        record = stack.table.ledger.get(listed.job_id)
        if record is None or request not in record.requests or record.attempt != listed.attempt:
            continue
        try:
            if stack.table.ledger.own_request_id(record, request_id, stack.clock()):
                stack.table.ledger.adopt_late(record, request, request_id, stack.clock())
                adopted.append(record.job_id)
        except Conflict:
            continue
    return adopted
