"""Any bytes, status and headers as the provider's response make a result, or an error of the tree."""

import json
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posedrop.contract.container import BadImage
from posedrop.contract.errors import NotAccepted, Rejected, ServerFault, StatusUnavailable, SubmitOutcomeUnknown
from posedrop.contract.images import ImageInfo, check
from posedrop.segmind.client import Segmind, Timeouts
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.outputs import BadOutput, InlineSource, UrlSource, parse_output
from posedrop.segmind.responses import ProviderResponse
from tests.support import image

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["COMPLETED", "FAILED", "QUEUED", "https://images.test/1.png", "data:image/png;base64,AAAA", "[", ""]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.sampled_from(["url", "image", "message"])), inner, max_size=4
        ),
        inner.map(lambda value: json.dumps(value)),
    ),
    max_leaves=15,
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["request_id", "status", "error", "message", "detail", "metrics", "output"]), values, max_size=7
    ).map(lambda value: json.dumps(value).encode()),
)
statuses = st.one_of(st.integers(100, 599), st.sampled_from([200, 400, 401, 404, 422, 429, 500, 502, 504]))
headers = st.dictionaries(
    st.sampled_from(["retry-after", "content-type", "location", "content-encoding"]),
    st.one_of(
        st.sampled_from(
            ["1", "1e9", "nan", "-1", "soon", "gzip", "text/html", "http://xn--a/", "//[", "https://evil.test/"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    ),
    max_size=3,
)


def client(status: int, sent: dict[str, str], body: bytes) -> Segmind:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=sent, stream=httpx.ByteStream(body))

    return Segmind(
        "https://api.segmind.com", lambda: "SG_0123456789abcdef", CONSISTENT_CHARACTER, httpx.MockTransport(answer)
    )


@given(statuses, headers, bodies)
@example(302, {"location": "http://xn--a/"}, b"")
@example(200, {"content-encoding": "gzip"}, b"no gzip")
@example(200, {}, b'{"request_id": "' + b"x" * 10_000 + b'"}')
@example(200, {}, b"[" * 50_000)
@settings(max_examples=200)
def test_a_submit(status: int, sent: dict[str, str], body: bytes) -> None:
    try:
        request_id = client(status, sent, body).submit({"prompt": "x"}, Timeouts.within(1))
    except (Rejected, NotAccepted, ServerFault, SubmitOutcomeUnknown) as exc:
        error = exc
    else:
        assert 200 <= status < 300
        assert json.loads(body)["request_id"] == request_id
        assert 0 < len(request_id) <= 128
        return
    # Sent again without a look is only what the provider said it did not accept.
    assert not isinstance(error, NotAccepted) or status in (401, 403, 404, 406, 429)
    assert not isinstance(error, ServerFault) or status in (500, 502, 503)
    assert len(str(error).encode()) <= 1200
    assert "SG_0123456789abcdef" not in str(error)


@given(statuses, headers, bodies)
@example(302, {"location": "http://xn--a/"}, b"")
@settings(max_examples=200)
def test_a_status_and_a_result(status: int, sent: dict[str, str], body: bytes) -> None:
    for call in ("status", "result"):
        try:
            answer: ProviderResponse = getattr(client(status, sent, body), call)("id")
        except StatusUnavailable:
            continue
        assert answer.state
        check_output(answer.output)


@given(values)
@settings(max_examples=200)
def test_an_output(output: object) -> None:
    check_output(output)


def check_output(output: object) -> None:
    try:
        sources: list[Any] = parse_output(output)
    except BadOutput:
        return
    assert 1 <= len(sources) == len(set(sources)) <= 5
    assert all(isinstance(source, UrlSource | InlineSource) for source in sources)


WHOLE = {kind: image(kind) for kind in ("png", "jpeg", "webp")}


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(max_examples=150)
def test_an_image_with_wrong_bytes(kind: str, data: st.DataObject) -> None:
    body = bytearray(WHOLE[kind])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=6)):
        body[place] = value
    end = data.draw(st.integers(0, len(body)))
    try:
        info = check(bytes(body[:end]))
    except BadImage:
        return
    assert isinstance(info, ImageInfo)
    assert info.width > 0 < info.height
