"""Every form of output of a completed job, and any other JSON value."""

import base64
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.segmind.model import MAX_IMAGES
from posedrop.segmind.outputs import (
    MAX_INLINE_CHARACTERS,
    BadOutput,
    InlineSource,
    Source,
    UrlSource,
    parse_output,
)

A = "https://images.segmind.com/a.png?sig=1"
B = "http://127.0.0.1:9000/b.png"
C, D, E = (f"https://images.segmind.com/{name}.png" for name in "cde")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TEXT = base64.b64encode(PNG).decode()
DATA = InlineSource(PNG)
JPEG = b"\xff\xd8\xff" + bytes(range(9))
OTHER_TEXT = base64.b64encode(JPEG).decode()
OTHER = InlineSource(JPEG)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([A, B, TEXT, "data:,", "[", '["x"]', json.dumps({"url": A})]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "image", "output", "b64_json", "seed"]), inner, max_size=4)
        | inner.map(json.dumps)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("output", "sources"),
    [
        (A, [UrlSource(A)]),
        (f" {A}\n", [UrlSource(A)]),
        ("HTTPS://Images.example/A.PNG", [UrlSource("HTTPS://Images.example/A.PNG")]),
        ([A, B], [UrlSource(A), UrlSource(B)]),
        ([A] * 4, [UrlSource(A)]),
        ([A, B, A, B], [UrlSource(A), UrlSource(B)]),
        ([[A], [B]], [UrlSource(A), UrlSource(B)]),
        ([A, None, ""], [UrlSource(A)]),
        (json.dumps([A, B]), [UrlSource(A), UrlSource(B)]),
        (json.dumps({"url": A}), [UrlSource(A)]),
        (json.dumps(A), [UrlSource(A)]),
        (json.dumps(json.dumps([A])), [UrlSource(A)]),
        ({"url": A}, [UrlSource(A)]),
        ([{"url": A}, {"url": B}], [UrlSource(A), UrlSource(B)]),
        ({"output": A}, [UrlSource(A)]),
        ({"output": {"images": [{"url": A, "width": 1024}]}, "seed": 5}, [UrlSource(A)]),
        ({"images": [A, B]}, [UrlSource(A), UrlSource(B)]),
        ({"image": {"url": A}}, [UrlSource(A)]),
        ({"image": A, "url": B, "content_type": "image/png"}, [UrlSource(A), UrlSource(B)]),
        ({"image": A, "url": None}, [UrlSource(A)]),
        ({"first": A, "second": {"url": B}, "type": "imag", "seed": 7}, [UrlSource(A), UrlSource(B)]),
        (TEXT, [DATA]),
        ("data:image/png;base64," + TEXT, [DATA]),
        ("DATA:image/png;charset=x;BASE64," + TEXT, [DATA]),
        (base64.encodebytes(PNG).decode(), [DATA]),
        ([TEXT, A], [DATA, UrlSource(A)]),
        ({"b64_json": TEXT}, [DATA]),
        ({"image": "data:image/png;base64," + TEXT}, [DATA]),
        (json.dumps([TEXT]), [DATA]),
        ([TEXT, "data:image/png;base64," + TEXT, base64.encodebytes(PNG).decode()], [DATA]),
        ([OTHER_TEXT, TEXT, OTHER_TEXT], [OTHER, DATA]),
        ({"first": TEXT, "second": "data:image/jpeg;base64," + OTHER_TEXT, "id": "okay"}, [DATA, OTHER]),
    ],
)
def test_shapes(output: object, sources: list[Source]) -> None:
    assert parse_output(output) == sources


ABCD = [A, B, C, D]


