"""What a contributor, a hook and CI run: it is there, and it is the same."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.docs.documents import document
from tests.support import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def targets() -> dict[str, list[str]]:
    """Every target of the Makefile, with those that it needs."""
    return {
        name: needs.split("##")[0].split()
        for name, needs in re.findall(r"^([a-z][a-z-]*):(?!=) ?(.*)$", MAKEFILE, re.MULTILINE)
    }


def read(path: str) -> Any:
    """A file of YAML. Its `on` is read as True, as YAML 1.1 has it."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def steps(workflow: Any) -> Iterator[dict[str, Any]]:
    """The steps of all jobs."""
    for job in workflow["jobs"].values():
        yield from job["steps"]


def made(text: str) -> list[str]:
    """The targets that lines of a shell make."""
    return re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE)


def ran(workflow: str) -> list[str]:
    """The targets that a workflow makes, in order."""
    return [target for step in steps(read(f".github/workflows/{workflow}.yml")) for target in made(step.get("run", ""))]


def test_the_hooks_run_what_make_check_runs() -> None:
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    assert sorted(hook["entry"] for hook in repo["hooks"]) == sorted(f"make {part}" for part in targets()["check"])
    assert all(hook["language"] == "unsupported" and not hook["pass_filenames"] for hook in repo["hooks"])


def test_make_check_is_its_parts() -> None:
    assert not re.search(r"^check:.*\n\t", MAKEFILE, re.MULTILINE)
    assert targets()["check"]
    for part in targets()["check"]:
        assert re.search(rf"^{part}: setup\n\t", MAKEFILE, re.MULTILINE), part


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_of_a_workflow_is_there(path: Any) -> None:
    assert set(ran(path.stem)) <= set(targets())


def test_ci_runs_the_same_everywhere() -> None:
    local = made((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert local == ["check", "test"]
    assert ran("ci") == ["setup", *local]
    assert [target for target in ran("release") if target != "release-notes"] == ["setup", *local]


def test_ci_runs_on_the_oldest_python_and_on_lambda_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    (lambdas,) = set(re.findall(r"Runtime: python(\S+)", (ROOT / "template.yaml").read_text(encoding="utf-8")))
    for name in ("ci", "release"):
        jobs = read(f".github/workflows/{name}.yml")["jobs"]
        assert jobs["check-and-test"]["strategy"]["matrix"]["python"] == [oldest, lambdas]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_only_what_its_jobs_list(path: Any) -> None:
    workflow = read(f".github/workflows/{path.name}")
    assert workflow["permissions"] == {}
    writes = {
        (path.stem, name, right)
        for name, job in workflow["jobs"].items()
        for right, access in job["permissions"].items()
        if access != "read"
    }
    assert writes <= {("release", "draft", "contents")}


def test_the_job_that_may_write_installs_nothing() -> None:
    job = read(".github/workflows/release.yml")["jobs"]["draft"]
    assert job["needs"] == "check-and-test"
    text = " ".join(step.get("run", "") for step in job["steps"])
    assert not made(text)
    assert "pip" not in text
    assert "python3 -m local.release" in text


def test_contributing_leads_to_the_documents() -> None:
    found = document(ROOT / "CONTRIBUTING.md")
    assert {"docs/development.md", "docs/releasing.md", "SECURITY.md", "CHANGELOG.md"} <= set(found.links)
    assert {"setup", "hooks", "check", "test"} <= {target for line in found.lines() for target in made(line)}


def test_the_editor_is_reported_what_the_formatter_does() -> None:
    text = (ROOT / ".editorconfig").read_text(encoding="utf-8")
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert f"max_line_length = {ruff['line-length']}" in text


MUTATION = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text(encoding="utf-8"))
PACKAGE = ROOT / "layers" / "posedrop" / "posedrop"


def test_what_is_mutated_is_there_with_its_tests() -> None:
    for module, tests in MUTATION["modules"].items():
        assert (PACKAGE / module).is_file(), module
        assert tests, module
        for test in tests:
            assert (ROOT / "tests" / test).is_file(), test


def test_changes_that_make_no_difference_are_of_lines_that_are_there() -> None:
    for change in MUTATION["equivalent"]:
        assert change["module"] in MUTATION["modules"]
        assert change["reason"]
        text = " ".join((PACKAGE / change["module"]).read_text(encoding="utf-8").split())
        assert " ".join(change["before"].split()) in text, change
