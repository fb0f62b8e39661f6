"""Processes that are copies of one that has imported already: they behave as if each had been started from scratch."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.warm import Origin, Popen
from tests.support import HANGS, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process is started from scratch")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """The process that is copied."""
    found = Origin()
    yield found
    found.stop()


def start(origin: Origin, directory: Path, program: str, **environment: str) -> Popen:
    """Run a program in a copy."""
    file = directory / "program.py"
    file.write_text(program)
    return Popen(origin, [sys.executable, str(file)], str(directory), environment)


def test_a_program_has_its_own_pipes_directory_variables_and_arguments(origin: Origin, tmp_path: Path) -> None:
    program = """
import os, sys
print(__name__, os.getcwd(), dict(os.environ) == {"NAME": "value"}, sys.argv, sys.path[0], flush=True)
print(sys.stdin.readline().strip() + "!", file=sys.stderr, flush=True)
sys.exit(3)
"""
    process = start(origin, tmp_path, program, NAME="value")
    assert process.stdout.readline() == f"__main__ {tmp_path} True ['{tmp_path}/program.py'] {tmp_path}\n"
    assert process.poll() is None
    process.stdin.write("hello\n")
    assert process.stderr.read() == "hello!\n"
    assert process.stdout.read() == ""
    process.wait(HANGS)
    assert process.poll() is not None


def test_it_is_listed_by_its_own_command_line(origin: Origin, tmp_path: Path) -> None:
    process = start(origin, tmp_path, "input()")
    shown = Path(f"/proc/{process.pid}/cmdline")
    until(lambda: shown.read_bytes().rstrip(b"\0") == f"{sys.executable}\0{tmp_path}/program.py".encode())
    process.stdin.close()
    process.wait(HANGS)


def test_two_copies_draw_different_numbers(origin: Origin, tmp_path: Path) -> None:
    drawn = [start(origin, tmp_path, "import random; print(random.random())").stdout.read() for _ in range(2)]
    assert len(set(drawn)) == 2


def test_a_client_reads_no_description_that_was_read_before_it(origin: Origin, tmp_path: Path) -> None:
    program = """
import boto3, json
json.loads = None
print(boto3.client("dynamodb", region_name="eu-central-1").meta.region_name)
"""
    process = start(origin, tmp_path, program)
    assert (process.stdout.read(), process.stderr.read()) == ("eu-central-1\n", "")


@pytest.mark.parametrize("end", [Popen.terminate, Popen.kill])
def test_it_can_be_ended(origin: Origin, tmp_path: Path, end: Callable[[Popen], None]) -> None:
    process = start(origin, tmp_path, "input()")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    end(process)
    process.wait(HANGS)
    end(process)  # as often as one likes
    until(lambda: not Path(f"/proc/{process.pid}").exists())
