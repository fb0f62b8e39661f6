"""The version, the changelog, the template and the tag of a release: they agree, and it is said where they do not."""

import tomllib
from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse

from local import release
from local.release import Section, disagreements, not_releasable, sections
from posedrop.contract.version import VERSION
from tests.support import ROOT

CHANGELOG = """# Changelog

What changes.

## [1.3.0] - Unreleased

### Added

- A thing. See [1.2.9].

## [1.2.9] - 2026-01-31

- Another.
"""
RELEASED = CHANGELOG.replace("Unreleased", "2026-02-28")
TEMPLATE = "Metadata:\n    SemanticVersion: 1.3.0\n"


def test_this_version_is_one_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog, template = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "template.yaml"))
    assert disagreements(version, changelog, template) == []
    assert version == VERSION
    assert yaml_parse(template)["Outputs"]["Version"]["Value"] == VERSION


def test_sections_are_read_in_order() -> None:
    assert sections(CHANGELOG) == [
        Section("1.3.0", "Unreleased", "### Added\n\n- A thing. See [1.2.9]."),
        Section("1.2.9", "2026-01-31", "- Another."),
    ]
    assert sections("# Changelog\n") == []


@pytest.mark.parametrize("changelog", [CHANGELOG, RELEASED])
def test_what_agrees_is_not_complained_of(changelog: str) -> None:
    assert disagreements("1.3.0", changelog, TEMPLATE) == []


@pytest.mark.parametrize(
    ("version", "changelog", "template", "problem"),
    [
        ("1.3", CHANGELOG, TEMPLATE, "not a version of the form"),
        ("1.03.0", CHANGELOG, TEMPLATE, "not a version of the form"),
        ("1.3.0", CHANGELOG, "SemanticVersion: 1.2.9\n", "is 1.2.9, not 1.3.0"),
        ("1.3.0", CHANGELOG, "SemanticVersion: &Version 1.2.9\n", "is 1.2.9, not 1.3.0"),
        ("1.3.0", CHANGELOG, "", "is missing, not 1.3.0"),
        ("1.3.0", CHANGELOG, TEMPLATE * 2, "is 1.3.0 and 1.3.0, not"),
        ("1.4.0", CHANGELOG, TEMPLATE, "begins with 1.3.0, not with 1.4.0"),
        ("1.3.0", "", TEMPLATE, "begins with nothing"),
        ("1.3.0", CHANGELOG.replace("2026-01-31", "Unreleased"), TEMPLATE, "1.2.9 has no date"),
        ("1.3.0", CHANGELOG.replace("2026-01-31", "31 January"), TEMPLATE, "1.2.9 has no date, but 31 January"),
        ("1.3.0", CHANGELOG.replace("- Another.\n", ""), TEMPLATE, "1.2.9 has no text"),
        ("1.3.0", CHANGELOG.replace("## [1.2.9]", "## [next]"), TEMPLATE, "next is not a version"),
        ("1.3.0", CHANGELOG.replace("## [1.2.9]", "## [1.10.0]"), TEMPLATE, "not in descending order"),
        ("1.3.0", CHANGELOG.replace("## [1.2.9]", "## [1.3.0]"), TEMPLATE, "not in descending order"),
    ],
)
def test_what_disagrees_is_named(version: str, changelog: str, template: str, problem: str) -> None:
    assert any(problem in found for found in disagreements(version, changelog, template))


def test_numbers_descend_as_numbers() -> None:
    changelog = CHANGELOG.replace("1.3.0", "1.10.0")
    assert disagreements("1.10.0", changelog, TEMPLATE.replace("1.3.0", "1.10.0")) == []


def test_a_tag_is_the_version_behind_a_v() -> None:
    assert not_releasable("v1.3.0", "1.3.0", RELEASED) == []
    assert not_releasable("1.3.0", "1.3.0", RELEASED) == ["the tag 1.3.0 is not v1.3.0, the version in pyproject.toml"]
    assert len(not_releasable("v1.2.9", "1.3.0", RELEASED)) == 1


def test_what_has_no_date_is_not_released() -> None:
    assert not_releasable("v1.3.0", "1.3.0", CHANGELOG) == ["CHANGELOG.md: 1.3.0 has no date yet"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with a release to be made."""
    monkeypatch.setattr(release, "ROOT", tmp_path)
    for name, text in {
        "pyproject.toml": '[project]\nname = "x"\nversion = "1.3.0"\n',
        "CHANGELOG.md": RELEASED,
        "template.yaml": TEMPLATE,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("project")
def test_the_notes_are_the_changelog_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main("v1.3.0") == 0
    assert capsys.readouterr().out == "### Added\n\n- A thing. See [1.2.9].\n"


@pytest.mark.usefixtures("project")
def test_no_notes_for_another_tag(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main("v1.2.9") == 1
    out, err = capsys.readouterr()
    assert not out
    assert "v1.2.9" in err
