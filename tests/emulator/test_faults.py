"""Every fault, as a client meets it."""

import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from local.segmind.misbehaviour import padded_png
from tests.support import HANGS, until

STATUSES = ["401", "403", "404", "406", "429", "500", "502", "503", "504"]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_on_submit(emulator: Any, client: Any, status: str) -> None:
    before = len(emulator.requests())
    emulator.faults([{"fault": status, "on": "submit"}])
    response = client.send_job()
    assert response.status_code == int(status)
    assert response.headers["content-type"].startswith("text/html" if status == "502" else "application/json")
    assert "retry-after" not in response.headers
    assert len(emulator.requests()) - before == (1 if status == "504" else 0)


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "reset", "no-request-id"])
@pytest.mark.parametrize("accepted", [True, False])
def test_the_job_was_accepted_or_not(emulator: Any, client: Any, fault: str, accepted: bool) -> None:
    before = len(emulator.requests())
    emulator.faults([{"fault": fault, "on": "submit", "accepted": accepted}])
    if fault == "reset":
        with pytest.raises(httpx.ReadError):
            client.send_job()
    else:
        response = client.send_job()
        assert response.status_code == (200 if fault == "no-request-id" else int(fault))
        assert "request_id" not in response.text.replace("requests/", "")
    assert len(emulator.requests()) - before == accepted


