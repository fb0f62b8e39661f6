"""The terminal of the tests itself."""

import os
import sys
from typing import Any

import pexpect.pty_spawn
import pytest

from tests.terminal import Terminal


def test_what_a_program_writes_just_before_its_end_is_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    select = pexpect.pty_spawn.select_ignore_interrupts

    def times_out_as_the_program_ends(*arguments: Any) -> Any:
        if not arguments[-1]:
            return select(*arguments)
        os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOWAIT)
        return [], [], []

    with Terminal([sys.executable, "-c", "print('the last words')"], 80) as terminal:
        monkeypatch.setattr(pexpect.pty_spawn, "select_ignore_interrupts", times_out_as_the_program_ends)
        assert terminal.wait() == 0
        assert terminal.lines == ["the last words"]
