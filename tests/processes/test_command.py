"""The operator's command as a program: its help in a terminal; what a real bash completes, and zsh and fish call."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from ops.cli import commands as cli
from ops.cli.completion import VARIABLE
from tests.support import HANGS, ROOT
from tests.terminal import Terminal


def script(shell: str) -> str:
    done = CliRunner(mix_stderr=False).invoke(cli.main, ["complete", shell])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def completed(*words: str) -> list[str]:
    """What a bash offers for the last of these words."""
    line = "COMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + f") COMP_CWORD={len(words) - 1}"
    program = f'{script("bash")}\n{line}\n_ops_completion ops\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=HANGS, check=True, cwd="/")
    return done.stdout.split()


def test_bash_completes_commands_options_and_statuses() -> None:
    assert completed("ops", "dead") == ["dead-letters"]
    assert completed("ops", "backfill", "--dr") == ["--dry-run"]
    assert [word.lower() for word in completed("ops", "jobs", "--status", "fai")] == ["failed"]


def test_bash_has_the_command() -> None:
    program = f"{script('bash')}\nops --help"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=HANGS, check=True, cwd="/")
    assert "dead-letters" in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_call_the_same_program(shell: str) -> None:
    text = script(shell)
    command = f"env PYTHONPATH={ROOT} {sys.executable} -m ops"
    assert text.count(command) == 2  # the command itself, and what completes it
    assert "$+commands" not in text
    words = {"zsh": ("ops sta", "1"), "fish": ("ops sta", "sta")}[shell]
    environment = {VARIABLE: f"{shell}_complete", "COMP_WORDS": words[0], "COMP_CWORD": words[1]}
    argv = [sys.executable, "-m", "ops"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=HANGS, check=True, cwd=ROOT, env={**environment, "PATH": ""}
    )
    assert "status" in done.stdout


def test_help_in_a_real_terminal() -> None:
    for columns in (80, 120):
        with Terminal([sys.executable, "-m", "ops", "--help"], columns, rows=60) as terminal:
            assert terminal.wait() == 0
            text = str(terminal)
            assert "..." not in text.replace("[ARGS]...", "")
            assert all(name in text for name in cli.main.commands)
