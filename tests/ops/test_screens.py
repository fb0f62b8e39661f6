"""What people see: screens of 80 and of 120 columns, drawn by a terminal, and what a pipe gets instead."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyte
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner
from rich.console import Console

from ops.cli import commands as cli
from ops.cli.screen import shorten
from ops.inspect.records import Records
from ops.stack import Stack
from tests.integration.conftest import Pipeline
from tests.ops.conftest import FACE, SIT, WALK, Run
from tests.support import image

WIDTHS = (80, 100, 120)
ROWS = 400
COPIED = re.compile(r"(https://|s3://|\.venv/bin/python|arn:|incoming/|/tmp/|aws )\S*")
"""How begins what is to be copied: it stays in one piece, however long it is."""
PROMPT = (
    "a knight in shining armour walking slowly through the pouring rain at night, neon lights, film grain, wide angle"
)


class Screen:
    """A command's output as a terminal of some columns draws it."""

    def __init__(self, text: str, columns: int) -> None:
        self.columns = columns
        self._screen = pyte.Screen(columns, ROWS)
        pyte.Stream(self._screen).feed(text.replace("\n", "\r\n"))
        self.printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\n")

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the blanks at their ends."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def colour(self, text: str) -> str:
        """The colour of the first place where a text stands."""
        for number, line in enumerate(self._screen.display):
            if text in line:
                return str(self._screen.buffer[number][line.index(text)].fg)
        raise AssertionError(f"{text} is not on the screen")

    def check(self) -> None:
        """No line is wider than the terminal, which would break it anywhere, but for what is to be copied."""
        for line in self.printed:
            if len(line) > self.columns:
                assert COPIED.match(line.strip()), f"broken by a terminal of {self.columns} columns: {line}"


@pytest.fixture(params=WIDTHS)
def draw_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    """Run a command line as if in a terminal; return its screen, with what is said besides the result."""

    def console(*, stderr: bool = False) -> Console:
        options: Any = {"force_terminal": True, "width": request.param, "color_system": "standard"}
        return Console(stderr=stderr, highlight=False, markup=False, emoji=False, **options)

    monkeypatch.setattr("ops.cli.screen.console", console)

    def run(*words: str, code: int = 0, answer: str | None = None) -> Screen:
        result = CliRunner().invoke(
            cli.main, words, input=answer, terminal_width=request.param, max_content_width=request.param
        )
        assert result.exit_code == code, result.output
        return Screen(result.output, request.param)

    return run


@pytest.fixture
def draw(draw_alone: Callable[..., Screen], stack: Stack) -> Callable[..., Screen]:
    """Run a command line, which finds the stack, as if in a terminal."""
    return draw_alone


@pytest.fixture
def jobs(pipeline: Pipeline) -> dict[str, str]:
    """Jobs that succeeded, failed and wait, by their poses."""
    pipeline.upload(FACE, ("incoming/hero/job.json", {"prompt": PROMPT}), WALK, (SIT[0], SIT[1][:-20]))
    pipeline.run_all()
    pipeline.upload(("incoming/a-character-with-a-rather-long-name-of-its-own/poses/a-long-pose.png", WALK[1]))
    return {str(record["pose"]): job_id for job_id, record in pipeline.records().items()}


def test_each_job_has_two_lines_with_its_prompt(jobs: dict[str, str], draw: Callable[..., Screen]) -> None:
    screen = draw("jobs")
    screen.check()
    _, headings, also, *lines = screen.lines
    assert (headings.split(), also.split()) == (["Status", "Job"], ["Changed", "·", "Result", "·", "Prompt"])
    assert len(lines) == 2 * 3
    shown = dict(zip([line.split()[-1] for line in lines[::2]], lines[1::2], strict=True))
    assert shown.keys() == set(jobs.values())
    done = shown[jobs["walk"]]
    assert re.match(r" +\d+ (s|min) ago · 1 image in [\d.]+ s · “a knight in", done)
    assert done.endswith("…”")
    kept = done.partition("“")[2].removesuffix("…”")
    assert PROMPT.startswith(kept)
    assert not PROMPT[len(kept)].isalnum()  # it ends between words
    assert "InvalidInput: " in shown[jobs["sit"]]
    assert shown[jobs["a-long-pose"]].endswith("missing: face")
    assert (screen.colour("succeeded"), screen.colour("failed"), screen.colour("waiting")) == ("green", "red", "brown")


def test_the_page_and_the_list_say_the_same_time(jobs: dict[str, str], run: Run, pipeline: Pipeline) -> None:
    (line,) = [line for line in run("jobs").stdout.splitlines() if line.startswith(jobs["walk"])]
    took = re.search(r"1 image in ([\d.]+ s)", line)
    assert took
    assert f"{took[1]} from upload to result" in run("show", jobs["walk"]).stdout


