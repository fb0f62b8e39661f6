"""The rows of the provider's history: what each says about a request, and that rows of one request are one request."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from posedrop.segmind.history_rows import (
    PastRequest,
    image_file_names,
    merged,
    past_requests,
    row_time,
    rows_of,
    rows_of_one,
)
from posedrop.segmind.outputs import parse_output

NAME = "hero-walk-0123456789abcdef-1"
PICTURES = ("https://images.test/1.png", "https://images.test/2.png")


def url(disposition: str) -> str:
    """A presigned URL with a Content-Disposition."""
    return f"https://b.s3.amazonaws.com/face.png?response-content-disposition={quote(disposition)}&X-Amz-Signature=0a"


IMAGE = url(f'inline; filename="{NAME}"')


def read(**fields: Any) -> PastRequest:
    """What is read of one row."""
    (found,) = past_requests([{"request_id": "r-1", **fields}]).values()
    return found


# ---- which rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "rows"),
    [
        ([{"a": 1}, 7, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ({"total": 3, "generations": [{"a": 1}]}, [{"a": 1}]),
        ({"generations": []}, []),
        ({"total": 3}, None),
        ("text", None),
        (None, None),
    ],
)
def test_the_rows_of_a_page(response: object, rows: list[dict[str, Any]] | None) -> None:
    assert rows_of(response) == rows


ROW = {"request_id": "r-1", "model_status": "COMPLETED"}
OTHER = {"request_id": "r-2"}


@pytest.mark.parametrize(
    "response",
    [
        ROW,
        [OTHER, ROW],
        {"request_id": "r-2", "generations": [OTHER, ROW]},
        {"generation": ROW, "next": OTHER},
        {"generations": [OTHER], "generation": ROW},
    ],
)
def test_the_rows_of_one_request(response: object) -> None:
    assert rows_of_one(response, "r-1") == [ROW]


@pytest.mark.parametrize("response", [OTHER, [OTHER], {"generation": OTHER}, {}, [], ["r-1"], "r-1", None, 7])
def test_a_response_without_the_request_has_no_rows_of_it(response: object) -> None:
    assert rows_of_one(response, "r-1") == []


# ---- one row ---------------------------------------------------------------------------------------------------------


def test_everything_that_a_row_says() -> None:
    found = read(
        model_status=" completed ",
        generation_url=PICTURES[0],
        request_body={"face_image": IMAGE},
        model_created="2026-11-23T00:30:00Z",
        credits_deduction=0.0294,
        latency_ms=31_234.5,
    )
    assert found == PastRequest(
        "r-1",
        "COMPLETED",
        tuple(parse_output(PICTURES[0])),
        frozenset({NAME}),
        datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp(),
        0.0294,
        31.235,
    )


def test_what_a_row_does_not_say_is_unknown() -> None:
    assert read() == PastRequest("r-1")
    unusable = {"model_status": 7, "generation_url": {"a": 1}, "request_body": "no JSON", "model_created": 7}
    assert read(**unusable, credits_deduction="1", latency_ms=True) == PastRequest("r-1")
    assert read(model_status="  ", generation_url="not a picture", model_created="yesterday") == PastRequest("r-1")


def test_a_long_state_is_cut() -> None:
    assert read(model_status="x" * 100).state == "X" * 64


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        (0, 0.0),
        (0.5, 0.5),
        (1000, 1000.0),
        (0.123_456_7, 0.123_457),
        (1000.000_001, None),
        (-0.000_001, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_cost(value: float, cost: float | None) -> None:
    assert read(credits_deduction=value).cost_usd == cost


@pytest.mark.parametrize(
    ("milliseconds", "seconds"), [(1_000_000_000, 1e6), (1_000_000_001, None), (0, 0.0), (1_234.4, 1.234), (-1, None)]
)
def test_a_time_in_the_model(milliseconds: float, seconds: float | None) -> None:
    assert read(latency_ms=milliseconds).seconds == seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-02T00:00:00", 86400.0),
        ("1970-01-02T00:00:00Z", 86400.0),
        ("1970-01-02T00:00:00.250+00:00", 86400.25),
        ("1970-01-02T02:00:00+02:00", 86400.0),
        ("1970-01-02 00:00:00", 86400.0),
        ("1970-01-01T19:00:00-05:00", 86400.0),
    ],
)
def test_a_time(text: str, at: float) -> None:
    assert row_time(text) == at


@pytest.mark.parametrize(
    ("cost", "state", "billed"),
    [
        (0.0294, "FAILED", True),
        (0.000_001, None, True),
        (0.0, "COMPLETED", False),
        (None, "COMPLETED", True),
        (None, "FAILED", False),
        (None, None, False),
    ],
)
def test_whether_a_request_was_paid_for(cost: float | None, state: str | None, billed: bool) -> None:
    assert PastRequest("r-1", state=state, cost_usd=cost).billed is billed


# ---- the names of the images -----------------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    """A request body with its image inside of `depth` others."""
    return {"input": nested(depth - 1)} if depth else {"face_image": IMAGE}


@pytest.mark.parametrize("depth", range(4))
def test_an_image_s_name_within_three_objects(depth: int) -> None:
    assert image_file_names(nested(depth)) == {NAME}
    assert image_file_names(json.dumps(nested(depth))) == {NAME}


def test_an_image_deeper_than_that_has_no_name() -> None:
    assert image_file_names(nested(4)) == frozenset()


def test_the_names_in_a_list_of_images() -> None:
    other = url('inline; filename="other"')
    assert image_file_names({"face_image": [IMAGE, 7, None], "pose_image": other}) == {NAME, "other"}


@pytest.mark.parametrize(
    "value",
    [
        url(f"inline; filename={NAME}"),
        url(f'inline; filename="{NAME}'),
        url(f'inline; name="{NAME}"'),
        url('inline; filename=""'),
        f"{IMAGE}&response-content-disposition=inline",
        "https://b.s3.amazonaws.com/face.png",
        "https://[no-address/face.png",
        "",
        7,
        None,
    ],
)
def test_a_url_without_one_name_in_quotes(value: object) -> None:
    assert image_file_names({"face_image": value}) == frozenset()


@pytest.mark.parametrize("body", ["", "no JSON", "[", "7", [IMAGE], IMAGE, None, {"prompt": IMAGE}])
def test_a_body_without_image_fields(body: object) -> None:
    assert image_file_names(body) == frozenset()


# ---- several rows of one request -------------------------------------------------------------------------------------


def test_the_rows_of_a_request_are_one_in_the_order_of_the_first() -> None:
    rows: list[dict[str, Any]] = [
        {"request_id": "r-2", "generation_url": PICTURES[0], "credits_deduction": 0.06},
        {"request_id": "r-1", "model_status": "FAILED"},
        {"request_id": "a/b"},
        {"request_id": 7},
        {},
        {"request_id": "r-2", "generation_url": PICTURES[1], "credits_deduction": 0.06, "model_status": "COMPLETED"},
        {"request_id": "r-2", "generation_url": PICTURES[0], "latency_ms": 2000},
    ]
    found = past_requests(rows)
    assert list(found) == ["r-2", "r-1"]
    sources = (*parse_output(PICTURES[0]), *parse_output(PICTURES[1]))
    assert found["r-2"] == PastRequest("r-2", "COMPLETED", sources, frozenset(), None, 0.06, 2.0)
    assert found["r-1"] == PastRequest("r-1", "FAILED")


def test_the_second_row_fills_the_gaps_of_the_first_and_changes_nothing_else() -> None:
    first = PastRequest("r-1", "COMPLETED", names=frozenset({"a"}), cost_usd=0.03)
    second = PastRequest("r-1", "FAILED", names=frozenset({"b"}), created_at=5.0, cost_usd=0.06, seconds=2.0)
    expected = PastRequest("r-1", "COMPLETED", (), frozenset({"a", "b"}), 5.0, 0.03, 2.0)
    assert merged([first, second]) == {"r-1": expected}
