"""What the emulator's tests share: two small images, a client, and a server that images can be fetched from."""

import base64
import functools
import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image

from local.segmind import control, history, provider
from local.segmind.server import Emulator
from tests.support import HANGS

SAMPLES = Path(__file__).parents[2] / "local" / "samples"
SIDE = 96
MODEL = "/v2/consistent-character-with-pose"


def small(name: str) -> str:
    """A sample photograph, made small, as base64."""
    buffer = io.BytesIO()
    Image.open(SAMPLES / name).convert("RGB").resize((SIDE, SIDE)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


IMAGES = {"face_image": small("face-astronaut.png"), "pose_image": small("pose-cameraman.png")}


class Client(httpx.Client):
    """The provider's calls, as a user makes them; each emulator of a test gets one."""

    def __init__(self, emulator: Emulator) -> None:
        # Without verify=False each client loads all certificates, which takes longer than most tests.
        super().__init__(base_url=emulator.url, headers={"x-api-key": emulator.api_key}, timeout=HANGS, verify=False)

    def send_job(self, **parameters: object) -> httpx.Response:
        """Submit a job with small images; parameters of None are left out."""
        body = {**IMAGES, "prompt": "a test", **parameters}
        return self.post(MODEL, json={name: value for name, value in body.items() if value is not None})

    def submitted(self, **parameters: object) -> str:
        """Submit a job and return its id."""
        response = self.send_job(**parameters)
        assert response.status_code == 200, response.text
        request_id: str = response.json()["request_id"]
        return request_id

    def status(self, request_id: str) -> httpx.Response:
        return self.get(f"/v2/requests/{request_id}/status")

    def result(self, request_id: str) -> httpx.Response:
        return self.get(f"/v2/requests/{request_id}")

    def finished(self, request_id: str) -> dict[str, Any]:
        """Wait for a job's end and return its result."""
        end = time.monotonic() + HANGS
        while time.monotonic() < end:
            if self.status(request_id).json()["status"] in ("COMPLETED", "FAILED"):
                result: dict[str, Any] = self.result(request_id).json()
                return result
            time.sleep(0.01)
        raise AssertionError("the job does not end")

    def output(self, **parameters: object) -> Any:
        """Run a job and return its output."""
        return self.finished(self.submitted(**parameters))["output"]


class Clock:
    """The emulator's clock, which only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all emulators that are started, and of the shared one, for the test's time."""
    found = Clock()
    for module in (provider, control, history):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=found))
    return found


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Emulator, Client]]]:
    """Start an emulator with settings and faults of the test's own."""
    running: list[tuple[Emulator, Client]] = []

    def starter(**settings: Any) -> tuple[Emulator, Client]:
        emulator = Emulator(**{"latency": 0, **settings})
        emulator.__enter__()
        running.append((emulator, Client(emulator)))
        return running[-1]

    yield starter
    for emulator, client in running:
        client.close()
        emulator.__exit__()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator that the tests of a module share; its jobs end at once."""
    with Emulator(latency=0) as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    """A client of the shared emulator, which starts without faults."""
    emulator.faults([])
    with Client(emulator) as made:
        yield made


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL under which the sample photographs can be fetched, beside a text file."""
    directory = tmp_path_factory.mktemp("pictures")
    for name in ("face-astronaut.png", "pose-cameraman.png"):
        (directory / name).write_bytes((SAMPLES / name).read_bytes())
    (directory / "text.png").write_text("no picture")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(directory))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def public() -> Iterator[httpx.Client]:
    """A client that has no key."""
    with httpx.Client(timeout=HANGS, verify=False) as made:
        yield made


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The two images, small, as base64."""
    return dict(IMAGES)
