"""Job files: every field's bounds, the order of the layers, and bytes that are no job file."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posedrop.contract import parameters
from posedrop.contract.errors import InvalidInput
from posedrop.contract.parameters import (
    CONTEXT_DEPTH,
    CONTEXT_LIMIT,
    JOB_FILE_LIMIT,
    PROMPT_LIMIT,
    check_prompt,
    merge,
    metadata_prompt,
    read_job_file,
)
from posedrop.segmind.model import MODELS
from tests.support import schema

NAME = "incoming/hero/job.json"
DEFAULTS: dict[str, Any] = {
    "base_64": False,
    "custom_height": 1024,
    "custom_width": 1024,
    "output_format": "png",
    "quality": 95,
    "samples": 1,
    "seed": 2778725438,
    "use_input_img_dimension": True,
}
INTEGERS = {
    "custom_height": (64, 4096),
    "custom_width": (64, 4096),
    "quality": (10, 100),
    "samples": (1, 4),
    "seed": (-(2**63), 2**63 - 1),
}


def read(content: object) -> dict[str, Any]:
    return read_job_file(NAME, json.dumps(content).encode(), "job")


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("name", sorted({model.schema for model in MODELS.values()}))
def test_each_model_s_schema_is_the_one_that_events_serves(name: str) -> None:
    assert parameters.schema(name) == schema(name)
    jsonschema.Draft7Validator.check_schema(schema(name))


def test_the_schema_names_the_model_s_parameters_and_their_defaults() -> None:
    properties = parameters.schema("job")["properties"]
    assert set(properties) == {*DEFAULTS, "prompt", "context"}
    assert {name: value["default"] for name, value in properties.items() if "default" in value} == DEFAULTS


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"prompt": "a walk", **DEFAULTS, "context": {"order": 7}},
        *({name: bound} for name, bounds in INTEGERS.items() for bound in bounds),
        *({"output_format": name} for name in ("jpeg", "png", "webp")),
        {"base_64": True, "use_input_img_dimension": False},
        {"prompt": "x" * PROMPT_LIMIT},
        {"prompt": "ü" * (PROMPT_LIMIT // 2)},
        {"context": {}},
        {"context": {"a": "x" * (CONTEXT_LIMIT - len('{"a":""}'))}},
        {"context": nested(CONTEXT_DEPTH)},
    ],
)
def test_values_within_the_bounds_are_accepted_unchanged(content: dict[str, Any]) -> None:
    assert read(content) == content
    jsonschema.validate(content, schema("job"))


OBJECT: dict[str, Any] = {}
LIST: list[Any] = []
REFUSED: list[tuple[str, Any, str]] = [
    *((name, low - 1, f"bigger than or equal to {low} (it is {low - 1})") for name, (low, _) in INTEGERS.items()),
    *((name, high + 1, f"smaller than or equal to {high} (it is") for name, (_, high) in INTEGERS.items()),
    *((name, value, "must be integer") for name in INTEGERS for value in (True, "1", None, 1.5, [1], OBJECT)),
    *((name, value, "must be boolean") for name in ("base_64", "use_input_img_dimension") for value in (0, "true")),
    *(("output_format", value, "must be one of") for value in ("gif", "PNG", "")),
    *(("output_format", value, "must be string") for value in (None, 1)),
    *(("prompt", value, "must be string") for value in (None, 1, ["a"], OBJECT)),
    ("prompt", "", "must be longer than"),
    ("prompt", " \n\t", "blank"),
    ("prompt", "x" * (PROMPT_LIMIT + 1), "must be shorter"),
    ("prompt", "ü" * (PROMPT_LIMIT // 2 + 1), f"{PROMPT_LIMIT + 2} bytes, more than {PROMPT_LIMIT}"),
    ("prompt", "\ud800", "lone surrogate"),
    *(("context", value, "must be object") for value in (None, 1, "x", LIST)),
    ("context", {"a": "x" * (CONTEXT_LIMIT - len('{"a":""}') + 1)}, f"more than {CONTEXT_LIMIT}"),
    ("context", {"a": "ü" * (CONTEXT_LIMIT // 2)}, f"more than {CONTEXT_LIMIT}"),
    ("context", nested(CONTEXT_DEPTH + 1), "nested deeper"),
    ("context", {"a": "\udfff"}, "cannot carry"),
    ("context", {"\udfff": 1}, "cannot carry"),
]


@pytest.mark.parametrize(("field", "value", "reason"), REFUSED)
def test_what_is_out_of_bounds_is_refused_by_file_field_and_reason(field: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read({field: value})
    assert str(caught.value).startswith(f"{NAME}: {field} ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("smaples", "smaples is not a parameter of the model; did you mean samples?"),
        ("custom_widht", "did you mean custom_width?"),
        ("zzz", "zzz is not a parameter of the model"),
        ("face_image", "face_image cannot be set in a job file"),
        ("pose_image", "pose_image cannot be set in a job file"),
        ("a\nb", r"a\nb is not"),
        ("\ud800", r"\ud800 is not"),
        ("x" * 60_000, ": " + "x" * 60 + " is not"),
        ("", " is not a parameter"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(field: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read({field: 1})
    text = str(caught.value)
    assert said in text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize(("digits", "shown"), [(40, True), (41, False)])
def test_a_wrong_number_is_shown_unless_it_is_long(digits: int, shown: bool) -> None:
    number = int("9" * digits)
    with pytest.raises(InvalidInput) as caught:
        read({"seed": number})
    assert str(caught.value).endswith(f" (it is {number})") is shown


def test_all_wrong_fields_are_reported_up_to_ten() -> None:
    with pytest.raises(InvalidInput) as caught:
        read({"samples": 9, "quality": 1, **{f"unknown{number}": 1 for number in range(20)}})
    assert "samples" in str(caught.value)
    assert "quality" in str(caught.value)
    assert str(caught.value).count(NAME) == 10


def test_a_whole_float_becomes_an_integer() -> None:
    samples = read({"samples": 2.0})["samples"]
    assert (samples, type(samples)) == (2, int)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"prompt: a walk", "not JSON"),
        (b'{"prompt": "a",}', "not JSON"),
        (b'{"prompt": "\xff"}', "not JSON"),
        (b'{"quality": NaN}', "NaN is not a JSON value"),
        (b'{"context": {"a": -Infinity}}', "-Infinity is not a JSON value"),
        (b'{"seed": 1e400}', "seed must be integer"),
        (b'{"context": {"a": 1e400}}', "cannot carry"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"seed": ' + b"9" * 4000 + b"}", "seed must be smaller"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b'{"context": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, "nested too deeply"),
        (b'{"context": ' + b'{"a":' * 500 + b"1" + b"}" * 501, "nested deeper"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"prompt"', "not a JSON object"),
        (b" " * (JOB_FILE_LIMIT + 1), "larger than 65536 bytes"),
    ],
)
def test_bytes_that_are_no_job_file(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_job_file(NAME, data, "job")
    assert str(caught.value).startswith(f"{NAME}: ")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"{}" + b" " * (JOB_FILE_LIMIT - 2),
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
    ],
)
def test_a_full_file_and_other_encodings_of_unicode_are_read(data: bytes) -> None:
    assert read_job_file(NAME, data, "job") == {}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*DEFAULTS, "prompt", "context", "face_image", "x"])


@given(
    st.binary(max_size=60) | (st.dictionaries(FIELDS, JSON_VALUES) | JSON_VALUES).map(lambda v: json.dumps(v).encode())
)
@example(b'{"context": {"a": 1E999}}')
@example(b"\xff\xfe\x00\xd8")
def test_any_bytes_give_parameters_that_fit_the_schema_or_invalid_input(data: bytes) -> None:
    try:
        content = read_job_file(NAME, data, "job")
    except InvalidInput:
        return
    jsonschema.validate(content, schema("job"))
    assert json.loads(json.dumps(content, ensure_ascii=False, allow_nan=False).encode()) == content


# ---- layers ---------------------------------------------------------------------------------------------------------


def test_without_layers_the_model_s_defaults_remain() -> None:
    assert merge("", rules="job") == (DEFAULTS, None)


def test_later_layers_win() -> None:
    merged, context = merge(
        "stack",
        {"prompt": "job file", "samples": 2, "quality": 50, "context": {"a": 1, "b": 1}},
        {"prompt": "pose file", "samples": 3, "context": {"a": 2}},
        {"prompt": "metadata"},
        rules="job",
    )
    assert merged == {**DEFAULTS, "prompt": "metadata", "samples": 3, "quality": 50}
    assert context == {"a": 2}


@pytest.mark.parametrize(("default", "expected"), [("stack", "stack"), ("", None)])
def test_the_stack_s_prompt_is_the_last_resort(default: str, expected: str | None) -> None:
    assert merge(default, {"samples": 2}, rules="job")[0].get("prompt") == expected


def test_layers_are_left_as_they_are() -> None:
    layer = {"prompt": "a", "context": {"b": 1}}
    merge("", layer, rules="job")
    assert layer == {"prompt": "a", "context": {"b": 1}}
    assert merge("", rules="job") == (DEFAULTS, None)


@pytest.mark.parametrize(
    ("metadata", "prompt"),
    [
        ({}, ""),
        ({"other": "x"}, ""),
        ({"prompt": "  a walk "}, "a walk"),
        ({"prompt": "=?UTF-8?Q?im_B=C3=BCro?="}, "im Büro"),
        ({"prompt": "=?UTF-8?B?aW0gQsO8cm8=?="}, "im Büro"),
        ({"prompt": "=?UTF-8?B?aW0gQg==?= =?UTF-8?B?w7xybw==?="}, "im Büro"),
        ({"prompt": "what=?"}, "what=?"),
        ({"prompt": "=?UTF-8?B?a?="}, "=?UTF-8?B?a?="),
        ({"prompt": "=?UTF-8?Q?=FF?="}, "=?UTF-8?Q?=FF?="),
        ({"prompt": "=?klingon?Q?nuqneH?="}, "=?klingon?Q?nuqneH?="),
    ],
)
def test_the_prompt_in_an_object_s_metadata(metadata: dict[str, str], prompt: str) -> None:
    assert metadata_prompt(metadata) == prompt


@pytest.mark.parametrize("prompt", ["", " ", "ü" * PROMPT_LIMIT, "\ud800"])
def test_a_bad_prompt_is_refused_by_its_place(prompt: str) -> None:
    with pytest.raises(InvalidInput, match=r"^walk\.png: metadata: prompt "):
        check_prompt("walk.png", prompt)


def test_a_good_prompt_is_returned() -> None:
    assert check_prompt("x", "a walk") == "a walk"
