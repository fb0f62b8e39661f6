"""A stack whose model has other parameters: the commands that read local files go by the model's own schema."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.template import Template
from posedrop.contract import parameters
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.ops.conftest import FACE, WALK, Run
from tests.support import schema

LIKENESS = {"type": "integer", "minimum": 5, "maximum": 60, "default": 40}


@pytest.fixture(autouse=True)
def other_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the stack run a model with a parameter that no other model has, and without `samples`."""
    rules: dict[str, Any] = schema("job")
    known = {name: rule for name, rule in rules["properties"].items() if name != "samples"}
    (tmp_path / "likeness.schema.json").write_text(json.dumps({**rules, "properties": {**known, "likeness": LIKENESS}}))
    monkeypatch.setattr(parameters, "_SCHEMAS", tmp_path)
    monkeypatch.setattr(Template, "model", replace(CONSISTENT_CHARACTER, schema="likeness"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A face and a pose on this machine."""
    for name, body in (("face-hero.png", FACE[1]), ("walk.png", WALK[1])):
        (tmp_path / name).write_bytes(body)
    return str(tmp_path / "face-hero.png"), str(tmp_path / "walk.png")


def test_an_option_sets_the_model_s_parameter(run: Run, files: tuple[str, str]) -> None:
    (job,) = json.loads(run("dry-run", *files, "--param", "likeness=60", "--json").stdout)["jobs"]
    assert job["request"]["likeness"] == 60
    assert "likeness must be smaller" in run("dry-run", *files, "--param", "likeness=61", code=4).stderr
    assert "samples is not a parameter" in run("dry-run", *files, "--param", "samples=2", code=4).stderr


def test_a_list_has_the_model_s_columns(run: Run, files: tuple[str, str]) -> None:
    listed = Path(files[0]).parent / "jobs.csv"
    listed.write_text("face,poses,likeness\nface-hero.png,walk.png,60\n")
    (job,) = json.loads(run("dry-run", str(listed), "--json").stdout)["jobs"]
    assert job["request"]["likeness"] == 60
    listed.write_text("face,poses,samples\nface-hero.png,walk.png,2\n")
    assert "'samples' is not a column" in run("dry-run", str(listed), code=2).stderr
