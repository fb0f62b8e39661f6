"""The layer's build asks pip for what Lambda runs, not for what the python3 at hand is."""

import re

from tests.support import ROOT

MAKEFILE = ROOT / "layers" / "posedrop" / "Makefile"


def test_the_build_names_the_python_that_it_builds_for() -> None:
    """Without that pip leaves out what its own Python is too old for: "No matching distribution found"."""
    (command,) = re.findall(r"python3 -m pip install (.*?)--requirement", MAKEFILE.read_text(), re.DOTALL)
    words = command.replace("\\\n", " ").split()
    options = {name: words[words.index(name) + 1] for name in ("--python-version", "--platform", "--abi")}
    runtime = re.search(r"Runtime: python([\d.]+)", (ROOT / "template.yaml").read_text(encoding="utf-8"))
    assert runtime
    assert options == {"--python-version": runtime[1], "--platform": "any", "--abi": "none"}
    assert "--require-hashes" in words
