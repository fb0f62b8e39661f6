"""The limits of what is read: values just within and just beyond each limit."""

import json

import pytest

from posedrop.contract import parameters
from posedrop.gate import poll_schedule as polling
from posedrop.segmind import responses as answers
from posedrop.segmind.responses import ProviderResponse, load_json, parse_response


def test_the_limits_are_those_of_the_contract() -> None:
    assert (parameters.JOB_FILE_LIMIT, parameters.PROMPT_LIMIT) == (65_536, 8_192)
    assert (parameters.CONTEXT_LIMIT, parameters.CONTEXT_DEPTH) == (4_096, 32)
    assert (answers.ERROR_BYTES, answers.READ_CHARACTERS) == (1_024, 16_384)
    assert (answers.MAX_DEPTH, answers.MAX_PARTS, answers.LONGEST_SECONDS) == (6, 100_000, 1_000_000)
    assert (polling.LONGEST_WAIT, polling.LONGEST_JOB, polling.MEMORY) == (60, 3_600, 32)


def error(value: object) -> str | None:
    """The text that is read from an error of the provider."""
    return parse_response(500, json.dumps({"error": value}).encode()).error


@pytest.mark.parametrize("body", [b"busy", b'["busy"]'], ids=["text", "list"])
@pytest.mark.parametrize(("status", "text"), [(199, "busy"), (200, None), (201, None), (299, None), (300, "busy")])
def test_a_body_without_names_is_an_error_unless_the_status_is_a_success(
    body: bytes, status: int, text: str | None
) -> None:
    assert parse_response(status, body) == ProviderResponse(error=text)


def test_a_body_of_too_many_parts_is_not_read() -> None:
    assert len(load_json("[" + ",".join(["[]"] * 99_999) + "]")) == 99_999  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too many lists and objects"):
        load_json("[" + ",".join(["{}"] * 100_000) + "]")


@pytest.mark.parametrize(("digits", "kind"), [(300, int), (301, float)])
def test_a_number_of_many_digits_is_rounded(digits: int, kind: type) -> None:
    assert type(load_json("9" * digits)) is kind


def test_a_state_has_64_characters_at_most() -> None:
    assert parse_response(200, json.dumps({"status": "x" * 70}).encode()).state == "X" * 64


def test_seconds_are_kept_to_the_microsecond() -> None:
    assert parse_response(200, b'{"metrics": {"inference_time": 1.23456789}}').inference_seconds == 1.234568


@pytest.mark.parametrize(("depth", "text"), [(1, "deep"), (5, "deep"), (6, None)])
def test_an_error_is_read_down_to_the_sixth_level(depth: int, text: str | None) -> None:
    in_lists: object = "deep"
    named: object = "deep"
    unnamed: object = "deep"
    for _ in range(depth):
        in_lists, named, unnamed = [in_lists], {"message": named}, {"code": unnamed}
    assert (error(in_lists), error(named)) == (text, text)
    assert error(unnamed) == (text and "code: " * depth + text)


def test_an_error_has_ten_parts_at_most() -> None:
    names = [f"n{number}" for number in range(12)]
    assert error(names) == "; ".join(names[:10])
    assert error(dict.fromkeys(names, "x")) == ", ".join(f"{name}: x" for name in names[:10])
    assert error({"loc": names, "msg": "wrong"}) == ".".join(names[:10]) + ": wrong"


@pytest.mark.parametrize("place", ["body", [], {}, 7])
def test_a_place_that_is_no_list_of_names_is_left_out(place: object) -> None:
    assert error({"loc": place, "msg": "wrong"}) == "wrong"
