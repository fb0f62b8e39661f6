"""The command that begins it all."""

import re
import signal
import socket

import pytest
from sse_starlette.sse import AppStatus

from ops.console import server
from ops.stack import Stack
from tests.ops.conftest import Run, run

__all__ = ["run"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was opened with; the server ends at once."""
    found: list[str] = []
    monkeypatch.setattr("webbrowser.open", found.append)
    monkeypatch.setattr(server, "_has_screen", lambda: True)
    monkeypatch.setattr(server.Server, "run", lambda self, sockets: found.append(sockets[0].getsockname()[0]))
    return found


def test_the_address_is_printed_and_opened(run: Run, opened: list[str]) -> None:
    printed = run("console").stdout.strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", printed)
    address, token = printed.split("?token=")
    # Everybody on this machine may read a browser's command line: what stands there is good once.
    assert re.fullmatch(re.escape(address) + r"\?code=[\w-]{43}", opened[0])
    assert token not in opened[0]
    assert opened[1:] == ["127.0.0.1"]


def test_nothing_is_opened_where_that_is_not_wanted(run: Run, opened: list[str]) -> None:
    first, second = (run("console", "--no-open").stdout for _ in range(2))
    assert opened == ["127.0.0.1"] * 2
    assert first.partition("token=")[2] != second.partition("token=")[2]


def test_a_port_that_is_taken_is_reported_in_one_line(run: Run, stack: Stack) -> None:

    with socket.create_server(("127.0.0.1", 0)) as taken:
        printed = run("console", "--no-open", "--port", str(taken.getsockname()[1]), code=1).stderr
    assert "Address already in use" in printed


def test_a_second_ctrl_c_leaves_the_orderly_end_alone(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AppStatus, "should_exit", False)  # sse-starlette's, for all servers of a process
    serving = server.Server(stack, "token", 1)
    for _ in range(2):
        serving.handle_exit(signal.SIGINT, None)
    assert serving.should_exit
    assert not serving.force_exit
