"""What the local stack decides before anything runs: when to build, and which latency to expect."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local import deploy
from local.__main__ import variables
from local.deploy import sources_digest
from local.processes import LocalError
from local.stack import typical_seconds
from tests.support import ROOT


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ([], "3"),
        (["--latency", "8"], "8"),
        (["--rpm", "50", "--latency", "2.5:0.3", "--seed", "1"], "2"),
        (["--latency=12.6"], "13"),
        (["--latency", "0"], "1"),
        (["--latency", "5000"], "600"),
    ],
    ids=str,
)
def test_the_pipeline_expects_what_its_emulator_takes(options: list[str], seconds: str) -> None:
    assert typical_seconds(options) == seconds


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a file in each place that a build is made from."""
    for source in deploy.SOURCES:
        path = tmp_path / source
        if (ROOT / source).is_dir():
            path /= "deep/file.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_the_same_sources_are_one_build(clone: Path) -> None:
    before = sources_digest(clone)
    (clone / "functions" / "deep" / "__pycache__").mkdir()
    (clone / "functions" / "deep" / "__pycache__" / "file.pyc").write_bytes(b"x")
    (clone / "README.md").write_text("no source of a build")
    assert sources_digest(clone) == before


@pytest.mark.parametrize("source", deploy.SOURCES)
def test_a_source_that_changes_is_another_build(clone: Path, source: str) -> None:
    before = sources_digest(clone)
    path = clone / source
    path = path / "deep" / "file.py" if path.is_dir() else path
    path.write_text("changed")
    assert sources_digest(clone) != before


def test_a_file_that_moves_is_another_build(clone: Path) -> None:
    before = sources_digest(clone)
    (clone / "layers" / "deep" / "file.py").rename(clone / "layers" / "file.py")
    assert sources_digest(clone) != before


# ---- the builds of a clone -------------------------------------------------------------------------------------------


class Builds:
    """The SAM CLI replaced: it copies the template's text into a build."""

    def __init__(self, clone: Path) -> None:
        self.clone = clone
        self.count = 0
        self.edit_meanwhile = ""

    def run(self, argv: list[str], **options: object) -> None:
        """Build, and let someone edit a source while it runs."""
        self.count += 1
        partial = Path(argv[argv.index("--build-dir") + 1])
        partial.mkdir()
        (partial / "template.yaml").write_text((self.clone / "template.yaml").read_text())
        if self.edit_meanwhile:
            (self.clone / "template.yaml").write_text(self.edit_meanwhile)
            self.edit_meanwhile = ""


@pytest.fixture
def builds(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    """Builds of a clone, which has the area of its builds below it."""
    found = Builds(clone)
    monkeypatch.setattr(deploy, "AREA", clone / ".aws-sam" / "local")
    monkeypatch.setattr(deploy, "sources_digest", lambda: sources_digest(clone))
    monkeypatch.setattr(deploy, "run", found.run)
    (clone / "template.yaml").write_text("Description: one")
    return found


def test_sources_are_built_once(builds: Builds, tmp_path: Path) -> None:
    for _ in range(2):
        with deploy.built({}, tmp_path / "log") as template:
            assert template.read_text() == '{"Description": "one"}'
    assert builds.count == 1


def test_a_build_stays_while_a_stack_uses_it_and_goes_afterwards(builds: Builds, tmp_path: Path) -> None:
    template = builds.clone / "template.yaml"
    with deploy.built({}, tmp_path / "log") as first:
        template.write_text("Description: two")
        with deploy.built({}, tmp_path / "log") as second:
            assert first.exists()
            assert "two" in second.read_text()
    template.write_text("Description: three")
    with deploy.built({}, tmp_path / "log") as third:
        assert "three" in third.read_text()
        assert not first.exists()
        assert not second.exists()


def test_sources_that_are_edited_during_a_build_are_built_again(builds: Builds, tmp_path: Path) -> None:
    builds.edit_meanwhile = "Description: edited"
    with deploy.built({}, tmp_path / "log") as template:
        assert "edited" in template.read_text()
    assert builds.count == 2
    (builds.clone / "template.yaml").write_text("Description: one")
    with deploy.built({}, tmp_path / "log") as template:
        assert "one" in template.read_text()


# ---- how it ends -----------------------------------------------------------------------------------------------------

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

STATE = {
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


def test_without_a_stack_it_says_what_to_do() -> None:
    with pytest.raises(LocalError, match="make up"):
        variables({})
