"""The plots of a report as PNG, for papers; all sites together."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.plots import LONGEST, new_figure, png
from pipeline.report import Report
from pipeline.text import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = 20
"""Labels, the most frequent first, of which there are plots by time."""
NAMES = 60
"""Sites or labels along an axis up to which each has its name."""
COLOURS, NOTHING, GREEN, SUN = "viridis", "#e4e4e4", "#0b6b57", "#e8302a"

Float64 = npt.NDArray[np.float64]


def plots(report: Report) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each plot: `coverage`, `effort`, `damage`, `overview`, and a `label-NN`.

    A plot of which there are no data is left out. A label's plot has its activity by date and
    hour, with sunrise and sunset where all positions are near each other, and by hour of the day,
    and its detections by score.
    """
    hours = report.tables["hours"]
    if hours.num_rows:
        yield "coverage", _coverage(report)
        yield "effort", _effort(report)
    if report.tables["damage"].num_rows:
        yield "damage", _damage(report)
    if report.tables["label_sites"].num_rows:
        yield "overview", _overview(report)
    timed = set(report.tables["activity"]["label"].unique().to_pylist())
    heard = [row for row in report.tables["labels"].to_pylist() if row["label"] in timed]
    for number, label in enumerate(heard[:LABELS], 1):
        yield f"label-{number:02d}", _label(report, label)


def _coverage(report: Report) -> bytes:
    days = report.tables["days"].filter(pc.is_valid(report.tables["days"]["date"]))
    sites = report.tables["sites"]["site"].to_pylist()
    first, count = _days(days["date"])
    values = np.full((len(sites), count), np.nan)
    place = {site: row for row, site in enumerate(sites)}
    for row in days.to_pylist():
        values[place[row["site"]], (row["date"] - first).days] = row["seconds_scored"] / 3600
    figure = new_figure(8, 1.6 + 0.2 * min(len(sites), NAMES))
    axes = figure.subplots()
    _image(figure, axes, values, "hours scored", values)
    _dates(axes, first, count)
    _named(axes.set_yticks, sites)
    return png(figure)


def _effort(report: Report) -> bytes:
    hours = report.tables["hours"]
    first, grid = _grid(hours, "seconds_scored")
    _, expected = _grid(hours, "seconds_expected")
    figure = new_figure(8, 3.2)
    axes = figure.subplots()
    values = np.where(expected > 0, grid / 60, np.nan)
    _image(figure, axes, values, "minutes scored", values)
    _hour_axes(axes, first, grid.shape[1])
    _draw_sun(axes, report, first)
    return png(figure)


def _damage(report: Report) -> bytes:
    by_reason = report.tables["damage"].group_by("reason").aggregate([("recordings", "sum")])
    rows = sorted(by_reason.to_pylist(), key=lambda row: row["recordings_sum"])
    figure = new_figure(6, 1 + 0.3 * len(rows))
    axes = figure.subplots()
    bars = axes.barh([row["reason"] for row in rows], [row["recordings_sum"] for row in rows])
    axes.bar_label(bars, padding=3)
    axes.set(xlabel="recordings")
    axes.margins(x=0.15)
    return png(figure)


def _overview(report: Report) -> bytes:
    rows = report.tables["label_sites"].to_pylist()
    sites = report.tables["sites"]["site"].to_pylist()
    heard = [r["label"] for r in report.tables["labels"].to_pylist() if r["windows_positive"]]
    column, line = ({name: i for i, name in enumerate(names)} for names in (sites, heard))
    values = np.full((len(heard), len(sites)), np.nan)
    for row in rows:
        values[line[row["label"]], column[row["site"]]] = 100 * row["activity"]
    width, height = 3 + 0.2 * min(len(sites), NAMES), 2 + 0.2 * min(len(heard), NAMES)
    figure = new_figure(width, height)
    axes = figure.subplots()
    _image(figure, axes, values, "activity, % of windows", values, power=0.5)
    _named(axes.set_yticks, heard)
    _named(axes.set_xticks, sites, rotation=90)
    return png(figure)


