"""The plots of a search: loss against each option."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.search_space import Choice, SearchSpace
from model.trials import Trial

COLUMNS = 4


def plot_search(path: Path, space: SearchSpace, trials: Sequence[Trial]) -> None:
    """Writes a PNG: for each option of the space a panel of the loss of every trial.

    Trial 0, the default, is a ring; stopped trials are pale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = -(-len(space.parameters) // COLUMNS)
    figure = Figure((3.2 * min(COLUMNS, len(space.parameters)), 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, parameter in enumerate(space.parameters, 1):
        axes: Any = figure.add_subplot(rows, min(COLUMNS, len(space.parameters)), place)
        axes.set_title(parameter.option, fontsize=9)
        axes.tick_params(labelsize=7, which="both")
        if place % COLUMNS == 1:
            axes.set_ylabel("loss", fontsize=8)
        for trial in trials:
            if trial.loss is None or trial.point is None:
                continue
            style = {"alpha": 0.35} if trial.status == "stopped" else {}
            color = "none" if trial.number == 0 else "tab:blue"
            at = trial.point[parameter.option]
            axes.scatter(at, trial.loss, 22, color, edgecolors="tab:blue", **style)
        if isinstance(parameter, Choice):
            axes.set_xticks(range(len(parameter.values)), parameter.values, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(parameter.values) - 0.5)
        elif parameter.log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path, dpi=120)
