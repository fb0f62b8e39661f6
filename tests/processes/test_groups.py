"""The tests that share a stack run on one worker."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import HANGS, ROOT

FILES = ("tests/e2e/test_one.py", "tests/e2e/test_two.py", "tests/unit/test_three.py")


def test_files_that_share_a_stack_run_on_one_worker(tmp_path: Path) -> None:
    """Two workers take two groups: so two files of one group would be split, were their groups not seen."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import pytest\n\n\n@pytest.mark.parametrize('n', range(4))\ndef test(n):\n    pass\n")
    (tmp_path / "tests" / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    options = re.search(r"^PYTEST = .*(--dist .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert options
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", *options[1].split(), *FILES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    ran = re.findall(r"\[(gw\d)\].* PASSED (tests/\w+)/", done.stdout)
    assert len(ran) == 4 * len(FILES), done.stdout + done.stderr
    assert len({worker for worker, room in ran if room == "tests/e2e"}) == 1