def _label(report: Report, label: dict[str, Any]) -> bytes:
    name = label["label"]
    activity = report.tables["activity"]
    own = activity.filter(pc.equal(activity["label"], name))
    first, windows = _grid(report.tables["hours"], "windows_scored")
    _, positive = _grid(own, "windows_positive", first, windows.shape[1])
    figure = new_figure(8, 6)
    figure.set_layout_engine("constrained")
    figure.suptitle(short(name, LONGEST), parse_math=False)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.3, 1))
    axes = figure.add_subplot(grid[0, :])
    with np.errstate(invalid="ignore"):
        share = 100 * np.where(windows > 0, positive / windows, np.nan)
    _image(figure, axes, np.where(share > 0, share, np.nan), "activity, % of windows", share)
    _hour_axes(axes, first, windows.shape[1])
    _draw_sun(axes, report, first)
    axes = figure.add_subplot(grid[1, 0])
    scored = windows.sum(axis=1)
    grey = " (grey: not scored)" if (scored == 0).any() else ""
    for hour in np.flatnonzero(scored == 0):
        axes.axvspan(hour - 0.5, hour + 0.5, color=NOTHING, linewidth=0)
    with np.errstate(invalid="ignore"):
        axes.bar(range(24), 100 * positive.sum(axis=1) / scored, color=GREEN)
    axes.set(xlabel=f"hour of the day{grey}", ylabel="activity, %", xlim=(-0.6, 23.6))
    axes = figure.add_subplot(grid[1, 1])
    scores = report.tables["scores"]
    found = scores.filter(pc.equal(scores["label"], name)).to_pydict()
    step = found["score_to"][0] - found["score_from"][0]
    axes.bar(found["score_from"], found["detections"], step, align="edge", color=GREEN)
    axes.axvline(label["threshold"], color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="score (dashed: threshold)", ylabel="detections", xlim=(0, 1))
    return png(figure)


def _days(dates: pa.ChunkedArray) -> tuple[date, int]:
    bounds = pc.min_max(dates).as_py()
    return bounds["min"], (bounds["max"] - bounds["min"]).days + 1


def _grid(
    table: pa.Table, column: str, first: date | None = None, days: int = 0
) -> tuple[date, Float64]:
    """The first day, and the sums (24, days) of a column by hour and day."""
    if first is None:
        first, days = _days(pc.cast(table["hour"], pa.date32()))
    at = table["hour"].to_numpy().astype("datetime64[h]").astype(np.int64)
    at -= int(np.datetime64(first, "h").astype(np.int64))
    sums = np.bincount(at, table[column].to_numpy().astype(np.float64), 24 * days)
    return first, sums.reshape(days, 24).T.astype(np.float64)


def _image(
    figure: "Figure", axes: "Axes", values: Float64, what: str, known: Float64, power: float = 1
) -> None:
    """Draws values from 0 on; grey where something is `known` and there is no value.

    Colours go by a power of the values: with 0.5 small ones can be told apart.
    """
    from matplotlib.colors import ListedColormap, PowerNorm

    shape: dict[str, Any] = {"aspect": "auto", "origin": "upper", "interpolation": "nearest"}
    nothing = np.where(np.isnan(known), np.nan, 0.0)
    axes.imshow(nothing, cmap=ListedColormap([NOTHING]), **shape)
    image = axes.imshow(values, cmap=COLOURS, norm=PowerNorm(power, vmin=0), **shape)
    figure.colorbar(image, ax=axes, label=what)


def _named(ticks: Callable[..., object], names: Sequence[str], **more: object) -> None:
    if len(names) <= NAMES:
        ticks(range(len(names)), [short(name, LONGEST) for name in names], parse_math=False, **more)


def _dates(axes: "Axes", first: date, days: int) -> None:
    shown = range(0, days, max(1, -(-days // 7)))
    axes.set_xticks(list(shown), [f"{first + timedelta(days=day):%Y-%m-%d}" for day in shown])
    axes.tick_params(axis="x", labelsize=8)


def _hour_axes(axes: "Axes", first: date, days: int) -> None:
    _dates(axes, first, days)
    axes.set(ylabel="hour of the day", ylim=(-0.5, 23.5))
    axes.set_yticks(range(0, 24, 3))


def _draw_sun(axes: "Axes", report: Report, first: date) -> None:
    if not report.near_each_other:
        return
    rows = {row["date"]: row for row in report.tables["sun"].to_pylist()}
    days = [(day - first).days for day in sorted(rows)]
    for name in ("sunrise_hour", "sunset_hour"):
        # A cell of an hour reaches from half before its number to half after it.
        hours = [np.nan if rows[d][name] is None else rows[d][name] - 0.5 for d in sorted(rows)]
        axes.plot(days, hours, "o" if len(days) == 1 else "-", color=SUN, linewidth=1.5)
