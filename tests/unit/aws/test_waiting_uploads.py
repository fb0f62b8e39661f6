"""The ledger's two doors: one for jobs, one for uploads that wait."""

from collections.abc import Callable

import pytest

from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Status, WaitingRecord
from posedrop.aws.record_table import INCOMPLETE
from posedrop.contract.errors import Conflict, InternalError
from posedrop.contract.job import Job, is_waiting_id, waiting_id
from tests.table import Table

JOB = "hero-walk-0123456789abcdef"
WALK = waiting_id("hero", "walk")
NOW = 1_795_000_000.0


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def ledger(table: Table) -> Ledger:
    return Ledger(table, "jobs")  # type: ignore[arg-type]


@pytest.fixture
def waiting(ledger: Ledger) -> WaitingRecord:
    return ledger.wait("bucket", "hero", "walk", ["face"], NOW, "front.jpg is no face: name it face.jpg")


def test_each_kind_of_record_has_its_own_door(ledger: Ledger, waiting: WaitingRecord) -> None:
    job = ledger.refuse(Job(JOB, "bucket", "hero", "walk", {}), InternalError("x"), NOW)
    assert ledger.get(JOB) == job
    assert ledger.get_waiting(WALK) == waiting
    assert (ledger.get("hero-sit-0123456789abcdef"), ledger.get_waiting(waiting_id("hero", "sit"))) == (None, None)


def test_a_record_of_the_other_kind_is_refused_at_either_door(ledger: Ledger, waiting: WaitingRecord) -> None:
    ledger.refuse(Job(JOB, "bucket", "hero", "walk", {}), InternalError("x"), NOW)
    with pytest.raises(ValueError, match=f"{WALK} is not the record of a job"):
        ledger.get(WALK)
    with pytest.raises(ValueError, match=f"{JOB} is not the record of waiting uploads"):
        ledger.get_waiting(JOB)


def test_what_waiting_uploads_say(waiting: WaitingRecord) -> None:
    assert waiting == WaitingRecord(
        WALK,
        Status.WAITING,
        "hero",
        "walk",
        "bucket",
        created_at=NOW,
        updated_at=NOW,
        reason="front.jpg is no face: name it face.jpg",
        missing=["face"],
    )
    assert waiting.unfinished == INCOMPLETE


def test_unread_uploads_wait_for_nothing_and_their_errors_are_counted(ledger: Ledger) -> None:
    found = [ledger.count_unread("bucket", "hero", "walk", "unexpected error: x", NOW + at) for at in range(3)]
    assert [waiting.errors for waiting in found] == [1, 2, 3]
    assert (found[-1].missing, found[-1].created_at, found[-1].updated_at) == ([], NOW, NOW + 2)
    assert ledger.wait("bucket", "hero", "walk", ["face"], NOW + 3).errors == 0


def test_a_report_is_recorded_once_per_channel(ledger: Ledger, waiting: WaitingRecord) -> None:
    ledger.alert_published(waiting, ["topic"])
    ledger.alerted(waiting, NOW + 5)
    found = ledger.get_waiting(WALK)
    assert found is not None
    assert (found.published, found.alerted_at) == (["topic"], NOW + 5)


@pytest.mark.parametrize(
    "write",
    [
        lambda ledger, waiting: ledger.alert_published(waiting, ["topic"]),
        lambda ledger, waiting: ledger.alerted(waiting, NOW),
        lambda ledger, waiting: ledger.check_later(waiting, NOW),
    ],
    ids=["published", "alerted", "check later"],
)
def test_uploads_that_became_a_job_meanwhile_are_not_recorded_again(
    table: Table, ledger: Ledger, waiting: WaitingRecord, write: Callable[[Ledger, WaitingRecord], None]
) -> None:
    ledger.stop_waiting("hero", "walk")
    with pytest.raises(Conflict):
        write(ledger, waiting)
    assert table.items == {}


def test_the_ids_of_the_two_kinds() -> None:
    assert WALK == "waiting/hero/walk"
    assert [is_waiting_id(name) for name in (WALK, waiting_id("hero", ""), JOB, "waiting-walk-0123456789abcdef")] == [
        True,
        True,
        False,
        False,
    ]
