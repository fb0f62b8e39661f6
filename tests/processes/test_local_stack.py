"""The local stack as a program: how a signal or a closed pipe ends it, and what a shell gets from `make env`."""

import json
import os
import shlex
import signal
import subprocess
import sys
from typing import Any

import pytest

from local.__main__ import variables
from tests.support import ROOT

ENDING = """
import signal, sys
from local.stack import exit_on_signals

{disposition}
exit_on_signals()
try:
    print("up", flush=True)
    signal.pause()
finally:
    print("everything is stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_terminal_that_is_closed_leaves_nothing_running(number: signal.Signals) -> None:
    default = ENDING.format(disposition=f"signal.signal({int(number)}, signal.SIG_DFL)")  # under nohup it is ignored
    with subprocess.Popen([sys.executable, "-c", default], cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "up\n"
        program.send_signal(number)
        assert program.communicate()[0] == "everything is stopped\n"
    assert program.returncode == 128 + number


def test_a_program_that_ignores_a_signal_goes_on_ignoring_it() -> None:
    program = ENDING.format(disposition="signal.signal(signal.SIGHUP, signal.SIG_IGN)").replace(
        "signal.pause()", "input()"
    )
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ignoring:
        assert ignoring.stdout
        assert ignoring.stdout.readline() == "up\n"
        ignoring.send_signal(signal.SIGHUP)
        assert ignoring.communicate("\n")[0] == "everything is stopped\n"
    assert ignoring.returncode == 0


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As in `make up | head`."""
    code = (
        "import sys; from local import __main__ as command; command.down = lambda: print('stopped'); "
        "sys.argv = ['', 'down']; sys.exit(command.main())"
    )
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# ---- make env --------------------------------------------------------------------------------------------------------

STATE: dict[str, Any] = {
    "endpoint_url": "http://127.0.0.1:4566",
    "region": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "it's $secret",
    "segmind_base_url": "http://127.0.0.1:9000",
    "outputs": {"UploadBucketName": "uploads", "NotificationTopicArn": "arn:aws:sns:us-east-1:0:topic"},
}


def test_a_shell_that_evaluates_it_reaches_the_stack_and_no_other_account() -> None:
    before = {"PATH": os.environ["PATH"], "AWS_PROFILE": "prod", "AWS_SESSION_TOKEN": "x", "NO_PROXY": "intern"}
    command = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    script = f'eval "$0" && exec {shlex.join(command)}'
    done = subprocess.run(
        ["sh", "-c", script, variables(STATE)], env=before, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["AWS_ENDPOINT_URL"] == STATE["endpoint_url"]
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == STATE["region"]
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("test", "it's $secret")
    assert (found["UPLOAD_BUCKET_NAME"], found["NOTIFICATION_TOPIC_ARN"]) == tuple(STATE["outputs"].values())
    assert found["NO_PROXY"] == "127.0.0.1,intern"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & set(found)
