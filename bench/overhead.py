"""Report the time that the pipeline adds to the model's, by part, from an upload to its notification."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from bench.plots import COLOURS, plot, save
from bench.stage import percentile
from bench.tables import table

GOAL = 2.0
"""The goal for p50 in seconds, without settle and detection."""


@dataclass(frozen=True)
class Parts:
    """Seconds of one job's added time.

    event: from the upload to its message in the queue. settle: the time for which the queue delays it. submit: until
    the provider's request id is recorded. detection: from the model's end to the poll that finds it. delivery: from the
    beginning of that poll to the notification.
    """

    event: float
    settle: float
    submit: float
    detection: float
    delivery: float

    @property
    def own(self) -> float:
        """Return the sum without settle and detection."""
        return self.event + self.submit + self.delivery

    @property
    def total(self) -> float:
        """Return the sum of all parts."""
        return float(sum(astuple(self)))


def report(jobs: Sequence[Parts]) -> dict[str, Any]:
    """Print the table, draw the plot, and return p50 and p95 of each part."""
    columns = {field.name: [getattr(job, field.name) for job in jobs] for field in fields(Parts)}
    columns["besides settle, detection"] = [job.own for job in jobs]
    columns["all"] = [job.total for job in jobs]
    figures = {name: {"p50": percentile(found, 0.5), "p95": percentile(found, 0.95)} for name, found in columns.items()}
    rows = [[name, f"{found['p50']:.2f}", f"{found['p95']:.2f}"] for name, found in figures.items()]
    title = f"Seconds from upload to notification, minus the model's, {len(jobs)} jobs, warm (goal: p50 of {GOAL:g} s)"
    print(table(title, ("part", "p50", "p95"), rows))
    draw(columns)
    return figures


def draw(columns: dict[str, list[float]]) -> None:
    """Plot each job's parts as points."""
    figure, (panel,) = plot(width=7, height=2.6)
    for number, found in enumerate(columns.values()):
        panel.plot(found, [number] * len(found), "o", color=COLOURS[0], alpha=0.35, markersize=4)
        panel.plot([percentile(found, 0.5)], [number], "|", color=COLOURS[1], markersize=16, markeredgewidth=2)
    panel.set_yticks(range(len(columns)), list(columns))
    panel.invert_yaxis()
    panel.set_xlabel("seconds; the mark is the median", fontsize=8)
    save(figure, "overhead")
