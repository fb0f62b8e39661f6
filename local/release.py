"""Check a tag against the version and the changelog, and print the notes of its release.

Needs only Python, so that the job that may write to the repository runs no dependency.
"""

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADING = re.compile(r"^## \[(?P<version>[^\]]*)\] - (?P<date>.*)$", re.MULTILINE)
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")  # of Semantic Versioning, without its suffixes
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
UNRELEASED = "Unreleased"


@dataclass(frozen=True)
class Section:
    """The changelog's section on one version; `date` is a date, or "Unreleased"."""

    version: str
    date: str
    notes: str


def sections(changelog: str) -> list[Section]:
    """Read the versions of a changelog, in its order: the newest first."""
    found = list(HEADING.finditer(changelog))
    ends = [*(match.start() for match in found[1:]), len(changelog)]
    return [
        Section(match["version"], match["date"].strip(), changelog[match.end() : end].strip())
        for match, end in zip(found, ends, strict=False)
    ]


def disagreements(version: str, changelog: str, template: str) -> list[str]:
    """Return where version, changelog and template differ, released or not."""
    found = sections(changelog)
    repeated = re.findall(r"^ *SemanticVersion: *(?:&\w+ +)?(\S+) *$", template, re.MULTILINE)
    problems = []
    if not VERSION.fullmatch(version):
        problems.append(f"pyproject.toml: {version} is not a version of the form 1.2.3")
    if repeated != [version]:
        problems.append(f"template.yaml: SemanticVersion is {' and '.join(repeated) or 'missing'}, not {version}")
    if not found or found[0].version != version:
        newest = found[0].version if found else "nothing"
        problems.append(f"CHANGELOG.md: begins with {newest}, not with {version}")
    for place, section in enumerate(found):
        if not VERSION.fullmatch(section.version):
            problems.append(f"CHANGELOG.md: {section.version} is not a version of the form 1.2.3")
        if not DATE.fullmatch(section.date) and (place, section.date) != (0, UNRELEASED):
            problems.append(f"CHANGELOG.md: {section.version} has no date, but {section.date}")
        if not section.notes:
            problems.append(f"CHANGELOG.md: {section.version} has no text")
    numbers = [tuple(map(int, section.version.split("."))) for section in found if VERSION.fullmatch(section.version)]
    if numbers != sorted(set(numbers), reverse=True):
        problems.append("CHANGELOG.md: the versions are not in descending order")
    return problems


def not_releasable(tag: str, version: str, changelog: str) -> list[str]:
    """Return why the changelog's newest version cannot be released under a tag."""
    problems = []
    if tag != f"v{version}":
        problems.append(f"the tag {tag} is not v{version}, the version in pyproject.toml")
    if any(section.date == UNRELEASED for section in sections(changelog)):
        problems.append(f"CHANGELOG.md: {version} has no date yet")
    return problems


def main(tag: str) -> int:
    """Print the notes of the release to be made under a tag; return the exit code, 1 if there is a problem."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    problems = disagreements(version, changelog, template) + not_releasable(tag, version, changelog)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print(sections(changelog)[0].notes)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m local.release TAG, for example v0.1.0")
    sys.exit(main(sys.argv[1]))
