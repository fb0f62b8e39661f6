"""The official SDK runs against the emulator as it is; only its base URL and key are set, in the way it allows."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from segmind import InferenceFailed, InferenceTimeout, SegmindClient, SegmindError

from local.segmind.server import Emulator
from tests.support import HANGS

MODEL = "consistent-character-with-pose"


@pytest.fixture(scope="module")
def inputs(images: dict[str, str]) -> dict[str, str]:
    """The parameters of a job."""
    return {**images, "prompt": "the sdk at work"}


@pytest.fixture
def sdk(emulator: Emulator) -> Iterator[SegmindClient]:
    emulator.faults([])
    client = SegmindClient(api_key=emulator.api_key, base_url=f"{emulator.url}/v1")
    yield client
    client._client.close()


def test_run(sdk: SegmindClient, emulator: Emulator, inputs: dict[str, str]) -> None:
    result = sdk.run(MODEL, **inputs)
    assert result["status"] == "COMPLETED"
    assert result["output"].startswith(f"{emulator.url}/media/")


def test_the_key_from_the_environment(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, str]
) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", emulator.api_key)
    assert SegmindClient(base_url=f"{emulator.url}/v1").run(MODEL, **inputs)["error"] is None


def test_run_sync(sdk: SegmindClient, inputs: dict[str, str]) -> None:
    assert sdk.run_sync(MODEL, **inputs).content.startswith(b"\x89PNG")


def test_submit_and_wait(sdk: SegmindClient, emulator: Emulator, inputs: dict[str, str], clock: Any) -> None:
    emulator.faults([{"fault": "unknown-state", "seconds": 0.2}])
    job = sdk.submit_async(MODEL, **inputs)
    assert job.status()["status"] == "THROTTLED"
    clock.now += 0.2
    result = job.wait(timeout=HANGS, interval=0.05)
    assert result["output"]
    assert job.result() == result


def test_wait_gives_up(sdk: SegmindClient, emulator: Emulator, inputs: dict[str, str]) -> None:
    emulator.faults([{"fault": "unknown-state", "seconds": HANGS}])
    with pytest.raises(InferenceTimeout):
        sdk.submit_async(MODEL, **inputs).wait(timeout=0.1, interval=0.05)


def test_failed(sdk: SegmindClient, inputs: dict[str, str]) -> None:
    with pytest.raises(InferenceFailed) as caught:
        sdk.run(MODEL, **{**inputs, "prompt": "blocked-content"})
    assert "responsible AI" in (caught.value.detail or "")
    assert caught.value.status_body["status"] == "FAILED"


def test_wrong_key(emulator: Emulator, inputs: dict[str, str]) -> None:
    client = SegmindClient(api_key="SG_wrong", base_url=f"{emulator.url}/v1")
    with pytest.raises(SegmindError) as caught:
        client.run(MODEL, **inputs)
    assert caught.value.status == 401
    assert caught.value.detail


def test_unknown_id(sdk: SegmindClient, emulator: Emulator, inputs: dict[str, str]) -> None:
    job = sdk.submit_async(MODEL, **inputs)
    job.status_url = f"{emulator.url}/v2/requests/unknown/status"
    with pytest.raises(SegmindError) as caught:
        job.wait(timeout=HANGS)
    assert caught.value.status == 404


def test_bad_parameter(sdk: SegmindClient, inputs: dict[str, str]) -> None:
    with pytest.raises(SegmindError) as caught:
        sdk.run(MODEL, **inputs, samples=9)
    assert (caught.value.status, "samples" in (caught.value.detail or "")) == (400, True)


def test_without_request_id(sdk: SegmindClient, emulator: Emulator, inputs: dict[str, str]) -> None:
    emulator.faults([{"fault": "no-request-id"}])
    with pytest.raises(SegmindError, match="missing request_id"):
        sdk.submit_async(MODEL, **inputs)


def test_history(
    sdk: SegmindClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, str]
) -> None:
    # The SDK has no setting for the history's host: its constant is the only place for another.
    monkeypatch.setattr(
        importlib.import_module("segmind.generations"),
        "REQUEST_HISTORY_URL",
        f"{emulator.url}/inference-request/request-history",
    )
    request_id = sdk.run(MODEL, **inputs)["request_id"]
    page: dict[str, Any] = sdk.generations.history(per_page=5, model_name=MODEL, status="COMPLETED")
    assert page["generations"][0]["request_id"] == request_id
    one = sdk.generations.get(request_id)
    assert one == page["generations"][0]
    assert one["request_body"]["prompt"] == inputs["prompt"]
    with pytest.raises(SegmindError):
        sdk.generations.get("unknown")