def test_a_pipe_gets_a_line_for_each_job_without_colours(jobs: dict[str, str], run: Run) -> None:
    heading, *lines = run("jobs").stdout.splitlines()
    assert heading.split() == ["Job", "Status", "Changed", "Result", "Prompt"]
    assert {line.split()[0] for line in lines} == set(jobs.values())
    assert "\x1b" not in "".join(lines)
    assert PROMPT in next(line for line in lines if line.startswith(jobs["walk"]))
    starts = [line.index("ago") for line in lines]
    assert len(set(starts)) <= 2  # in a column


def test_sentences_wrap_between_words(jobs: dict[str, str], draw: Callable[..., Screen]) -> None:
    for words in (["status"], ["explain", WALK[0]], ["explain", "incoming/hero/FACE.txt"], ["costs"]):
        draw(*words).check()


def test_a_job_s_timeline_wraps_between_words(jobs: dict[str, str], draw: Callable[..., Screen]) -> None:
    for job_id in jobs.values():
        screen = draw("show", job_id)
        screen.check()
        assert any(line.split()[0] in ("Status", "Job") for line in screen.lines)
        assert any(line.startswith("Next  ") for line in screen.lines)


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sound and unsound pictures."""
    for name, body in (
        ("shoot/hero/face.png", FACE[1]),
        ("shoot/hero/poses/walk.png", WALK[1]),
        ("shoot/hero/poses/a picture that is none but has a long name.png", b"text"),
        ("shoot/a character with a name that is longer than the others/face.png", image("png", (9, 9), "red")),
        ("shoot/a character with a name that is longer than the others/run.png", image("png", (9, 8), "red")),
        ("shoot/notes.txt", b"x"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ops.cli.shell.has_terminal", lambda: True)
    return tmp_path


def test_the_preview_of_an_upload(shoot: Path, draw: Callable[..., Screen]) -> None:
    screen = draw("upload", "shoot", code=1, answer="n\n")
    screen.check()
    text = " ".join(" ".join(screen.lines).split())
    assert "Character New jobs Existing Not sent Cost" in text
    assert "shoot/hero 1 - 1 0.0294 USD" in text
    assert "none but has a long name.png: this is text: upload a picture" in text
    assert "Upload 4 files for 2 new jobs, about 0.0588 USD?" in text
    draw("dry-run", "shoot", code=4).check()


def helps() -> Iterator[list[str]]:
    """The words that ask for each help text."""
    yield []
    yield from ([name] for name in cli.main.commands)


@pytest.mark.parametrize("command", [*helps()], ids=" ".join)
def test_each_help_text_fits(command: list[str], draw_alone: Callable[..., Screen]) -> None:
    screen = draw_alone(*command, "--help")
    screen.check()
    assert not any(line.endswith("...") for line in screen.lines if not line.strip().startswith("Usage"))


def test_texts_are_shortened_between_words() -> None:
    assert shorten("a knight in the rain", 20) == "a knight in the rain"
    assert shorten("a knight, in the rain", 12) == "a knight…"
    assert shorten("a  knight\nin", 12) == "a knight in"
    assert shorten("一二三四五六七八", 9) == "一二三四…"
    assert shorten("x" * 50, 10) == "x" * 9 + "…"
    assert shorten("abc", 0) == ""


# ---- jobs --watch ----------------------------------------------------------------------------------------------------


def test_watching_draws_changes_survives_a_break_and_ends_with_an_interrupt(
    jobs: dict[str, str], pipeline: Pipeline, stack: Stack, draw: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    page = Records.page

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        pipeline.clock.now += seconds
        if len(pauses) == 1:
            pipeline.upload(("incoming/other/face.png", FACE[1]), ("incoming/other/pose.png", SIT[1]))
        if len(pauses) == 5:
            raise KeyboardInterrupt

    def unwell(*args: Any) -> Any:
        if len(pauses) in (2, 3):
            raise EndpointConnectionError(endpoint_url="http://dynamodb.test")
        return page(*args)

    object.__setattr__(stack, "sleep", sleep)
    monkeypatch.setattr(Records, "page", unwell)
    screen = draw("jobs", "--watch")
    assert pauses == [2.0, 2.0, 4.0, 8.0, 2.0]
    said = " ".join(" ".join(screen.printed).split())
    assert re.search(r"http://dynamodb\.test.* Next try in 4 s\.", said)
    last = screen.lines
    assert len([line for line in last if re.match(r"(succeeded|failed|waiting|in the model) ", line)]) == 4
    assert not any("Ctrl-C" in line for line in last)


@pytest.mark.parametrize("words", [["--json"], []])
def test_watching_needs_a_terminal(run: Run, words: list[str]) -> None:
    assert "--watch needs a terminal" in run("jobs", "--watch", *words, code=2).stderr


def test_watching_a_stack_that_is_not_there_ends_at_once(draw: Callable[..., Screen], monkeypatch: Any) -> None:
    def gone(*args: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="http://dynamodb.test")

    monkeypatch.setattr(Records, "page", gone)
    assert "http://dynamodb.test" in " ".join(draw("jobs", "--watch", code=1).printed)
