"""The ledger's record as an item of DynamoDB, and back."""

import dataclasses
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from hypothesis import given
from hypothesis import strategies as st

from posedrop.aws.record import ENDED, OF_ONE_ATTEMPT, AnyRecord, BaseRecord, Record, Status, WaitingRecord, only_jobs
from posedrop.aws.record_items import from_item, is_record, job_of, to_item, waiting_of
from posedrop.contract.reasons import ReasonCode
from posedrop.segmind.requests import MAY_EXIST, Request, RequestStatus

times = st.integers(1_700_000_000_000, 2_100_000_000_000).map(lambda milliseconds: milliseconds / 1000)
floats = st.floats(1.7e9, 2.1e9).map(lambda seconds: round(seconds, 6))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
leaves = st.one_of(texts, st.booleans(), st.none(), st.integers(-(10**9), 10**9), floats)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
requests = st.builds(
    Request,
    attempt=st.integers(1, 99),
    sent_at=times,
    status=st.sampled_from(RequestStatus),
    request_id=st.none() | texts,
    not_found_at=st.none() | times,
    history_page=st.integers(1, 1000),
    charged_usd=st.floats(0, 1).map(lambda usd: round(usd, 6)),
)
JOB_STATUSES = [status for status in Status if status is not Status.WAITING]
both: dict[str, st.SearchStrategy[Any]] = {
    "job_id": names,
    "character": texts,
    "pose": texts,
    "bucket": texts,
    "created_at": times,
    "updated_at": times,
    "reason": st.none() | texts,
    "errors": st.integers(0, 9),
    "published": st.lists(texts, max_size=2),
}
jobs = st.builds(
    Record,
    **both,
    status=st.sampled_from(JOB_STATUSES),
    attempt=st.integers(1, 99),
    inputs=st.dictionaries(st.sampled_from(["face", "pose"]), st.dictionaries(names, leaves, max_size=4)),
    parameters=st.dictionaries(names, leaves, max_size=5),
    context=st.none() | st.dictionaries(names, values, max_size=4),
    reason_code=st.none() | st.sampled_from(ReasonCode),
    rank=st.integers(0, 10**9),
    stands=st.none() | st.sampled_from(["in line", "due"]),
    place=st.none() | texts,
    send_at=st.none() | times,
    dispatch_number=st.integers(0, 99),
    requests=st.lists(requests, max_size=4),
    outputs=st.lists(st.dictionaries(names, leaves, max_size=4), max_size=2),
    queued_at=times,
    retry_messages=st.lists(texts, max_size=3),
    buy_again=st.booleans(),
    refused_at=st.none() | times,
)
waiting = st.builds(
    WaitingRecord,
    **both,
    status=st.just(Status.WAITING),
    missing=st.lists(texts, max_size=3),
    alerted_at=st.none() | times,
)


def values_of(record: BaseRecord) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


@given(jobs)
def test_a_job_is_read_as_it_was_written(record: Record) -> None:
    item = to_item(values_of(record))
    assert job_of(item) == from_item(item) == record
    with pytest.raises(ValueError, match="is not the record of waiting uploads"):
        waiting_of(item)


@given(waiting)
def test_waiting_uploads_are_read_as_they_were_written(record: WaitingRecord) -> None:
    item = to_item(values_of(record))
    assert waiting_of(item) == from_item(item) == record
    with pytest.raises(ValueError, match="is not the record of a job"):
        job_of(item)


@given(st.lists(jobs | waiting, max_size=4))
def test_the_jobs_in_a_list_of_both_kinds(records: list[AnyRecord]) -> None:
    found = list(only_jobs(records))
    assert found == [record for record in records if type(record) is Record]
    assert Status.WAITING not in {record.status for record in found}


@pytest.mark.parametrize("item", [{}, {"status": {"S": "ABANDONED"}}])
def test_an_item_that_is_no_record_is_refused(item: dict[str, Any]) -> None:
    for read in (from_item, job_of, waiting_of):
        with pytest.raises((KeyError, ValueError)):
            read({"job_id": {"S": "attempts/0a"}, **item})


def test_waiting_uploads_can_be_cancelled_and_a_queued_job_that_was_not_sent() -> None:
    assert WaitingRecord("waiting/hero/", Status.WAITING, "hero", "").can_be_cancelled
    jobs = [Record("a", status, "hero", "walk") for status in JOB_STATUSES]
    assert [job.status for job in jobs if job.can_be_cancelled] == [Status.QUEUED]


