"""What the demo shows while it runs, on the screens of real terminals and in a pipe.

demo-records.json holds what the ledger said of each job of a demo, one change after the other.
"""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from local.progress import Line, Progress, show
from tests.terminal import Terminal

RECORDS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("demo-records.json").read_text())
JOBS = list(dict.fromkeys((record["character"], record["pose"]) for record in RECORDS))
NAMES = [f"{character} / {pose}" for character, pose in JOBS]
REFUSED = next(record["error"]["message"] for record in RECORDS if record["error"])

PLAYER = """
import json, sys
from rich.console import Console
from local.progress import Line, Progress, show

names, records = json.load(open(sys.argv[1]))
lines = {tuple(name): Line(" / ".join(name)) for name in names}
with Progress(Console(highlight=False), list(lines.values()), draws_per_second=100) as progress:
    for record in records:
        input()
        show(progress, lines, [record])
    input()
"""
"""The demo's display; it shows the next record at each line that is typed. It is drawn often, so that no test waits."""

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "SUBMITTED": "cyan", "SUBMITTING": "cyan"}


def play(tmp_path: Path, records: list[dict[str, Any]], columns: int) -> Terminal:
    """Start the display in a terminal, with a line for each job of some records."""
    played = tmp_path / "records.json"
    jobs = list(dict.fromkeys((record["character"], record["pose"]) for record in records))
    played.write_text(json.dumps([jobs, records]))
    return Terminal([sys.executable, "-c", PLAYER, str(played)], columns, rows=24)


def states(lines: list[str]) -> dict[str, str]:
    """Read the table: the state of each job whose line has a name, a state and a time, each whole."""
    rows = (re.fullmatch(rf"(\S+ / \S+) +(?:[{SPINNER}] )?([A-Z]+) +\d+\.\d s", line) for line in lines)
    return {row[1]: row[2] for row in rows if row}


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_every_state_and_time_is_on_the_screen_at_every_moment(tmp_path: Path, columns: int) -> None:
    expected = dict.fromkeys(NAMES, "UPLOADED")
    with play(tmp_path, RECORDS, columns) as terminal:
        terminal.wait_for(lambda lines: states(lines) == expected)
        for record in RECORDS:
            expected[f"{record['character']} / {record['pose']}"] = record["status"]
            terminal.send("\n")
            terminal.wait_for(lambda lines: states(lines) == expected)
            state = record["status"]
            assert terminal.colour(state) == COLOURS.get(state, "brown")  # how terminals name the dark yellow
        terminal.send("\n")
        assert terminal.wait() == 0
        lines = terminal.lines
    assert states(lines) == expected
    assert set(expected.values()) == {"SUCCEEDED", "FAILED"}
    place = next(number for number, line in enumerate(lines) if line.startswith("blocked / "))
    below = [line for line in lines[place + 1 :] if line.startswith("  ")]
    assert " ".join(line.strip() for line in below) == REFUSED
    assert not set(SPINNER) & set("".join(lines))


LONG = {
    "words": ("word " * 200, 60),
    "one word": ("x" * 1000, 80),
    "wide letters": ("世界" * 300, 80),
    "lines": ("one\ntwo\nthree\nfour\nfive", 200),
}


@pytest.mark.parametrize(("text", "columns"), LONG.values(), ids=LONG)
def test_a_text_of_any_length_leaves_every_job_on_the_screen(tmp_path: Path, text: str, columns: int) -> None:
    records: list[dict[str, Any]] = [
        {
            "character": f"a-character-{number}",
            "pose": "with-a-long-name" * (number + 1),
            "status": "QUEUED",
            "error": None,
            "reason": text,
        }
        for number in range(4)
    ]
    with play(tmp_path, records, columns) as terminal:
        terminal.send("\n" * 5)
        assert terminal.wait() == 0
        lines = terminal.lines
    assert list(states(lines).values()) == ["QUEUED"] * 4
    assert lines[0].split() == ["Job", "State", "Time"]
    assert len(lines) == 1 + 4 * 3  # the name, and two lines of the text
    assert all(line.endswith("…") for line in lines[3::3])


def test_a_pipe_gets_a_line_for_each_change() -> None:
    said = io.StringIO()
    lines = {job: Line(name) for job, name in zip(JOBS, NAMES, strict=True)}
    with Progress(Console(file=said, highlight=False), list(lines.values())) as progress:
        for record in RECORDS:
            show(progress, lines, [record])
            show(progress, lines, [record])
    found = [line.partition(" s  ")[2] for line in said.getvalue().splitlines()]
    expected = []
    for record in RECORDS:
        detail = (record["error"] or {}).get("message") or record["reason"] or ""
        expected.append(f"{record['character']} / {record['pose']}: {record['status']}  {detail}".rstrip())
    assert found == expected
    assert not re.search(rf"[\x1b\r{SPINNER}]", said.getvalue())
