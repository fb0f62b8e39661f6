"""Parsing the provider's responses: every documented one, and any other bytes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.segmind.responses import (
    ERROR_BYTES,
    ProviderResponse,
    cut,
    parse_credits,
    parse_response,
    redact,
    result_gone,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def body(**keys: object) -> bytes:
    return json.dumps(keys).encode()


def check_invariants(answer: ProviderResponse) -> None:
    assert answer.state is None or (answer.state == answer.state.upper() and answer.state.strip())
    assert answer.error is None or (answer.error.isprintable() or "\n" not in answer.error)
    assert answer.error is None or 0 < len(answer.error.encode()) <= ERROR_BYTES
    seconds = answer.inference_seconds
    assert seconds is None or (isinstance(seconds, float) and math.isfinite(seconds) and seconds >= 0)
    assert answer.request_id is None or (answer.request_id.isascii() and 0 < len(answer.request_id) <= 128)


def test_queued() -> None:
    answer = parse_response(200, body(request_id="2c7f59ea-1", status="queued", poll_url="https://elsewhere.example/x"))
    assert answer == ProviderResponse(state="QUEUED", request_id="2c7f59ea-1", named_id="2c7f59ea-1")


def test_completed() -> None:
    output = ["https://images.segmind.com/a.png"]
    answer = parse_response(200, body(status="COMPLETED", error=None, metrics={"inference_time": 31.06}, output=output))
    assert answer == ProviderResponse(state="COMPLETED", inference_seconds=31.06, output=output)


def test_failed_is_known_by_the_body_of_a_422() -> None:
    answer = parse_response(422, body(status="FAILED", error="blocked by the safety filter", metrics={}))
    assert answer == ProviderResponse(state="FAILED", error="blocked by the safety filter")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (body(error="one", message="two", detail="three"), "one"),
        (body(error=None, message="two", detail="three"), "two"),
        (body(error="", detail="three"), "three"),
        (body(error={"message": "inner", "code": 3}), "inner"),
        (body(error={"code": 3, "kind": "quota"}), "code: 3, kind: quota"),
        (body(error={"error": {"message": "deep"}}), "deep"),
        (body(error=["one", "two"]), "one; two"),
        (
            body(detail=[{"loc": ["body", "prompt"], "msg": "field required", "input": "x"}]),
            "body.prompt: field required",
        ),
        (body(error=17), "17"),
        (body(error=[[[[[[[["too deep"]]]]]]]]), None),
        (b"Too many requests", "Too many requests"),
        (b'"Too many requests"', "Too many requests"),
        (b"[1, 2]", "1; 2"),
        (b"  \r\n ", None),
        (b"", None),
        (b"null", None),
        (b'{"error": "caf\xe9"}', "caf\ufffd"),
        (b'\xef\xbb\xbf{"error": "with a mark"}', "with a mark"),
        (b'{"error": "line\nbreak\tand \\u0000 and \\u0085"}', "line break and and"),
        (b'{"error": "\\ud800"}', "?"),
        (b'{"error": "cut', '{"error": "cut'),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None),
        (
            b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title><style>p { color: red }</style></head>\r\n"
            b"<body><!-- a --><center><h1>Bad&nbsp;Gateway &amp; more</h1></center></body></html>",
            "502 Bad Gateway Bad Gateway & more",
        ),
    ],
)
def test_error_text(content: bytes, error: str | None) -> None:
    assert parse_response(502, content).error == error


def test_text_of_a_success_is_no_error() -> None:
    assert parse_response(200, b"hello").error is None
    assert parse_response(200, body(error="odd")).error == "odd"


@pytest.mark.parametrize(
    ("metrics", "seconds"),
    [
        (b'{"inference_time": 31.06}', 31.06),
        (b'{"inference_time": 0}', 0.0),
        (b'{"inference_time": -1}', None),
        (b'{"inference_time": true}', None),
        (b'{"inference_time": "31"}', None),
        (b'{"inference_time": NaN}', None),
        (b'{"inference_time": Infinity}', None),
        (b'{"inference_time": 1e999}', None),
        (b'{"inference_time": 1000000}', 1e6),
        (b'{"inference_time": 1000000.1}', None),
        (b'{"inference_time": 1' + b"0" * 299 + b"}", None),
        (b'{"inference_time": 1' + b"0" * 9000 + b"}", None),
        (b"{}", None),
        (b"[31]", None),
        (b"null", None),
    ],
)
def test_inference_seconds(metrics: bytes, seconds: float | None) -> None:
    answer = parse_response(200, b'{"status": "COMPLETED", "metrics": ' + metrics + b"}")
    assert (answer.state, answer.inference_seconds) == ("COMPLETED", seconds)


@pytest.mark.parametrize("request_id", ["2c7f59ea-5d1b", "req_1:a.b", "x" * 128, "...", "a+b=c"])
def test_a_usable_request_id_is_accepted(request_id: str) -> None:
    assert parse_response(200, body(request_id=request_id)).request_id == request_id


@pytest.mark.parametrize(
    "request_id",
    ["", ".", "..", "a/b", "a?b", "a#b", "a b", "a%2fb", "a\\b", "a\n", "\u00e4", "x" * 129, 5, None, ["a"]],
)
def test_request_id_that_could_change_a_url_is_refused(request_id: object) -> None:
    answer = parse_response(200, body(request_id=request_id))
    assert (answer.request_id, answer.named_id) == (None, request_id)


@pytest.mark.parametrize(
    ("keys", "output"),
    [
        ({"output": "a"}, "a"),
        ({"output": "a", "images": None, "image": ""}, "a"),
        ({"output": [], "images": []}, []),
        ({"images": ["a"]}, {"images": ["a"]}),
        ({"output": None, "image_url": "a", "seed": 5, "status_url": "b"}, {"image_url": "a"}),
        ({"output": "a", "images": ["a", "b"], "timings": {}}, {"output": "a", "images": ["a", "b"]}),
        ({}, None),
    ],
)
def test_images_beside_the_output_belong_to_it(keys: dict[str, object], output: object) -> None:
    assert parse_response(200, body(status="COMPLETED", **keys)).output == output


@pytest.mark.parametrize("status", [None, 5, "", "  ", ["COMPLETED"], {}])
def test_status_that_is_no_text(status: object) -> None:
    assert parse_response(200, body(status=status)).state is None


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"output":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"<" * 10**6,
        b"\xff" * 10**6,
    ],
    ids=["lists", "objects", "output", "markup", "not UTF-8"],
)
def test_hostile_bodies(content: bytes) -> None:
    check_invariants(parse_response(502, content))


def test_long_error_is_cut_between_characters() -> None:
    error = parse_response(400, body(error="\u00e4 " * 3000)).error
    assert error is not None
    assert error == ("\u00e4 " * 3000)[: len(error)]
    assert ERROR_BYTES - 4 <= len(error.encode()) <= ERROR_BYTES


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "abc"),
        ("a\u00e4", 2, "a"),
        ("\U0001f600", 3, ""),
        ("\ud800b", 9, "?b"),
        ("a", 0, ""),
    ],
)
def test_cut(text: str, limit: int, result: str) -> None:
    assert cut(text, limit) == result


@pytest.mark.parametrize(
    "secret",
    [
        "https://b.s3.amazonaws.com/k.png?X-Amz-Credential=AK&X-Amz-Signature=5ecre7",
        "X-Amz-Signature=5ecre7&x",
        "SG_5ecre7",
        "5ecre7" + "iVBORw0KGgo" * 20,
        "data:image/png;base64," + "5ecre7/+" * 20,
    ],
)
def test_error_text_is_redacted(secret: str) -> None:
    for keys in ({"error": f"cannot fetch {secret}"}, {"error": {"input": secret}}, {"detail": [{"msg": secret}]}):
        answer = parse_response(400, body(**keys))
        assert answer.error
        assert "5ecre7" not in answer.error
    assert "5ecre7" not in str(parse_response(502, f"<p>{secret}</p>".encode()).error)


def test_redaction_keeps_what_a_person_needs() -> None:
    text = "Why? cannot fetch https://b.example/incoming/hero/face.png?sig=1 (403)"
    assert redact(text) == "Why? cannot fetch https://b.example/incoming/hero/face.png?... (403)"


@given(
    st.sampled_from([200, 422, 502]),
    st.binary() | st.text().map(lambda text: f"<html>{text}".encode("utf-8", "ignore")),
)
def test_any_bytes_give_a_response(status_code: int, content: bytes) -> None:
    check_invariants(parse_response(status_code, content))


KEYS = ("status", "error", "message", "detail", "metrics", "output", "request_id")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON_VALUES)) | JSON_VALUES)
def test_any_json_gives_a_response(value: object) -> None:
    answer = parse_response(422, json.dumps(value).encode())
    check_invariants(answer)
    if isinstance(value, dict) and value.get("output") == value.get("output"):  # not NaN
        assert repr(answer.output) == repr(value.get("output"))


@pytest.mark.parametrize(("cost", "read"), [(0.0294, 0.0294), (1000, 1000), (1000.5, None), (-1, None), ("free", None)])
def test_a_cost_that_cannot_be_one_is_not_read(cost: object, read: float | None) -> None:
    assert parse_response(200, body(status="COMPLETED", metrics={"cost": cost})).cost_usd == read


@pytest.mark.parametrize(
    ("content", "usd"),
    [
        (body(**{"credits": 3, "free-credits": 0.5}), 3.5),
        (body(credits=3), 3),
        (body(**{"free-credits": 0.1234567}), 0.123457),
        (body(credits=1e9), 1e9),
        (body(credits=1e9 + 0.5), None),
        (body(), None),
        (b"no JSON", None),
    ],
)
def test_credits_are_the_sum_of_what_the_account_has(content: bytes, usd: float | None) -> None:
    assert parse_credits(content) == usd


@pytest.mark.parametrize(
    ("between", "after", "gone"), [(30, 60, True), (29.5, 600, False), (30, 59.5, False), (600, 59.5, False)]
)
def test_a_result_is_gone_after_two_answers_half_a_minute_apart_a_minute_after_the_submit(
    between: float, after: float, gone: bool
) -> None:
    now = 1_800_000_000.0
    assert result_gone(now - between, now, now - after) is gone
