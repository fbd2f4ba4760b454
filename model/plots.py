"""The plots of an evaluation, as PNG; none of them keeps state between two calls."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from model.evaluation import Int64, LabelResult, Result, Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
CURVES = 10
"""Curves that are told apart by colour."""
CELLS = 20
"""Labels up to which a confusion matrix has numbers in its cells."""
NAMES = 60
"""Labels up to which it has names along its sides."""
BINS = 10
LONGEST = 28
"""Characters of a label that are shown."""
GREY = "#999999"


def precision_recall(sample: Sample, result: Result) -> bytes:
    """Precision against recall of each label, with a dot at its threshold.

    With more than `CURVES` labels, those with the highest and the lowest average precision have
    colours, and the others are grey.
    """
    from matplotlib import colormaps
    from sklearn.metrics import precision_recall_curve

    places = [i for i, each in enumerate(result.labels) if each.average_precision is not None]
    places.sort(key=lambda i: -(result.labels[i].average_precision or 0.0))
    half = CURVES // 2
    named = places if len(places) <= CURVES else places[:half] + places[-half:]
    figure = new_figure(6, 4.8)
    axes = figure.subplots()
    colours = colormaps["tab10"]
    handles = []
    for i in [*(i for i in places if i not in named), *named]:
        used = sample.known[:, i]
        precision, recall, _ = precision_recall_curve(
            sample.truth[used, i], sample.scores[used, i], drop_intermediate=True
        )
        if i not in named:
            axes.plot(recall, precision, color=GREY, alpha=0.3, linewidth=0.7, ds="steps-post")
            continue
        colour = colours(named.index(i))
        (line,) = axes.plot(recall, precision, color=colour, linewidth=1.5, ds="steps-post")
        handles.append(line)
        each = result.labels[i]
        if each.precision is not None and each.recall is not None:
            axes.plot(each.recall, each.precision, "o", color=colour, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    texts = [_curve_name(result.labels[i]) for i in named]
    if handles:
        title = "average precision"
        if len(named) < len(places):
            title += f"\n({half} highest, {half} lowest)"
        legend = axes.legend(
            handles,
            texts,
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            frameon=False,
            alignment="left",
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    _grid(axes)
    return png(figure)


def confusion_matrix(confusion: Int64, rows: Sequence[str], columns: Sequence[str]) -> bytes:
    """Shares of each true label (rows) by top label (columns); numbers are counts."""
    counts = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, counts, out=np.zeros(confusion.shape), where=counts > 0)
    size = float(np.clip(0.42 * len(columns), 2.6, 10))
    figure = new_figure(size + 1.2, size * len(rows) / len(columns) + 0.6)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(columns) <= NAMES:
        small = 8 if len(columns) <= CELLS else 6
        style: dict[str, Any] = {"fontsize": small, "parse_math": False}
        axes.set_xticks(range(len(columns)), list(map(_short, columns)), rotation=90, **style)
        axes.set_yticks(range(len(rows)), list(map(_short, rows)), **style)
    else:
        axes.set(xticks=[], yticks=[])
    if len(columns) <= CELLS:
        for i, j in np.argwhere(confusion > 0):
            colour = "white" if shares[i, j] > 0.6 else "black"
            text = f"{confusion[i, j]}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axes.tick_params(length=0)
    axes.set(xlabel="top label of the bundle", ylabel="label of the annotations")
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03, label="share of the row")
    return png(figure)


def reliability(sample: Sample) -> bytes:
    """Share of positives against the score, over all labels together, and how many there are."""
    from sklearn.calibration import calibration_curve

    width = len(sample.labels)
    truth, scores = sample.truth[sample.known], sample.scores[:, :width][sample.known]
    share, mean = calibration_curve(truth, scores, n_bins=BINS, strategy="uniform")
    figure = new_figure(5, 5.6)
    upper, lower = figure.subplots(
        2, 1, sharex=True, height_ratios=[3, 1], gridspec_kw={"hspace": 0.08}
    )
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    upper.plot(mean, share, "o-", color="C0", clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that holds the label")
    lower.hist(scores, bins=BINS, range=(0, 1), color="C0", log=True, rwidth=0.95)
    lower.set(xlabel="score", ylabel="scores")
    _grid(upper)
    _grid(lower)
    return png(figure)


def training_curves(histories: Sequence[Sequence[dict[str, Any]]]) -> bytes:
    """Losses of each network by epoch, and what was measured on validation."""
    from matplotlib.ticker import MaxNLocator

    names = {name for history in histories for entry in history for name in entry}
    judged = any(name.startswith("val_") for name in names)
    figure = new_figure(9 if judged else 4.5, 3.6)
    panels = figure.subplots(1, 1 + judged, squeeze=False, gridspec_kw={"wspace": 0.28})[0]
    styles = {
        "loss": (panels[0], ":"),
        "val_loss": (panels[0], "-"),
        "val_macro_average_precision": (panels[-1], "-"),
        "val_accuracy": (panels[-1], "--"),
    }
    for i, history in enumerate(histories):
        for key, (axes, style) in styles.items():
            points = [(e["epoch"], e[key]) for e in history if e.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=f"C{i % 10}", linewidth=1.3)
    panels[0].set(xlabel="epoch", ylabel="loss (dotted: training)" if judged else "training loss")
    if judged:
        panels[1].set(xlabel="epoch", ylabel="average precision", ylim=(0, 1))
    if "val_accuracy" in names:
        panels[1].set_ylabel("average precision (dashed: accuracy)")
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _grid(axes)
    return png(figure)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that no other call knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _grid(axes: Any) -> None:
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _curve_name(each: LabelResult) -> str:
    return f"{each.average_precision:.3f}  {_short(each.label)}"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def png(figure: "Figure") -> bytes:
    """A figure as a PNG, cut to what is drawn."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A font without the signs of some script shows boxes; the page has the names.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight")
    return content.getvalue()
