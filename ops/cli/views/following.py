"""Show the progress of jobs, and their results."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ops.act.uploading import Standing
from ops.cli.screen import STYLES, Part, shorten, text, word
from ops.cli.views.job import explanation
from ops.formatting import many, printable, span
from ops.inspect.explanation import Explanation
from posedrop.aws.record import Status

MOST_BARS = 12
"""The most jobs that have a bar each; more jobs share one."""
BAR, NAME = 20, 30
"""Columns of a bar, and the most columns of a name beside it."""
PLACES = ("succeeded", "failed", "in the model", "submitting", "in line", "waiting", "arriving")


class _State(ProgressColumn):
    """The state of a job."""

    def render(self, task: Task) -> Text:
        """Return the state in its colour."""
        state = str(task.fields["state"])
        return text(f" {state} ", STYLES.get(state.upper(), ""))


class _Elapsed(ProgressColumn):
    """How long a job has been followed, or was followed until its end."""

    def render(self, task: Task) -> Text:
        """Return the seconds."""
        return Text(span((task.finished_time if task.finished else task.elapsed) or 0.0), "dim")


def follow(shown: Console, names: Mapping[str, str], reads: Iterator[list[Standing]]) -> list[Standing]:
    """Show the progress of jobs to their ends; return their states.

    On a terminal each job has a bar, elsewhere each change is a line. `names` are the names to show.
    """
    if not shown.is_terminal:
        return _follow_in_lines(shown, names, reads)
    if len(names) > MOST_BARS:
        return _follow_in_one_bar(shown, len(names), reads)
    last: list[Standing] = []
    columns = (
        SpinnerColumn(style="cyan", finished_text=" "),
        TextColumn("{task.description} ", markup=False),
        BarColumn(bar_width=BAR, complete_style="cyan", finished_style="dim"),
        _State(),
        _Elapsed(),
    )
    with Progress(*columns, console=shown) as progress:
        tasks = {
            job_id: progress.add_task(shorten(printable(name), NAME), total=1.0, state="")
            for job_id, name in names.items()
        }
        for last in reads:
            for standing in last:
                progress.update(tasks[standing.job_id], completed=standing.share, state=standing.state)
    return last


def _follow_in_one_bar(shown: Console, jobs: int, reads: Iterator[list[Standing]]) -> list[Standing]:
    """Show the numbers of jobs in each state."""
    last: list[Standing] = []
    bar = BarColumn(bar_width=BAR, complete_style="cyan", finished_style="dim")
    with Progress(bar, _Elapsed(), TextColumn("{task.description}", markup=False), console=shown) as progress:
        task = progress.add_task(many(jobs, "job"), total=jobs)
        for last in reads:
            share = sum(standing.share for standing in last)
            progress.update(task, completed=share, description=_counted(last))
    return last


def _counted(standings: Sequence[Standing]) -> str:
    """Return the numbers of jobs in each state, ended jobs first."""
    counts = Counter(_place(standing) for standing in standings)
    return ", ".join(f"{counts[place]:,} {place}" for place in PLACES if counts[place])


def _place(standing: Standing) -> str:
    if standing.record is None:
        return "arriving"
    return "in line" if standing.record.status is Status.QUEUED else word(standing.record.status)


def _follow_in_lines(shown: Console, names: Mapping[str, str], reads: Iterator[list[Standing]]) -> list[Standing]:
    started = time.monotonic()
    states: dict[str, str] = {}
    last: list[Standing] = []
    for last in reads:
        for standing in last:
            # Of many jobs only the ends are shown.
            if states.get(standing.job_id) != standing.state and (standing.ended or len(names) <= MOST_BARS):
                states[standing.job_id] = standing.state
                line = f"{time.monotonic() - started:6.1f} s  {names[standing.job_id]}: {standing.state}"
                shown.print(text(line), soft_wrap=True)
    return last


def results(
    standings: Sequence[Standing], explanations: Mapping[str, Explanation], paths: Mapping[str, list[str]]
) -> list[Part]:
    """Return the results of jobs that were followed. `paths` are the images of each."""
    lines: list[Part] = []
    for standing in standings:
        if standing.record and standing.record.status is Status.SUCCEEDED:
            lines += [text(path) for path in paths[standing.job_id]]
        elif standing.job_id in explanations:
            lines += explanation(explanations[standing.job_id])
        else:
            lines.append(text(f"{standing.job_id} is not in the ledger yet."))
    return lines