def test_times_are_texts_to_the_millisecond() -> None:
    request = Request(1, 1_795_000_000.123)
    item = to_item({**values_of(Record("a", Status.QUEUED, "hero", "walk", requests=[request]))})
    assert TypeDeserializer().deserialize(item["requests"])[0]["sent_at"] == "2026-11-18T11:06:40.123Z"
    assert job_of(item).requests == [request]


def test_what_is_none_is_no_attribute() -> None:
    item = to_item({**values_of(Record("a", Status.QUEUED, "hero", "walk", requests=[Request(1, 5)]))})
    assert "owner" not in item
    assert set(item["requests"]["L"][0]["M"]) == {"attempt", "sent_at", "status", "history_page", "charged_usd"}


def test_a_context_nested_deeper_than_dynamodb_allows() -> None:
    context: dict[str, Any] = {}
    for _ in range(40):
        context = {"inner": context}
    record = Record("a", Status.QUEUED, "hero", "walk", context=context)
    assert "S" in to_item(values_of(record))["context"]
    assert job_of(to_item(values_of(record))) == record


@pytest.mark.parametrize(
    "record",
    [Record("a", Status.QUEUED, "hero", "walk"), WaitingRecord("waiting/hero/", Status.WAITING, "hero", "")],
)
def test_attributes_of_another_version_of_this_program_are_passed_over(record: AnyRecord) -> None:
    assert from_item(to_item({**values_of(record), "something_new": 7, "day": "2026-11-26"})) == record


def test_attributes_of_the_other_kind_are_passed_over() -> None:
    job, uploads = Record("a", Status.QUEUED, "hero", "walk"), WaitingRecord("b", Status.WAITING, "hero", "walk")
    assert from_item(to_item({**values_of(uploads), **values_of(job)})) == job
    assert from_item(to_item({**values_of(job), **values_of(uploads)})) == uploads


@pytest.mark.parametrize("name", ["rate-limit", "breaker", "attempts/0a", "request/x"])
def test_other_items_of_the_table_are_no_records(name: str) -> None:
    assert not is_record({"job_id": {"S": name}, "highest": {"N": "1"}})
    assert is_record(to_item({"job_id": "a", "status": Status.QUEUED}))


@given(st.lists(requests, min_size=1, max_size=5), st.sampled_from(RequestStatus))
def test_what_is_learned_of_a_request_changes_no_other(found: list[Request], status: RequestStatus) -> None:
    numbered = [dataclasses.replace(request, attempt=number) for number, request in enumerate(found)]
    record = Record("a", Status.QUEUED, "hero", "walk", requests=numbered)
    changed = record.with_status(numbered[0], status, request_id="new")
    assert changed[0] == dataclasses.replace(numbered[0], status=status, request_id="new")
    assert changed[1:] == numbered[1:]
    assert record.requests == numbered


def test_the_requests_of_the_own_attempt() -> None:
    first, second, third = Request(1, 1), Request(2, 2), Request(2, 3)
    record = Record("a", Status.SUBMITTING, "hero", "walk", attempt=2, requests=[first, second, third])
    assert record.sent_in_attempt == [second, third]
    assert record.claimed == third


def test_the_lists_of_states() -> None:
    assert [status for status in JOB_STATUSES if Record("a", status, "hero", "walk").ended] == list(ENDED)
    assert set(MAY_EXIST) == {RequestStatus.SENT, RequestStatus.SERVER_FAULT, RequestStatus.UNKNOWN}
    kept = {
        "requests",
        "retry_messages",
        "inputs",
        "parameters",
        "context",
        "created_at",
        "attempt",
        "queued_at",
        "buy_again",
    }
    assert not kept & set(OF_ONE_ATTEMPT)
    assert {"expires_at", "notified_at", "errors", "owner", "request_id", "refused_at"} <= set(OF_ONE_ATTEMPT)


@pytest.mark.parametrize(
    ("error", "sent", "unsent"),
    [
        ("InvalidInput", 0, True),
        ("InvalidInput", 1, True),  # an attempt after one that was sent
        ("InternalError", 0, True),
        ("InternalError", 1, False),
        ("Rejected", 0, False),  # its request is refused, and so none that may exist
        ("SubmitOutcomeUnknown", 1, False),
        (None, 0, False),
    ],
)
def test_what_failed_before_it_was_sent(error: str | None, sent: int, unsent: bool) -> None:
    found = {"type": error, "message": "x"} if error else None
    record = Record("a", Status.FAILED, "hero", "walk", error=found, requests=[Request(1, 5)] * sent)
    assert record.failed_unsent is unsent
