"""The place of a queued job as the index has it."""

import pytest

from posedrop.aws.items import Item
from posedrop.aws.places import Entry, client_item, dispatched, due, in_line

PLACE = "0000000007 1970-01-02T00:00:00.000Z"
ITEM: Item = {
    "job_id": "hero-walk-1",
    "stands": "in line",
    "place": PLACE,
    "queued_at": "1970-01-02T00:00:00.000Z",
}


def test_an_entry_of_the_index() -> None:
    found = Entry.of({**ITEM, "rank": 7, "dispatch_number": 3})
    assert found == Entry("hero-walk-1", "in line", PLACE, 7, 86400.0, 3)
    assert found.line_place == PLACE


def test_a_job_that_was_never_dispatched_has_the_first_rank_and_no_number() -> None:
    found = Entry.of(ITEM)
    assert (found.rank, found.dispatch_number) == (0, 0)


def test_a_job_in_line_sorts_by_its_rank_and_then_by_its_age() -> None:
    assert in_line(7, 86400) == {"stands": "in line", "place": PLACE}
    places = [in_line(rank, at)["place"] for rank, at in ((9, 5), (10, 3), (10, 4), (100, 1))]
    assert places == sorted(places)


def test_a_due_job_has_its_time() -> None:
    assert due(86400.25) == {"stands": "due", "place": "1970-01-02T00:00:00.250Z"}


def test_a_dispatched_job_is_due_ten_minutes_after_its_message() -> None:
    assert dispatched(86400) == {"stands": "due", "place": "1970-01-02T00:10:00.000Z", "send_at": 86400}


@pytest.mark.parametrize(("one", "other", "same"), [("a/b", "a/c", True), ("a", "a/b", True), ("a", "b", False)])
def test_a_client_is_the_first_folder(one: str, other: str, same: bool) -> None:
    assert (client_item(one) == client_item(other)) is same
    assert client_item(one).startswith("client/")
