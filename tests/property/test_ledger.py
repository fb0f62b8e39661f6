"""The ledger under concurrent owners who die, come late, and try again: never two requests for an attempt, never a
write over a later attempt.

Every rule may use a record that was read long before, as a function that was slow does.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import boto3
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from moto import mock_aws

from posedrop.errors import InferenceFailed, Rejected, SubmitOutcomeUnknown
from posedrop.job import Job
from posedrop.ledger import ENDED, Conflict, Ledger, Record, Status

TABLE = "jobs"
NUMBERS = count(1)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        Concurrent.client = Client(boto3.Session().client("dynamodb", region_name="eu-central-1"))
        Concurrent.client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
        )
        yield


class Client:
    """DynamoDB's client, which remembers the item that was read last."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.item: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_item(self, **arguments: Any) -> Any:
        answer = self.client.get_item(**arguments)
        self.item = answer["Item"]
        return answer


class Concurrent(RuleBasedStateMachine):
    """Any number of functions at one job."""

    client: Client
    records = Bundle("records")
    """The job as somebody has read it."""
    claims = Bundle("claims")
    """Claims whose owner may still live."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(self.client, TABLE)  # type: ignore[arg-type]
        self.job_id = f"job-{next(NUMBERS):016x}"
        self.now = 1_795_000_000.0
        self.owners = count(1)
        self.sent: Counter[int] = Counter()
        """Requests by attempt that the provider has taken, or may have."""
        self.posted: set[str] = set()
        self.wishes: set[str] = set()

    def current(self) -> Record:
        record = self.ledger.get(self.job_id)
        assert record
        self.known = record
        return record

    def write(self, record: Record, write: Callable[[], Any]) -> Record | None:
        """Write with a record that may be old. A conflict changes nothing; a later attempt, or an end, stays."""
        self.now += 1
        before = self.known
        try:
            write()
        except Conflict:
            assert self.current() == before
            return None
        after = self.current()
        assert before.attempt == after.attempt == record.attempt
        assert before.owner == record.owner or record.status is not Status.SUBMITTING
        if before.ended:
            assert (after.status, after.error, after.outputs) == (before.status, before.error, before.outputs)
        return after

    @initialize(target=records)
    def queue(self) -> Record:
        self.ledger.queue(Job(self.job_id, "bucket", "hero", "walk", {}), self.now)
        return self.current()

    @rule(target=records)
    def read(self) -> Record:
        return self.known

    @rule(target=claims, record=records)
    def claim(self, record: Record) -> Record:
        claimed: list[Record] = []
        if record.status is Status.QUEUED:
            owner = f"owner-{next(self.owners)}"
            self.write(record, lambda: claimed.append(self.ledger.claim(record, owner, self.now)))
        return claimed[0] if claimed else multiple()  # type: ignore[return-value]

    @rule(target=records)
    def go_on(self) -> Record:
        """All goes as it mostly does; somebody else holds what was read before."""
        read = self.known
        if read.status is Status.QUEUED:
            claimed = self.claim(read)
            self.post(claimed)
        elif read.status is Status.SUBMITTING:
            self.taken(read)
        elif read.status is Status.SUBMITTED:
            self.deliver(read, good=False)
        elif read.status is Status.FAILED:
            self.tell(read)
            self.retry(self.known, f"wish {read.attempt}")
        return read

    @rule(target=claims, record=records)
    def hold_a_claim(self, record: Record) -> Record:
        return record if record.status is Status.SUBMITTING else multiple()  # type: ignore[return-value]

    @rule(claimed=claims)
    def post(self, claimed: Record) -> None:
        """Its owner sends the request, once; perhaps only after others have given it up."""
        if claimed.owner not in self.posted:
            self.posted.add(str(claimed.owner))
            self.sent[claimed.attempt] += 1

    @rule(claimed=claims)
    def taken(self, claimed: Record) -> None:
        if claimed.owner in self.posted:
            self.write(claimed, lambda: self.ledger.submitted(claimed, f"of {claimed.owner}", self.now))

    @rule(claimed=claims)
    def not_taken(self, claimed: Record) -> None:
        """The provider said that it took nothing: only then may the attempt be sent again."""
        if claimed.owner in self.posted and self.sent[claimed.attempt] and self.known.owner == claimed.owner:
            after = self.write(claimed, lambda: self.ledger.release(claimed, "503", self.now, self.now))
            if after:
                self.sent[claimed.attempt] -= 1
                self.posted.add(f"answered {claimed.owner}")

    @rule(claimed=claims)
    def rejected(self, claimed: Record) -> None:
        if claimed.owner in self.posted:
            self.write(claimed, lambda: self.ledger.fail(claimed, Rejected("400"), self.now))

    @rule(record=records, found=st.booleans())
    def look_after_a_claim(self, record: Record, found: bool) -> None:
        """Somebody finds a claim that is old, and the request in the history, or not."""
        if record.status is not Status.SUBMITTING:
            return
        suspected: list[Record] = []
        self.write(record, lambda: suspected.append(self.ledger.suspect(record, "no answer", self.now)))
        if suspected and found:
            self.write(suspected[0], lambda: self.ledger.submitted(suspected[0], "from the history", self.now))
        elif suspected:
            self.write(suspected[0], lambda: self.ledger.fail(suspected[0], SubmitOutcomeUnknown("unknown"), self.now))

    @rule(record=records)
    def hold(self, record: Record) -> None:
        if record.status is Status.QUEUED:
            self.write(record, lambda: self.ledger.hold(record, "429", self.now + 9, self.now))

    @rule(record=records)
    def adopt(self, record: Record) -> None:
        if record.status is Status.QUEUED and record.attempt > 1:
            self.write(record, lambda: self.ledger.adopt(record, "of an earlier attempt", self.now))

    @rule(record=records, good=st.booleans())
    def deliver(self, record: Record, good: bool) -> None:
        if record.status is not Status.SUBMITTED:
            return
        if good:
            self.write(record, lambda: self.ledger.succeed(record, [{"key": "1.png"}], {}, self.now))
        else:
            self.write(record, lambda: self.ledger.fail_attempt(record, InferenceFailed("no"), {}, self.now))

    @rule(record=records)
    def tell(self, record: Record) -> None:
        if record.ended:
            self.write(record, lambda: self.ledger.notified(record, self.now))

    @rule(record=records)
    def not_found(self, record: Record) -> None:
        if record.status is Status.SUBMITTED:
            self.write(record, lambda: self.ledger.not_found(record, self.now))

    @rule(target=records, record=records, wish=st.sampled_from(["a", "b", "c"]))
    def retry(self, record: Record, wish: str) -> Record:
        before = self.known
        if record.status is not Status.FAILED or record.retry_message_id == wish:
            return before
        try:
            after = self.ledger.new_attempt(record, wish, None, self.now)
        except Conflict:
            assert self.current() == before
            return before
        assert before.status is Status.FAILED
        assert (after.attempt, after.status) == (before.attempt + 1, Status.QUEUED)
        assert after.request_id is after.owner is after.error is after.notified_at is after.not_found_at is None
        return self.current()

    @invariant()
    def an_attempt_is_paid_once(self) -> None:
        assert all(sent <= 1 for sent in self.sent.values()), self.sent

    @invariant()
    def the_index_holds_what_is_not_told(self) -> None:
        item = self.client.item
        if "notified_at" in item:
            assert "unfinished" not in item
            assert item["status"]["S"] in ENDED
        else:
            assert item["unfinished"] == item["status"]


def test_concurrent_owners() -> None:
    run_state_machine_as_test(Concurrent, settings=settings(max_examples=50, stateful_step_count=30))  # type: ignore[no-untyped-call]
