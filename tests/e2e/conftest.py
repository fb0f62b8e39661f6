"""The deployed stack for all end-to-end tests of a run, and what they do with it."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from local.pipeline import Inbox, drop, records, wait_for
from local.stack import LocalStack
from ops.cli import commands as cli
from tests.e2e import early
from tests.e2e.leaks import check_logs, check_stores
from tests.support import HANGS

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "local" / "samples"

Record = dict[str, Any]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStack, Inbox]]:
    """The stack and its subscriber, who must be there before the first upload."""
    parameters: dict[str, str | int] = {
        "SettleSeconds": 1,
        "ResultLinkSeconds": 600,
        "CorsOrigins": "http://localhost:*",
        "SegmindRequestsPerMinute": 600,  # jobs wait for the limit in test_operations.py and test_console.py
    }
    with LocalStack(
        tmp_path_factory.mktemp("stack"),
        parameters=parameters,
        emulator=["--latency", "1"],
        environment={"LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1"},
    ) as running:
        running.set_visibility(70)
        yield running, Inbox(running)
        check_logs(running)  # of the whole run
        check_stores(running)


@pytest.fixture(scope="session")
def stack(started: tuple[LocalStack, Inbox]) -> LocalStack:
    """The template on the local stack, quick enough for tests, in front of an emulator that takes one second."""
    return started[0]


@pytest.fixture(scope="session")
def inbox(started: tuple[LocalStack, Inbox]) -> Inbox:
    """A subscriber of the notification topic."""
    return started[1]


@pytest.fixture(scope="session")
def early_uploads(started: tuple[LocalStack, Inbox]) -> None:
    """Upload what takes two minutes (tests/e2e/early.py)."""
    for key, data in early.uploads().items():
        drop(started[0], key, data)


@pytest.fixture(autouse=True)
def begin_early(request: pytest.FixtureRequest) -> None:
    """Upload that before the first test of the stack."""
    if "started" in request.fixturenames:
        request.getfixturevalue("early_uploads")


def upload_folder(stack: LocalStack, character: str, files: dict[str, bytes | Path]) -> None:
    """Upload a character's folder: `{"face.png": path or bytes, "poses/walk.png": ...}`."""
    for name, body in files.items():
        drop(stack, f"incoming/{character}/{name}", body)


def ops(stack: LocalStack, *words: str, code: int = 0) -> Any:
    """Run an operator's command in this process, and return its JSON. `code` is the exit code that is expected."""
    argv = [*words, "--json", "--stack", str(stack.state_file)]
    done = CliRunner(mix_stderr=False).invoke(cli.main, argv)
    assert done.exit_code == code, f"{done.stdout}\n{done.stderr}\n{done.exception!r}"
    return json.loads(done.stdout)


@pytest.fixture
def upload(stack: LocalStack) -> Callable[[str, dict[str, bytes | Path]], None]:
    """Upload a character's folder: `upload("hero", files)`."""
    return partial(upload_folder, stack)


@pytest.fixture
def wait_for_record(stack: LocalStack) -> Callable[[str, str, str], Record]:
    """Wait until a pose has a record of a status: `wait_for_record("hero", "walk", "SUCCEEDED")`."""

    def wait(character: str, pose: str, status: str) -> Record:
        def read() -> Record | None:
            found = (record for record in records(stack, character) if record["pose"] == pose)
            return next((record for record in found if record["status"] == status), None)

        return wait_for(read, f"{status} of {character}/{pose}", HANGS)

    return wait


@pytest.fixture
def wait_for_notification(inbox: Inbox) -> Callable[[str], Record]:
    """Wait for the notification of a job id: `wait_for_notification(record["job_id"])`."""

    def wait(job_id: str) -> Record:
        return wait_for(
            lambda: next((message for message in inbox.receive() if message["job_id"] == job_id), None),
            f"the notification of {job_id}",
            HANGS,
        )

    return wait
