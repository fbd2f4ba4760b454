"""`dawnchorus evaluate`: what a bundle is worth on annotated sound."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model.runtime import Engine, Precision

if TYPE_CHECKING:
    from model.evaluating import EvaluateOptions, Evaluation

EXAMPLE = """example:
  dawnchorus evaluate --model birds.bundle --audio elsewhere --annotations elsewhere \\
      --output evaluation --hop 1 --group-by site
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `dawnchorus evaluate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--model", required=True, metavar="BUNDLE", help="bundle: folder or URL")
    add("--audio", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    add(
        "--annotations",
        type=Path,
        required=True,
        metavar="DIR_OR_FILE",
        help="what is in them: the same kinds of tables as for training",
    )
    add("--output", type=Path, required=True, metavar="FOLDER", help="new folder of the results")

    labels = parser.add_argument_group("labels, as for training").add_argument
    labels("--label-column", metavar="NAME", help="default: Annotation, Species or Label")
    labels("--label-map", type=Path, metavar="CSV", help="columns label and new_label")
    labels(
        "--unannotated",
        choices=("skip", "negative"),
        default="skip",
        help="recordings without a table or row (default: skip)",
    )

    how = parser.add_argument_group("windows and groups").add_argument
    how("--hop", type=float, metavar="S", help="seconds between windows (default: the window)")
    how(
        "--group-by",
        metavar="COLUMN|REGEX",
        help="what the intervals draw as one: a column of the annotations, or a pattern in the "
        "recording's path (default: the recording)",
    )

    events = parser.add_argument_group("events, of annotations with times").add_argument
    events("--merge-gap", type=float, default=0.0, metavar="S", help="gaps to close (default: 0)")
    events("--min-duration", type=float, default=0.0, metavar="S", help="shortest (default: 0)")
    events(
        "--overlap",
        type=float,
        default=0.5,
        metavar="F",
        help="shared part of two events that match: intersection over union (default: 0.5)",
    )
    events(
        "--centre",
        action="store_true",
        help="a moment has the score of the window whose centre is nearest, not the mean of all "
        "that cover it",
    )

    engine = parser.add_argument_group("engine").add_argument
    engine("--engine", choices=get_args(Engine), default="tensorflow", help="default: tensorflow")
    engine("--precision", choices=get_args(Precision), default="float32", help="default: float32")


def run(args: argparse.Namespace) -> int:
    """Evaluates, writes the results and prints a summary; the exit status."""
    from model.evaluating import evaluate_bundle, write_evaluation

    options = make_options(args)
    evaluation = evaluate_bundle(options, _report, show_progress=sys.stderr.isatty())
    page = write_evaluation(evaluation, options.output)
    print(summarise(evaluation))
    print(f"page: {page}")
    return 0


def make_options(args: argparse.Namespace) -> "EvaluateOptions":
    """The options of a parsed command line; UserError for values out of range."""
    from model.evaluating import EvaluateOptions
    from model.events import EventRule

    return EvaluateOptions(
        model=args.model,
        audio=args.audio,
        annotations=args.annotations,
        output=args.output,
        label_column=args.label_column,
        label_map=args.label_map,
        unannotated=args.unannotated,
        hop_s=args.hop,
        group_by=args.group_by,
        rule=EventRule(args.merge_gap, args.min_duration, args.centre),
        overlap=args.overlap,
        engine=args.engine,
        precision=args.precision,
    )


def summarise(evaluation: "Evaluation") -> str:
    """What was found, as lines: each label's metrics, then the means with their intervals."""
    result = evaluation.levels[0].result
    noun = evaluation.levels[0].noun
    width = max(5, *(len(each.label) for each in result.labels))
    lines = [
        f"{'label':<{width}}  {noun + 's':>8}  positives  {'AP':>5}  {'chance':>6}  ROC AUC  "
        f"precision  recall  {'F1':>5}"
    ]
    for each in result.labels:
        lines.append(
            f"{each.label:<{width}}  {each.windows:>8}  {each.positives:>9}  "
            f"{_number(each.average_precision):>5}  {_number(each.chance):>6}  "
            f"{_number(each.roc_auc):>7}  {_number(each.precision):>9}  "
            f"{_number(each.recall):>6}  {_number(each.f1):>5}"
        )
    for level in evaluation.levels:
        found = level.result
        text = f"{level.noun}s: macro average precision {_number(found.average_precision)}"
        lines.append(text + _interval(found.average_precision_interval))
        if found.top is not None:
            lines.append(
                f"{level.noun}s: accuracy {_number(found.top.accuracy)}"
                f"{_interval(found.top.accuracy_interval)}, category-weighted "
                f"{_number(found.top.category_weighted)}"
                f"{_interval(found.top.category_weighted_interval)}, F1 {found.top.f1:.3f}"
            )
    if evaluation.events is not None:
        mean = evaluation.events.mean_f1
        lines.append(
            f"events: F1 {_number(mean('events'))} at an overlap of "
            f"{evaluation.events.overlap:g}, frame F1 {_number(mean('frames'))}; perfect windows "
            f"reach {_number(mean('ceiling_events'))} and {_number(mean('ceiling_frames'))}"
        )
    return "\n".join(lines)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" ({bounds[0]:.3f} to {bounds[1]:.3f})"
