"""How jobs fare while they are followed, and what came of them."""

import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ops.act.uploading import Standing
from ops.cli.screen import STYLES, Part, text
from ops.cli.views.job import explanation
from ops.formatting import printable, span
from ops.inspect.explanation import Explanation
from posedrop.aws.record import Status


class _State(ProgressColumn):
    """How a job stands."""

    def render(self, task: Task) -> Text:
        """The state in its colour."""
        state = str(task.fields["state"])
        return text(f" {state} ", STYLES.get(state.upper(), ""))


class _Elapsed(ProgressColumn):
    """How long a job is followed, or was until its end."""

    def render(self, task: Task) -> Text:
        """The seconds."""
        return Text(span((task.finished_time if task.finished else task.elapsed) or 0.0), "dim")


def follow(shown: Console, names: Mapping[str, str], looks: Iterator[list[Standing]]) -> list[Standing]:
    """Show how jobs fare until their ends: bars on a terminal, elsewhere a line for each change. Return how they stand.

    `names` are what to call the jobs.
    """
    if not shown.is_terminal:
        return _follow_in_lines(shown, names, looks)
    last: list[Standing] = []
    columns = (
        SpinnerColumn(style="cyan", finished_text=" "),
        TextColumn("{task.description} ", markup=False),
        BarColumn(bar_width=28, complete_style="cyan", finished_style="dim"),
        _State(),
        _Elapsed(),
    )
    with Progress(*columns, console=shown) as progress:
        tasks = {job_id: progress.add_task(printable(name), total=1.0, state="") for job_id, name in names.items()}
        for last in looks:
            for standing in last:
                progress.update(tasks[standing.job_id], completed=standing.share, state=standing.state)
    return last


def _follow_in_lines(shown: Console, names: Mapping[str, str], looks: Iterator[list[Standing]]) -> list[Standing]:
    started = time.monotonic()
    states: dict[str, str] = {}
    last: list[Standing] = []
    for last in looks:
        for standing in last:
            if states.get(standing.job_id) != standing.state:
                states[standing.job_id] = standing.state
                line = f"{time.monotonic() - started:6.1f} s  {names[standing.job_id]}: {standing.state}"
                shown.print(text(line), soft_wrap=True)
    return last


def results(
    standings: Sequence[Standing], explanations: Mapping[str, Explanation], paths: Mapping[str, list[str]]
) -> list[Part]:
    """What came of the jobs that were followed. `paths` are the images of each."""
    lines: list[Part] = []
    for standing in standings:
        if standing.record and standing.record.status is Status.SUCCEEDED:
            lines += [text(path) for path in paths[standing.job_id]]
        elif standing.job_id in explanations:
            lines += explanation(explanations[standing.job_id])
        else:
            lines.append(text(f"{standing.job_id} is not in the ledger yet."))
    return lines
