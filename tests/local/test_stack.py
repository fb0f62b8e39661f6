"""What the local stack decides before anything runs: when to build, and which latency to expect."""

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


def test_without_a_stack_it_says_what_to_do() -> None:
    with pytest.raises(LocalError, match="make up"):
        variables({})
