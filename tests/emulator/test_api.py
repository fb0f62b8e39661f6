"""The provider's API, as its page and its documentation describe it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

MODEL = "/v2/consistent-character-with-pose"


def test_submit_answers_with_the_id_and_its_urls(emulator: Any, client: Any) -> None:
    answer = client.send_job().json()
    request_id = answer["request_id"]
    assert answer == {
        "request_id": request_id,
        "status": "QUEUED",
        "poll_url": f"{emulator.url}/v1/requests/{request_id}",
        "status_url": f"{emulator.url}/v2/requests/{request_id}/status",
        "response_url": f"{emulator.url}/v2/requests/{request_id}",
    }


def test_states_follow_each_other_and_the_responses_grow(start: Callable[..., Any], clock: Any) -> None:
    _, client = start(latency=1.0)
    request_id = client.submitted()
    running = client.status(request_id).json()
    assert running["status"] == "QUEUED"
    assert running["metrics"] == {}
    assert set(running) == {"status", "request_id", "metrics", "status_url", "response_url"}
    clock.now += 0.3
    assert client.status(request_id).json()["status"] == "PROCESSING"
    assert "output" not in client.result(request_id).json()
    clock.now += 0.7
    result = client.finished(request_id)
    assert result["status"] == "COMPLETED"
    assert result["error"] is None
    assert result["metrics"]["inference_time"] == pytest.approx(1.0)
    done = client.status(request_id).json()
    assert set(done) == {"status", "request_id", "metrics"}
    assert client.get(f"/v1/requests/{request_id}").json() == result


def test_output_is_a_public_link(emulator: Any, client: Any, public: httpx.Client) -> None:
    output = client.output()
    assert output.startswith(f"{emulator.url}/media/")
    image = public.get(output)
    assert image.headers["content-type"] == "image/png"
    assert image.content.startswith(b"\x89PNG")


def test_several_samples_are_a_list_and_base64_is_text(client: Any) -> None:
    assert len(client.output(samples=3)) == 3
    assert client.output(base_64=True).startswith("iVBORw0KGgo")
    assert [text[:8] for text in client.output(base_64=True, samples=2)] == ["iVBORw0K"] * 2


def test_blocking_form_answers_with_the_image(client: Any, images: dict[str, str]) -> None:
    body = {**images, "prompt": "now"}
    response = client.post("/v1/consistent-character-with-pose", json={**body, "output_format": "jpeg"})
    assert response.headers["content-type"] == "image/jpeg"
    assert response.content.startswith(b"\xff\xd8")
    blocked = client.post("/v1/consistent-character-with-pose", json={**body, "prompt": "blocked-content"})
    assert blocked.status_code == 422


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": None}, "prompt"),
        ({"face_image": None}, "face_image"),
        ({"pose_image": "not base64!"}, "pose_image"),
        ({"pose_image": 7}, "pose_image"),
        ({"face_image": "http://"}, "face_image"),
        ({"prompt": " "}, "prompt"),
        ({"base_64": "yes"}, "base_64"),
        ({"custom_width": 10}, "custom_width"),
        ({"custom_height": 4097}, "custom_height"),
        ({"output_format": "gif"}, "output_format"),
        ({"quality": 9}, "quality"),
        ({"samples": 5}, "samples"),
        ({"samples": True}, "samples"),
        ({"seed": 1.5}, "seed"),
        ({"use_input_img_dimension": 1}, "use_input_img_dimension"),
        ({"smaples": 2}, "smaples"),
    ],
)
def test_a_bad_parameter_is_a_400_that_names_it(client: Any, changes: dict[str, object], named: str) -> None:
    response = client.send_job(**changes)
    assert response.status_code == 400
    assert named in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_400(client: Any, body: bytes) -> None:
    assert client.post(MODEL, content=body).status_code == 400


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "SG_wrong"}, {"authorization": "Bearer SG_0123456789abcdef"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", MODEL),
        ("GET", "/v2/requests/x/status"),
        ("GET", "/v2/requests/x"),
        ("GET", "/v1/requests/x"),
        ("GET", "/inference-request/request-history"),
    ],
)
def test_without_the_right_key_a_401(
    emulator: Any, headers: dict[str, str], method: str, path: str, public: httpx.Client
) -> None:
    response = public.request(method, emulator.url + path, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/another-model"),
        ("GET", "/v2/requests/unknown"),
        ("GET", "/v2/requests/unknown/status"),
        ("GET", "/"),
    ],
)
def test_what_does_not_exist_is_a_404(client: Any, method: str, path: str) -> None:
    response = client.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == 404
    assert response.json()["error"]


def test_images_are_fetched_from_their_urls(emulator: Any, client: Any, pictures: str) -> None:
    urls = {
        "face_image": f"{pictures}/face-astronaut.png?X-Signature=secret",
        "pose_image": f"{pictures}/pose-cameraman.png",
    }
    request_id = client.submitted(**urls, prompt="by url")
    assert client.finished(request_id)["status"] == "COMPLETED"
    entry = emulator.requests()[-1]
    face = entry["parameters"]["face_image"]
    assert entry["request_id"] == request_id
    assert entry["prompt"] == "by url"
    assert (face["kind"], face["path"], len(face["sha256"])) == ("url", "/face-astronaut.png", 64)
    assert "secret" not in str(emulator.requests())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"face_image": "/missing.png"}, "face_image could not be fetched: 127.0.0.1 answered 404"),
        ({"pose_image": "/text.png"}, "pose_image is not an image"),
        ({"pose_image": "aGVsbG8="}, "pose_image is not an image"),
        ({"face_image": "http://127.0.0.1:1/a.png?sig=secret"}, "face_image could not be fetched from 127.0.0.1"),
    ],
)
def test_an_image_that_cannot_be_had_fails_the_job(
    client: Any, pictures: str, changes: dict[str, str], reason: str
) -> None:
    urls = {name: pictures + value if value.startswith("/") else value for name, value in changes.items()}
    request_id = client.submitted(**urls)
    result = client.finished(request_id)
    assert result["status"] == "FAILED"
    assert result["error"].startswith(reason)
    assert "secret" not in result["error"]


def test_a_failed_job_is_a_422_on_both_gets(client: Any) -> None:
    request_id = client.submitted(prompt="some blocked-content here")
    result = client.finished(request_id)
    assert "responsible AI" in result["error"]
    assert "output" not in result
    for response in (client.status(request_id), client.result(request_id)):
        assert response.status_code == 422
        assert response.json()["status"] == "FAILED"
        assert response.json()["metrics"]["inference_time"] >= 0


def test_results_are_kept_for_a_time_after_submission(start: Callable[..., Any], clock: Any) -> None:
    _, client = start(latency=0.3, retention=0.6)
    request_id = client.submitted()
    clock.now += 0.5
    assert client.finished(request_id)["status"] == "COMPLETED"
    clock.now += 0.1
    assert client.status(request_id).status_code == 404
    assert client.result(request_id).status_code == 404
    assert client.get(f"/inference-request/request-history/{request_id}").json()["model_status"] == "COMPLETED"


def test_history_is_paged_newest_first(start: Callable[..., Any], pictures: str) -> None:
    _, client = start()
    signed = f"{pictures}/face-astronaut.png?response-content-disposition=job-7"
    ids = [client.submitted(face_image=signed, samples=samples) for samples in (1, 2)]
    ids.append(client.submitted(prompt="blocked-content"))
    for request_id in ids:
        client.finished(request_id)
    page = client.get("/inference-request/request-history", params={"per_page": 3}).json()
    assert [row["request_id"] for row in page["generations"]] == [ids[2], ids[1], ids[1]]
    assert (page["total"], page["total_pages"]) == (4, 2)
    last = client.get("/inference-request/request-history", params={"page": 2, "page_size": 3}).json()
    row = last["generations"][0]
    assert row["request_body"]["face_image"] == signed
    assert row["generation_url"].endswith("/1.png")
    assert (row["model_status"], row["credits_deduction"], row["error"]) == ("COMPLETED", 0.0294, None)
    failed = client.get("/inference-request/request-history", params={"status": "FAILED"}).json()["generations"]
    assert [(row["request_id"], row["generation_url"]) for row in failed] == [(ids[2], None)]
    assert client.get("/inference-request/request-history", params={"page": "x"}).status_code == 400
    assert client.get("/inference-request/request-history/unknown").status_code == 404


def test_history_shows_what_is_pending(start: Callable[..., Any]) -> None:
    _, client = start(latency=60)
    request_id = client.submitted()
    row = client.get(f"/inference-request/request-history/{request_id}").json()
    assert (row["model_status"], row["latency_ms"], row["model_name"]) == ("PENDING", None, MODEL[4:])


def test_a_key_that_reaches_the_media_is_counted(start: Callable[..., Any], public: httpx.Client) -> None:
    emulator, client = start()
    output = client.output()
    public.get(output)
    assert emulator.calls()["key_leaks"] == 0
    client.get(output)
    public.get(output, headers={"authorization": f"Bearer {emulator.api_key}"})
    public.get(output, params={"key": emulator.api_key})
    assert emulator.calls()["key_leaks"] == 3
