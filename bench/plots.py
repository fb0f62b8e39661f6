"""Plots, as PNG under .local/bench/."""

from typing import TYPE_CHECKING, Any

from bench.stage import DIRECTORY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GRID = "#333333", "#dddddd"
COLOURS = ("#2f6f9f", "#e08a3c", "#5a9e6f", "#b05a7a", "#8a7fb8", "#9a9a9a", "#c9b44a", "#4fb0ae", "#7a5c3e")


def plot(rows: int = 1, columns: int = 1, width: float = 9, height: float = 4) -> "tuple[Figure, list[Any]]":
    """Return a figure and its axes, without unnecessary lines."""
    from matplotlib.figure import Figure  # imported here because it takes a second

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=INK, labelsize=8)
        panel.grid(color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
    return figure, panels


def save(figure: "Figure", name: str) -> None:
    """Write a figure as `name`.png."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    figure.savefig(DIRECTORY / f"{name}.png", dpi=80)
