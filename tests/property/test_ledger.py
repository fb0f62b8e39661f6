"""The ledger under concurrent owners who die, come late, and try again.

Never two requests for an attempt, never a write over a later attempt. Every rule may use a record that was read long
before, as a function does that was slow.
"""

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.places import Entry, dispatched
from posedrop.aws.record import ENDED, Record, Status
from posedrop.aws.record_table import ENDED_UNSENT, PAID
from posedrop.contract.errors import Conflict, InferenceFailed, InvalidInput, Rejected, SubmitOutcomeUnknown
from posedrop.contract.job import Job
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import rfc3339
from posedrop.line.line import Line
from posedrop.segmind.requests import RequestStatus as RequestStatus
from tests.table import Table

JOB = "hero-walk-0123456789abcdef"


class Concurrent(RuleBasedStateMachine):
    """Any number of functions at one job."""

    records = Bundle("records")
    """The job as somebody has read it, or claimed it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.ledger = Ledger(self.table, "jobs")  # type: ignore[arg-type]
        self.now = 1_795_000_000.0
        self.owners = count(1)
        self.posted: set[str | None] = set()
        """The owners that have sent their request."""
        self.paid: Counter[int] = Counter()
        """Requests by attempt that the provider has accepted, or may have."""
        self.unfinished: tuple[str, str] | None = None
        """The keys that the record has in the index of that name."""
        self.line = Line(Items(self.table, "jobs"))  # type: ignore[arg-type]
        self.known = self.ledger.queue(Job(JOB, "bucket", "hero", "walk", {}), self.place(), self.now)
        self.read()

    # ---- the rules -------------------------------------------------------------------------------------------------

    @initialize(target=records)
    def begin(self) -> Record:
        return self.known

    @rule(target=records)
    def go_on(self) -> Record:
        """All goes as it mostly does, but somebody still holds what was read before."""
        read = self.known
        usual = {
            Status.QUEUED: self.send,
            Status.SUBMITTING: self.accepted,
            Status.SUBMITTED: self.fail,
            Status.FAILED: self.retry,
        }
        self.do(usual.get(read.status), read)
        return read

    @rule(target=records, record=records, choice=st.integers(0, 8), lost=st.sets(st.integers(1, 2)))
    def act(self, record: Record, choice: int, lost: set[int]) -> Record:
        """Somebody does what follows from a record that may be old."""
        actions: dict[Status, list[Callable[[Record], object]]] = {
            Status.QUEUED: [
                *(self.send, self.claim, self.hold, self.put_back, self.dispatch, self.put_in_line, self.adopt),
                *(self.cancel, self.bad_input),
            ],
            Status.SUBMITTING: [
                *(self.post, self.accepted, self.not_accepted, self.fault, self.rejected, self.found, self.not_found),
            ],
            Status.SUBMITTED: [self.succeed, self.fail, self.seen_404, self.sweep],
            Status.FAILED: [self.notify, self.retry, self.retry_in_vain, self.sweep],
            Status.SUCCEEDED: [self.notify, self.retry, self.sweep],
        }
        possible = actions[record.status]
        self.table.lost = {self.table.writes + number for number in lost}
        self.do(possible[choice % len(possible)], record)
        return self.known

    @precondition(lambda self: self.known.status is Status.QUEUED and self.known.requests)
    @rule(target=records)
    def resume(self) -> Record:
        """An earlier request turns out to exist."""
        read = self.known
        self.do(self.adopt, read)
        return read

    @invariant()
    def an_attempt_is_paid_once(self) -> None:
        assert all(paid <= 1 for paid in self.paid.values()), self.paid

    @invariant()
    def one_index_holds_what_is_not_notified(self) -> None:
        """What is queued is in `line`, for dispatch; what is sent or has ended is in `unfinished`, for the sweep."""
        item = self.table.items[JOB]
        if "notified_at" in item:
            assert "unfinished" not in item
            assert item["status"]["S"] in ENDED
        else:
            queued = item["status"]["S"] == Status.QUEUED
            assert ("stands" in item, "unfinished" in item) == (queued, not queued)
        assert ("stands" in item) == ("place" in item)
        keys = tuple(item[name]["S"] for name in ("unfinished", "unfinished_at") if name in item)
        assert keys == (self.unfinished or ())

    # ---- what functions do -----------------------------------------------------------------------------------------

    def send(self, record: Record) -> None:
        self.claim(record)
        self.post(self.known)

    def claim(self, record: Record) -> None:
        self.ledger.claim(record, f"owner-{next(self.owners)}", 0.03, self.now)
        self.read()

    def post(self, claimed: Record) -> None:
        """The owner sends its request, once; perhaps only after others have given it up."""
        if claimed.owner not in self.posted:
            self.posted.add(claimed.owner)
            self.paid[claimed.attempt] += 1

    def accepted(self, claimed: Record) -> None:
        self.ledger.submitted(claimed, f"of {claimed.owner}", self.now)

    def not_accepted(self, claimed: Record) -> None:
        """The provider said that it took nothing: only then is the attempt sent again."""
        if claimed.owner in self.posted:
            self.ledger.release(claimed, ReasonCode.RATE_LIMIT, "429", self.now, self.now)
            self.paid[claimed.attempt] -= 1

    def fault(self, claimed: Record) -> None:
        """The provider answered 500, and its history does not have the request: the attempt is sent again."""
        if claimed.owner in self.posted:
            released = self.ledger.release_after_fault(claimed, "500", self.now, self.now)
            request = released.requests[-1]
            self.ledger.learned(released, released.with_status(request, RequestStatus.ABSENT), self.now)
            self.paid[claimed.attempt] -= 1

    def rejected(self, claimed: Record) -> None:
        self.ledger.fail(claimed, Rejected("400"), self.now)

    def found(self, claimed: Record) -> None:
        """Somebody finds an old claim, and its request in the history."""
        self.ledger.submitted(
            self.ledger.mark_outcome_unknown(claimed, "no response", self.now), "from the history", self.now
        )

    def not_found(self, claimed: Record) -> None:
        marked = self.ledger.mark_outcome_unknown(claimed, "no response", self.now)
        self.ledger.fail(marked, SubmitOutcomeUnknown("unknown"), self.now)

    def hold(self, record: Record) -> None:
        self.ledger.defer(record, ReasonCode.RATE_LIMIT, "429", self.now + 9, self.now)

    def put_back(self, record: Record) -> None:
        self.ledger.put_back(record, ReasonCode.EARLIER_REQUEST, "asked next", self.now + 90, self.now)

    def dispatch(self, record: Record) -> None:
        """A run of dispatch that saw the record in the index, perhaps long before."""
        self.line.dispatch(entry(record), self.now)

    def put_in_line(self, record: Record) -> None:
        self.line.put_in_line(entry(record))

    def adopt(self, record: Record) -> None:
        if record.requests:
            self.ledger.adopt(record, record.requests[0], "of an earlier attempt", self.now)

    def succeed(self, record: Record) -> None:
        self.ledger.succeed(record, [{"key": "1.png"}], {}, self.now)

    def fail(self, record: Record) -> None:
        self.ledger.fail_attempt(record, InferenceFailed("no"), {}, self.now)

    def seen_404(self, record: Record) -> None:
        if record.request_id:
            self.ledger.not_found(record, self.now)

    def notify(self, record: Record) -> None:
        self.ledger.notified(record, self.now)

    def sweep(self, record: Record) -> None:
        self.ledger.check_later(record, self.now + 3600)

    def cancel(self, record: Record) -> None:
        self.ledger.cancel(record, self.now)

    def bad_input(self, record: Record) -> None:
        """A queued job whose files are gone."""
        self.ledger.fail(record, InvalidInput("gone"), self.now)

    def retry_in_vain(self, record: Record) -> None:
        """A new attempt whose files are bad."""
        retry, error = f"retry {record.attempt}", InvalidInput("bad")
        self.ledger.new_attempt(record, retry, self.now, place={}, error=error)

    def retry(self, record: Record) -> None:
        place = self.place(record.dispatch_number + 1)
        self.ledger.new_attempt(record, f"retry {record.attempt}", self.now, place=place)

    # ---- what must hold after each ---------------------------------------------------------------------------------

    def do(self, action: Callable[[Record], object] | None, record: Record) -> None:
        """Do it, and look what it changed: nothing at all if another one went ahead."""
        if action is None:
            return
        self.now += 1
        before, item = self.known, self.table.items[JOB]
        try:
            action(record)
        except Conflict:
            assert self.read() == before
            assert self.table.items[JOB] == item
            return
        after = self.read()
        self.unfinished = self.keys(action, before, after)
        if after == before:
            return
        begun = action in (self.retry, self.retry_in_vain)
        assert before.attempt == record.attempt
        assert after.attempt == before.attempt + begun
        assert before.owner == record.owner or record.status is not Status.SUBMITTING
        if before.ended and not begun:
            assert (after.status, after.error, after.outputs) == (before.status, before.error, before.outputs)
        if begun:
            new = Status.QUEUED if action == self.retry else Status.FAILED
            assert (before.status, after.status) == (Status.FAILED, new)
            assert (after.request_id, after.owner, after.notified_at) == (None, None, None)
            assert (after.error is None) == (new is Status.QUEUED)
            assert after.retry_messages == [*before.retry_messages, f"retry {record.attempt}"]

    def keys(self, action: Callable[[Record], object], before: Record, after: Record) -> tuple[str, str] | None:
        """What the index of unfinished records has after an action: paid from the claim on, ended without a claim."""
        now = rfc3339(self.now)
        if after.status is Status.QUEUED or after.notified_at:
            return None
        if action == self.sweep and self.unfinished:
            return (self.unfinished[0], rfc3339(self.now + 3600))
        if action == self.retry_in_vain and after.attempt > before.attempt:
            return (ENDED_UNSENT, now)
        if before.status is Status.QUEUED:
            return (ENDED_UNSENT if after.status is Status.FAILED else PAID, now)
        return self.unfinished

    def place(self, number: int = 1) -> dict[str, Any]:
        """The place of a job that goes at once."""
        return {"rank": 0, "queued_at": self.now, "dispatch_number": number, **dispatched(self.now)}

    def read(self) -> Record:
        record = self.ledger.get(self.known.job_id)
        assert record
        self.known = record
        return record


def entry(record: Record) -> Entry:
    """A queued job as the index shows it."""
    return Entry(
        record.job_id,
        str(record.stands),
        str(record.place),
        record.rank,
        record.queued_at,
        record.dispatch_number,
    )


def test_concurrent_owners() -> None:
    # Without shrinking, which would take minutes: an example has 40 steps at most.
    phases = [Phase.explicit, Phase.generate]
    run_state_machine_as_test(Concurrent, settings=settings(max_examples=120, stateful_step_count=40, phases=phases))
