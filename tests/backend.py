"""The program of docs/backends.md, imported."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

from tests.docs.documents import document
from tests.support import ROOT

DOCUMENT = document(ROOT / "docs" / "backends.md")


@contextmanager
def program(directory: Path, variables: Mapping[str, str]) -> Iterator[ModuleType]:
    """Import the program into an environment with these variables; its files are in `directory`."""
    path = directory / "backend.py"
    path.write_text("".join(block.text for block in DOCUMENT.blocks if block.language == "python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("backend", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, variables), mock.patch.object(sys, "path", [str(ROOT / "events"), *sys.path]):
        spec.loader.exec_module(module)
        sys.modules.pop("notification", None)
        yield module
        module.database.close()