def test_a_firewall_refuses_a_prompt_each_time(emulator: Any, client: Any) -> None:
    before = len(emulator.requests())
    emulator.faults([{"fault": "firewall", "on": "submit", "match": "DROP TABLE"}])
    for _ in range(3):
        response = client.send_job(prompt="a robot; DROP TABLE poses")
        assert (response.status_code, response.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "<h1>403 Forbidden</h1>" in response.text
        assert client.send_job(prompt="a robot").status_code == 200
    assert len(emulator.requests()) == before + 3


def test_a_job_that_is_always_answered_500(emulator: Any, client: Any) -> None:
    emulator.faults([{"fault": "500", "on": "submit", "match": "cursed"}])
    answers = [client.send_job(prompt=prompt).status_code for prompt in ("cursed", "sound") * 3]
    assert answers == [500, 200] * 3
    assert emulator.calls()["faults"] == [{"fault": "500", "struck": 3}]


def test_a_job_that_is_refused_anyway_is_not_accepted(emulator: Any, client: Any) -> None:
    emulator.faults([{"fault": "reset", "on": "submit"}])
    assert client.send_job(samples=9).status_code == 400


@pytest.mark.parametrize(("retry_after", "sent"), [(7, "7"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2, (0, "0")])
def test_a_429_with_retry_after(emulator: Any, client: Any, retry_after: object, sent: str) -> None:
    emulator.faults([{"fault": "429", "on": "submit", "retry_after": retry_after}])
    assert client.send_job().headers["retry-after"] == sent


def test_a_drawn_429_takes_no_place_in_the_window(start: Callable[..., Any]) -> None:
    _, client = start(rpm=1, faults=[{"fault": "429", "on": "submit", "nth": [1]}])
    assert [client.send_job().status_code for _ in range(3)] == [429, 200, 429]


@pytest.mark.parametrize("point", ["status", "result", "history", "media"])
@pytest.mark.parametrize("status", ["404", "429", "500", "502"])
def test_a_status_on_a_get(emulator: Any, client: Any, point: str, status: str) -> None:
    request_id = client.submitted()
    paths = {
        "status": f"/v2/requests/{request_id}/status",
        "result": f"/v2/requests/{request_id}",
        "history": f"/inference-request/request-history/{request_id}",
        "media": client.finished(request_id)["output"],
    }
    emulator.faults([{"fault": status, "on": point, "times": 1}])
    assert [client.get(paths[point]).status_code for _ in range(2)] == [int(status), 200]


def test_a_reset_on_a_get(emulator: Any, client: Any) -> None:
    request_id = client.submitted()
    emulator.faults([{"fault": "reset", "on": "status", "times": 1}])
    with pytest.raises(httpx.ReadError):
        client.status(request_id)
    assert client.status(request_id).status_code == 200
    call = next(call for call in emulator.calls()["calls"] if call["fault"] == "reset" and call["route"] == "status")
    assert call["status"] is None


def test_a_hang_outlasts_the_client(emulator: Any, client: Any) -> None:
    before = len(emulator.requests())
    emulator.faults([{"fault": "hang", "on": "submit", "seconds": 0.4}])
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v2/consistent-character-with-pose", json=_body(), timeout=httpx.Timeout(HANGS, read=0.1))
    until(lambda: len(emulator.requests()) == before + 1)
    assert client.send_job().json()["request_id"]
    emulator.faults([{"fault": "hang", "on": "submit", "seconds": 0.1, "accepted": False}])
    with pytest.raises(httpx.RemoteProtocolError):
        client.send_job()
    assert len(emulator.requests()) == before + 2


def _body() -> dict[str, str]:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
    return {"face_image": pixel, "pose_image": pixel, "prompt": "a dot"}


def test_refused_closes_the_listening_socket_for_a_while(emulator: Any, client: Any) -> None:
    request_id = client.submitted()
    emulator.faults([{"fault": "refused", "on": "status", "times": 1, "seconds": 2}])
    assert client.status(request_id).status_code == 200
    with pytest.raises(httpx.ConnectError):
        client.status(request_id)
    assert until(lambda: answer(client, f"/v2/requests/{request_id}/status")) == 200


def test_refused_does_not_wait_for_a_call(emulator: Any, public: httpx.Client) -> None:
    emulator.refuse(2)
    with pytest.raises(httpx.ConnectError):
        public.get(emulator.url)
    assert until(lambda: answer(public, emulator.url)) == 404


def answer(client: httpx.Client, url: str) -> int | None:
    """The status of an answer to a GET, or None if the connection is refused."""
    try:
        return client.get(url).status_code
    except httpx.ConnectError:
        return None


def test_foreign_urls(emulator: Any, client: Any) -> None:
    emulator.faults([{"fault": "foreign-urls", "url": "http://203.0.113.1/x"}])
    answer = client.send_job().json()
    assert answer["request_id"]
    assert {answer[name] for name in ("status_url", "response_url", "poll_url")} == {"http://203.0.113.1/x"}


@pytest.mark.parametrize(("fault", "text"), [("failed", "Inference failed"), ("blocked", "responsible AI")])
def test_jobs_that_fail(emulator: Any, client: Any, fault: str, text: str) -> None:
    emulator.faults([{"fault": fault, "match": "hit"}])
    bad = client.finished(client.submitted(prompt="hit me"))
    assert (bad["status"], text in bad["error"]) == ("FAILED", True)
    assert client.finished(client.submitted(prompt="spare me"))["status"] == "COMPLETED"


def test_a_job_that_is_forgotten(emulator: Any, client: Any, clock: Any) -> None:
    emulator.faults([{"fault": "expired", "nth": [1]}, {"fault": "expired", "nth": [2], "seconds": 0.3}])
    first, second = client.submitted(), client.submitted()
    assert (client.status(first).status_code, client.result(first).status_code) == (404, 404)
    assert client.status(second).status_code == 200
    clock.now += 0.3
    assert client.status(second).status_code == 404


def test_an_undocumented_state(emulator: Any, client: Any, clock: Any) -> None:
    emulator.faults([{"fault": "unknown-state", "seconds": 0.3, "state": "REVIEWING"}])
    request_id = client.submitted()
    answer = client.status(request_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "REVIEWING")
    clock.now += 0.3
    assert client.finished(request_id)["status"] == "COMPLETED"


def _png(text: str) -> bool:
    return base64.b64decode(text.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("shape", "samples", "right"),
    [
        ("string", 2, lambda output: output.endswith("/1.png")),
        ("list", 1, lambda output: output[0].endswith("/1.png")),
        ("json-list", 2, lambda output: json.loads(output)[1].endswith("/2.png")),
        ("json-object", 1, lambda output: json.loads(output)["url"].endswith("/1.png")),
        ("json-object", 2, lambda output: len(json.loads(output)["urls"]) == 2),
        ("objects", 2, lambda output: output[1]["url"].endswith("/2.png")),
        ("base64", 1, lambda output: not output.startswith("data:") and _png(output)),
        ("data-uri", 2, lambda output: output[1].startswith("data:image/png;base64,") and _png(output[1])),
        ("empty", 1, lambda output: output == ""),
        ("null", 1, lambda output: output is None),
        ("foreign", 1, lambda output: output == "http://169.254.169.254/x"),
    ],
)
def test_output_shapes(emulator: Any, client: Any, shape: str, samples: int, right: Callable[[Any], bool]) -> None:
    emulator.faults([{"fault": f"output-{shape}", "url": "http://169.254.169.254/x"}])
    assert right(client.output(samples=samples))


def test_an_output_that_is_missing(emulator: Any, client: Any) -> None:
    emulator.faults([{"fault": "output-missing"}])
    result = client.finished(client.submitted())
    assert result["status"] == "COMPLETED"
    assert "output" not in result


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_media_of_the_right_length_or_half(
    emulator: Any, client: Any, output_format: str, public: httpx.Client
) -> None:
    url = client.output(output_format=output_format)
    whole = public.get(url).content
    emulator.faults([{"fault": "broken", "times": 1}, {"fault": "truncated", "times": 1}])
    broken, truncated = public.get(url).content, public.get(url).content
    assert (len(broken), broken[:12]) == (len(whole), whole[:12])
    assert broken != whole
    assert truncated == whole[: len(whole) // 2]
    assert public.get(url).content == whole


def test_media_that_is_cut_off(emulator: Any, client: Any, public: httpx.Client) -> None:
    url = client.output()
    emulator.faults([{"fault": "cut"}])
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        public.get(url)


def test_media_that_comes_packed(emulator: Any, client: Any, public: httpx.Client) -> None:
    url = client.output()
    whole = public.get(url).content
    emulator.faults([{"fault": "packed"}])
    response = public.get(url, headers={"accept-encoding": "identity"})
    assert (response.headers["content-encoding"], response.content) == ("gzip", whole)


def test_images_without_an_output(emulator: Any, client: Any) -> None:
    emulator.faults([{"fault": "output-images"}])
    result = client.finished(client.submitted(samples=2))
    assert "output" not in result
    assert [url.rpartition("/")[2] for url in result["images"]] == ["1.png", "2.png"]


def test_media_that_drips(emulator: Any, client: Any, public: httpx.Client) -> None:
    url = client.output()
    whole = public.get(url).content
    emulator.faults([{"fault": "slow", "seconds": 0.4}])
    started = time.monotonic()
    assert public.get(url).content == whole
    assert time.monotonic() - started >= 0.4


def test_media_of_another_kind(emulator: Any, client: Any, public: httpx.Client) -> None:
    url = client.output()
    emulator.faults(
        [
            {"fault": "wrong-type", "nth": [1]},
            {"fault": "empty", "nth": [2]},
            {"fault": "redirect", "nth": [3], "url": "http://10.0.0.1/"},
        ]
    )
    html, empty, redirect = (public.get(url) for _ in range(3))
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (empty.status_code, empty.content) == (200, b"")
    assert (redirect.status_code, redirect.headers["location"]) == (302, "http://10.0.0.1/")


def test_huge_media_is_a_valid_picture(emulator: Any, client: Any, public: httpx.Client) -> None:
    url = client.output(output_format="jpeg")
    emulator.faults([{"fault": "huge", "bytes": 5_000_001}])
    response = public.get(url)
    assert (response.headers["content-type"], len(response.content)) == ("image/png", 5_000_001)
    picture = Image.open(io.BytesIO(response.content))
    picture.verify()
    assert picture.size == (96, 96)


@pytest.mark.parametrize("extra", [12, 13, 262_156, 262_157, 262_167, 262_168, 262_180, 600_000])
def test_padding_fits_to_the_byte(extra: int) -> None:
    image = base64.b64decode(_body()["face_image"])
    padded = b"".join(padded_png(image, len(image) + extra))
    assert len(padded) == len(image) + extra
    at, names = 8, []
    while at < len(padded):
        length = int.from_bytes(padded[at : at + 4])
        names.append(padded[at + 4 : at + 8])
        at += 12 + length
    assert (at, names[0], names[-1]) == (len(padded), b"IHDR", b"IEND")
