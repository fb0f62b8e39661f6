"""What `make setup` says while it works."""

import pytest

from local import environment

COLLECTED = """Collecting aws-sam-cli==1.167.0 (from -r requirements-dev.txt (line 1))
  Downloading aws_sam_cli-1.167.0-py3-none-any.whl (5.1 MB)
Requirement already satisfied: boto3==1.40.0 in ./.venv/lib/python3.11/site-packages
WARNING: Location 'file:///mirror/simple/' is ignored: it is neither a file nor a directory.
Ignoring colorama: markers 'sys_platform == "win32"' don't match your environment
"""


def test_downloads_are_counted_and_then_what_is_installed() -> None:
    assert environment.progress("", 0, 130) == "  0 of 130 downloaded"
    assert environment.progress(COLLECTED, 0, 130) == "  3 of 130 downloaded"
    assert environment.progress(COLLECTED + "Installing collected packages: a, b\n", 7, 130) == "  7 of 130 installed"


def test_each_pinned_package_is_counted_once() -> None:
    text = 'anyio==4.16.0 \\\n    --hash=sha256:00==11 \\\n    # via httpx\ncolorama==0.4.6 ; sys_platform == "win32"\n'
    assert len(environment.REQUIREMENT.findall(text)) == 2


def test_an_old_python_gets_the_name_of_the_one_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 2))
    assert environment.main() == 1
    assert "needs Python 3.11 or later" in capsys.readouterr().err
