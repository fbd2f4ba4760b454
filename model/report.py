"""The page of an evaluation: one HTML file with tables and plots, which needs nothing else."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from model.bootstrap import Interval
from model.evaluation import LabelResult, Level, largest_confusions
from model.event_evaluation import EventResult, LabelEvents
from model.plots import DPI
from model.promises import Promise, Promises
from model.threshold_facts import Data

CONFUSIONS = 15
"""Mistakes that are listed below a confusion matrix."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin-bottom: 0.3rem; }
p.about { color: #555; margin-top: 0.2rem; }
.warnings { background: #fff6dd; border-left: 4px solid #e0a800; padding: 0.5rem 1rem; }
.warnings p { margin: 0.3rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.45rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #999; vertical-align: bottom; font-weight: 600; }
td { border-bottom: 1px solid #eee; }
th.left, td.left { text-align: left; }
td.left { max-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
tr.mean td { border-top: 2px solid #999; font-weight: 600; }
td small { color: #666; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
dt { font-weight: 600; }
dd { margin: 0 0 0.5rem 0; }
.note { color: #555; font-size: 0.875rem; }
"""

MEANINGS = {
    "average precision (AP)": "how well the scores rank windows with the label before those "
    "without it, whatever the threshold; 1 is perfect. Chance is what random scores tend to: the "
    "share of windows that hold the label.",
    "ROC AUC": "the probability that a window with the label scores higher than one without it; "
    "0.5 is chance.",
    "reported": "windows whose score is at or above the bundle's threshold of the label.",
    "precision, recall, F1": "the share of reported windows that hold the label, the share of "
    "those holding it that are reported, and their harmonic mean.",
    "accuracy": "the share of all windows (or clips) whose top label is right.",
    "category-weighted accuracy": "the mean over labels of each one's share of right top labels, "
    "so that rare labels count as much as common ones (so we read Morgan & Braasch 2021; also "
    "known as balanced accuracy).",
    "interval": "the middle 95 % of the results of 1,000 draws of as many groups, with "
    "replacement. It says how far the result would vary with other groups of the same kind; with "
    "fewer than about ten groups it is too narrow.",
    "mean": "over the labels that have a value; labels without a positive window are in none.",
}
THRESHOLD_MEANINGS = {
    "promised precision": "the precision at the threshold on the windows by which the bundle's "
    "thresholds were chosen, with its 95 % interval, at the prevalence (the share of windows with "
    "the label) that these had. Where a label is rarer, more of what is reported is wrong: "
    "expected is the precision that the same rates of right and wrong reports give here.",
}
CHOSEN_ON: dict[Data, str] = {
    "holdout": "on recordings that were held out of the training",
    "verified": "on detections that a person verified",
    "validation": "on the recordings that also decided when training stopped: a guide, no promise",
    "out_of_fold": "on scores of single networks, not of their mean: a guide, no promise",
    "nothing": "on nothing, because no recordings were held out: no promise",
}
EVENT_MEANINGS = {
    "events": "runs of time in which the score stays at or above the threshold. An event is right "
    "if it can be paired with an annotated one so that what they share is at least the overlap's "
    "part of what they cover together.",
    "frame F1": "agreement in seconds, whatever events they are cut into.",
    "ceiling": "what windows of this length and hop reach that are right without exception: "
    "events can only be as exact as the windows.",
}


@dataclass(frozen=True)
class Page:
    """What the page shows. `plots` are PNGs by title for each noun of the levels, and training."""

    title: str
    about: tuple[str, ...]
    warnings: Sequence[str]
    levels: Sequence[Level]
    promises: Promises | None
    events: EventResult | None
    plots: Mapping[str, Mapping[str, bytes]]
    files: Sequence[str]


def render(page: Page) -> str:
    """The page as HTML; every text from outside is escaped."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(page.title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(page.title)}</h1>",
        *(f'<p class="about">{escape(line)}</p>' for line in page.about),
    ]
    if page.warnings:
        lines = "".join(f"<p>{escape(line)}</p>" for line in page.warnings)
        parts.append(f'<div class="warnings">{lines}</div>')
    parts.append(_overview(page))
    for level in page.levels:
        parts += _level(level, page.plots[level.noun])
    if page.promises is not None:
        parts += _promises(page.promises)
    if page.events is not None:
        parts += _events(page.events)
    if "training" in page.plots:
        parts += ["<h2>Training</h2>", *_plots(page.plots["training"])]
    meanings = MEANINGS | (THRESHOLD_MEANINGS if page.promises is not None else {})
    meanings |= EVENT_MEANINGS if page.events is not None else {}
    parts.append("<h2>What the words mean</h2><dl>")
    parts += [f"<dt>{escape(w)}</dt><dd>{escape(text)}</dd>" for w, text in meanings.items()]
    parts.append("</dl><h2>Files beside this page</h2><ul>")
    parts += [f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in page.files]
    return "\n".join([*parts, "</ul>", "</body>", "</html>", ""])


def number(value: float | None) -> str:
    """A metric with three digits, or a dash where it has no meaning."""
    return "–" if value is None else f"{value:.3f}"


def _overview(page: Page) -> str:
    """The means of each level side by side."""
    columns = []
    for level in page.levels:
        r = level.result
        column = {
            "average precision": _with(r.average_precision, r.average_precision_interval),
            "average precision of chance": number(r.chance),
            "ROC AUC": number(r.roc_auc),
            "precision at the thresholds": number(r.precision),
            "recall at the thresholds": number(r.recall),
            "F1 at the thresholds": number(r.f1),
        }
        if r.top is not None:
            top = r.top
            column |= {
                "accuracy": _with(top.accuracy, top.accuracy_interval),
                "category-weighted accuracy": _with(
                    top.category_weighted, top.category_weighted_interval
                ),
                "F1 of the top label": number(top.f1),
            }
        columns.append(column)
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    header = ["mean over labels", *(f"{level.noun}s" for level in page.levels)]
    return "<h2>Result</h2>" + _table(header, rows)


def _level(level: Level, plots: Mapping[str, bytes]) -> list[str]:
    result = level.result
    noun = level.noun
    parts = [f"<h2>{noun.capitalize()}s</h2>"]
    parts.append(f'<p class="note">{result.windows:,} {noun}s in {result.groups:,} groups.</p>')
    header = [
        "label", f"{noun}s", "positives", "AP", "interval", "chance", "ROC AUC",
        "threshold", "reported", "precision", "recall", "F1",
    ]  # fmt: skip
    rows = [_label_cells(each) for each in result.labels]
    mean = [
        "mean", "", "", number(result.average_precision),
        _interval(result.average_precision_interval), number(result.chance),
        number(result.roc_auc), "", "", number(result.precision), number(result.recall),
        number(result.f1),
    ]  # fmt: skip
    parts += [_table(header, rows, mean), *_plots(plots)]
    if result.top is not None:
        sample = level.sample
        wrong = largest_confusions(result.top.confusion, CONFUSIONS)
        counts = result.top.confusion.sum(axis=1)
        lines = [
            [escape(sample.labels[i]), escape(sample.outputs[j]), f"{n:,}", f"{n / counts[i]:.1%}"]
            for i, j, n in wrong
        ]
        if lines:
            parts.append("<h3>Commonest mistakes</h3>")
            parts.append(
                _table(["label", "taken for", f"{noun}s", "share of the label"], lines, left=2)
            )
    return parts


def _label_cells(each: LabelResult) -> list[str]:
    return [
        escape(each.label),
        f"{each.windows:,}",
        f"{each.positives:,}",
        number(each.average_precision),
        _interval(each.average_precision_interval),
        number(each.chance),
        number(each.roc_auc),
        f"{each.threshold:.2f}",
        f"{each.reported:,}",
        number(each.precision),
        number(each.recall),
        number(each.f1),
    ]


def _promises(promises: Promises) -> list[str]:
    facts = promises.facts
    note = f"Chosen for {facts.goal}, {CHOSEN_ON[facts.data]}. Found: on the windows of this page."
    header = [
        "label", "threshold", "promised precision", "interval", "prevalence", "expected here",
        "found precision", "interval", "prevalence",
    ]  # fmt: skip
    rows = [_promise_cells(each) for each in promises.labels]
    both = [
        (each.expected, each.found.precision)
        for each in promises.labels
        if each.expected is not None and each.found.precision is not None
    ]
    means = [number(sum(values) / len(both)) for values in zip(*both, strict=True)] or ["–", "–"]
    mean = ["mean", "", "", "", "", means[0], means[1], "", ""]
    return ["<h2>Thresholds</h2>", f'<p class="note">{note}</p>', _table(header, rows, mean)]


def _promise_cells(each: Promise) -> list[str]:
    promised, found = each.promised, each.found
    return [
        escape(each.label),
        f"{each.threshold:.2f}",
        number(promised.precision) + ("" if promised.reached else " <small>(not reached)</small>"),
        _interval(promised.precision_interval),
        number(promised.prevalence),
        number(each.expected),
        number(found.precision),
        _interval(found.precision_interval),
        number(found.prevalence),
    ]


def _events(events: EventResult) -> list[str]:
    rule = events.rule
    note = (
        f"Events: gaps up to {rule.merge_gap_s:g} s merged, at least {rule.min_duration_s:g} s "
        f"long, right at an overlap of {events.overlap:g}. In brackets the ceiling."
    )
    header = [
        "label", "annotated", "found", "right", "precision", "recall", "event F1", "frame F1"
    ]  # fmt: skip
    rows = [_event_cells(each) for each in events.labels]
    means = [
        _ceiling(events.mean_f1(a), events.mean_f1(b))
        for a, b in (("events", "ceiling_events"), ("frames", "ceiling_frames"))
    ]
    mean = ["mean", "", "", "", "", "", *means]
    return [
        "<h2>Events in time</h2>",
        f'<p class="note">{escape(note)}</p>',
        _table(header, rows, mean),
    ]


def _event_cells(each: LabelEvents) -> list[str]:
    model, best = each.events, each.ceiling_events
    return [
        escape(each.label),
        f"{model.annotated:,}",
        f"{model.predicted:,}",
        f"{model.both:,}",
        _ceiling(model.precision, best.precision),
        _ceiling(model.recall, best.recall),
        _ceiling(model.f1, best.f1),
        _ceiling(each.frames.f1, each.ceiling_frames.f1),
    ]


def _plots(plots: Mapping[str, bytes]) -> Iterable[str]:
    for title, content in plots.items():
        data = base64.b64encode(content).decode()
        # A PNG's bytes 16 to 20 are its width; screens have 96 dots where the plot has more.
        width = int.from_bytes(content[16:20]) * 96 // DPI
        yield f'<h3>{escape(title)}</h3><img alt="{escape(title)}" width="{width}" '
        yield f'src="data:image/png;base64,{data}">'


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    mean: Sequence[str] | None = None,
    left: int = 1,
) -> str:
    """A table of cells that are HTML already, the first `left` columns flush left."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="left">{cell}</{tag}>' if i < left else f"<{tag}>{cell}</{tag}>"
            for i, cell in enumerate(row)
        )

    lines = [f"<tr>{cells(row, 'td')}</tr>" for row in rows]
    if mean is not None:
        lines.append(f'<tr class="mean">{cells(mean, "td")}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{cells(header, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _interval(bounds: Interval | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _with(value: float | None, bounds: Interval | None) -> str:
    text = number(value)
    return text if bounds is None else f"{text} <small>({_interval(bounds)})</small>"


def _ceiling(value: float | None, best: float | None) -> str:
    shown = value is not None or best is not None
    return f"{number(value)} <small>({number(best)})</small>" if shown else number(None)