@pytest.mark.parametrize(
    ("output", "sources"),
    [
        ({"images": ABCD, "image_url": A}, ABCD),
        ({"image_url": A, "images": ABCD}, ABCD),
        ({"image_url": C, "images": ABCD}, ABCD),
        ({"images": ABCD, "image_url": B, "url": A, "image": {"url": D}}, ABCD),
        ({"url": A, "urls": ABCD}, ABCD),
        ({"urls": ABCD, "url": D}, ABCD),
        ({"urls": ABCD, "images": ABCD}, ABCD),
        ({"images": [A, B], "urls": [C, D]}, ABCD),
        ({"images": [A, B], "urls": [B, C]}, [A, B, C]),
        ({"image": A, "images": [B, C]}, [A, B, C]),
        ({"images": [A, B], "image": C}, [A, B, C]),
        ({"images": [], "image_url": A}, [A]),
        ({"images": [None], "image_url": A}, [A]),
        ({"output": A, "images": [A, B]}, [A, B]),
        ({"output": {"images": [{"url": A}, {"url": B}], "image_url": A}, "image": A}, [A, B]),
        ({"images": [{"url": A, "image_url": A}, {"url": B, "image_url": B}]}, [A, B]),
        ({"images": json.dumps(ABCD), "image_url": A}, ABCD),
        (json.dumps({"images": ABCD, "image_url": A}), ABCD),
        ([json.dumps({"url": A}), json.dumps({"url": B})], [A, B]),
        ([{"images": [A, B], "image_url": A}, {"images": [C, D], "image_url": C}], ABCD),
        ({"data": {"urls": [A, B], "url": B}, "result": [C]}, [A, B, C]),
        # What stands beside an image and is none.
        ({"images": [A, B], "result": "ok"}, [A, B]),
        ({"image_url": A, "output": "done", "result": "success!"}, [A]),
        ({"url": A, "data": {"seed": 5, "caption": "x"}}, [A]),
        ({"images": [A], "data": 5, "results": True}, [A]),
        ({"images": [A], "data": "[no JSON"}, [A]),
        # Base64 under a name of its own is the same image once more.
        ({"url": A, "b64_json": TEXT}, [A]),
        ([{"url": A, "b64_json": TEXT}, {"url": B, "b64_json": OTHER_TEXT}], [A, B]),
        ({"b64_json": TEXT, "output": "not an image!"}, [DATA]),
        ({"images": [TEXT, OTHER_TEXT], "image": TEXT}, [DATA, OTHER]),
        ({"images": [TEXT, OTHER_TEXT], "image": OTHER_TEXT, "result": "okay"}, [DATA, OTHER]),
        # Under another name it may be another image: where it is fetched it is seen whether it is.
        ({"image": TEXT, "url": A}, [A, DATA]),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_every_image_once_in_the_providers_order(output: object, sources: list[str | Source]) -> None:
    assert parse_output(output) == [UrlSource(found) if isinstance(found, str) else found for found in sources]


@pytest.mark.parametrize("members", list(itertools.permutations(["images", "image_url", "url", "output"])))
def test_the_order_of_the_keys_changes_nothing(members: tuple[str, ...]) -> None:
    values: dict[str, object] = {"images": ABCD, "image_url": C, "url": A, "output": {"urls": [A, B]}}
    assert parse_output({key: values[key] for key in members}) == [UrlSource(url) for url in ABCD]


@pytest.mark.parametrize(
    "output",
    [
        [*ABCD, E],
        [*ABCD, E, "no image"],
        {"images": [*ABCD, E]},
        {"images": ABCD, "url": E},
        [[url] for url in [*ABCD, E]],
        json.dumps([{"url": url} for url in [*ABCD, E]]),
        [*ABCD, E] + [f"https://images.segmind.com/{n}" for n in range(10_000)],
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_a_fifth_says_that_there_are_more(output: object) -> None:
    assert parse_output(output) == [UrlSource(url) for url in [*ABCD, E]]


@pytest.mark.parametrize(
    "output",
    [
        ABCD,
        [*ABCD, *ABCD],
        {"images": ABCD, "url": A},
        # What cannot be read beyond the four costs none of them.
        [*ABCD, "no image"],
        [*ABCD, 5],
        {"images": [*ABCD, "no image"], "image_url": A},
        [*ABCD, "A" * (MAX_INLINE_CHARACTERS + 4)],
        [*ABCD, "https://host/a b.png"],
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_four_are_all_that_is_expected(output: object) -> None:
    assert parse_output(output) == [UrlSource(url) for url in ABCD]
    assert len(ABCD) == MAX_IMAGES


def test_sixteen_in_base64_are_the_first_and_one_more() -> None:
    images = [PNG + bytes([n]) for n in range(16)]
    texts = [base64.b64encode(data).decode() for data in images]
    assert parse_output({"images": texts}) == [InlineSource(data) for data in images[: MAX_IMAGES + 1]]


def deep(depth: int) -> object:
    value: object = A
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (None, "missing or empty"),
        ("", "missing or empty"),
        ("  ", "neither a URL nor image data"),
        ([], "missing or empty"),
        ({}, "missing or empty"),
        ("null", "neither a URL nor image data"),
        ([None, ""], "neither a URL nor image data"),
        ({"seed": 5, "caption": "hello"}, "neither a URL nor image data"),
        (5, "a number"),
        (True, "a boolean"),
        ([A, 5.5], "a number"),
        (float("nan"), "a number"),
        ({"url": 5}, "a number"),
        ("no image was made", '"no image was made", neither a URL nor valid base64'),
        ("ftp://host/a.png?secret=1", r'"ftp://host/a.png\?\.\.\.", neither'),
        ("s3://bucket/key", '"s3://bucket/key", neither'),
        (TEXT[:-1], "351 characters of text, neither"),
        (TEXT[:80] + "!" + TEXT[80:], "characters of text, neither"),
        ("data:image/png," + TEXT, "not base64"),
        ("data:image/png;base64", "not base64"),
        ("data:image/png;base64,", "without data"),
        ("data:image/png;base64,?", "neither"),
        ("[" + A, "looks like JSON"),
        ("[" * 10_000 + "]" * 10_000, "(looks like JSON|nested too deeply)"),
        ('{"a":' * 10_000, "looks like JSON"),
        ("[" + "9" * 5000 + "]", "a number"),
        (deep(50), "nested too deeply"),
        ("https://", "without a host"),
        ("https://host/a b.png", "spaces"),
        ("https://host/\x00", "control characters"),
        ("https://host/\ud800", "control characters"),
        ("https://host/" + "a" * 9000, "a URL of 9013 characters"),
        ([A, B, C, "no image"], '"no image", neither'),
        ({"image": "no image", "images": [5]}, '"no image", neither'),
        ("A" * (MAX_INLINE_CHARACTERS + 4), "more than 32 MiB"),
        ([letter * (MAX_INLINE_CHARACTERS // 2) for letter in "AB"] + ["AAAA"], "more than 32 MiB"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refused_with_a_reason(output: object, reason: str) -> None:
    with pytest.raises(BadOutput, match=reason) as caught:
        parse_output(output)
    assert len(str(caught.value)) < 160


def test_32_mib_of_base64_are_accepted() -> None:
    (source,) = parse_output("A" * MAX_INLINE_CHARACTERS)
    assert isinstance(source, InlineSource)
    assert len(source.data) == MAX_INLINE_CHARACTERS // 4 * 3


@pytest.mark.parametrize("tail", ["!", "=AAA", "\u00e4", "?token=5ecre7", "\x00"])
def test_messages_hold_no_image_and_no_query(tail: str) -> None:
    for output in (TEXT + tail, "data:image/png;base64," + TEXT + tail, f"gs://bucket/x?token=5ecre7 {tail}"):
        with pytest.raises(BadOutput) as caught:
            parse_output(output)
        assert TEXT[:24] not in str(caught.value)
        assert "5ecre7" not in str(caught.value)


@given(JSON_VALUES)
def test_any_json_gives_sources_or_bad_output(output: object) -> None:
    try:
        sources = parse_output(output)
    except BadOutput as error:
        message = str(error)
        assert len(message.encode()) < 200
        assert not any(ord(character) < 32 for character in message)
        return
    assert 1 <= len(sources) == len(set(sources)) <= MAX_IMAGES + 1
    assert all(source.data if isinstance(source, InlineSource) else source.url for source in sources)


@given(st.binary(min_size=1))
def test_base64_is_decoded(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert parse_output({"image": [text]}) == [InlineSource(data)] or text == "null"
