"""`dawnchorus train`: from annotated recordings to a bundle."""

import argparse
from typing import TYPE_CHECKING, Any

from model.train_arguments import add_train_arguments, train_options_of

if TYPE_CHECKING:
    from model.bundle import Bundle

HELP = "train a network on annotated recordings and write it as a bundle"
EXAMPLE = """example:
  dawnchorus train --audio recordings --annotations recordings --output birds.bundle \\
      --window 3 --group-by site
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `dawnchorus train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    add_train_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="BUNDLE", help="new folder (or URL) of the bundle"
    )


def run(args: argparse.Namespace) -> int:
    """Trains, writes the bundle and prints a summary; the exit status."""
    options = train_options_of(args, args.output)
    from model.training import train

    print(summarise(train(options)))
    return 0


NAMES = {
    "holdout": "held out",
    "validation": "validation",
    "out_of_fold": "out of fold",
    "nothing": "unseen",
}
"""What to call the windows that metrics are of."""


def summarise(bundle: "Bundle") -> str:
    """What was learnt, as lines: each label's counts, average precision and threshold."""
    metrics = bundle.provenance["metrics"]
    name = NAMES[metrics["data"]]
    width = max(5, *(len(label) for label in bundle.labels))
    head = f"{'label':<{width}}  {'training':>8}  {name:>11}  {'AP':>5}  {'chance':>6}"
    lines = [head + "  threshold"]
    for label in bundle.labels:
        precision = metrics["average_precision"][label]
        chance = metrics["average_precision_of_chance"][label]
        lines.append(
            f"{label:<{width}}  {metrics['training_examples'][label]:>8}  "
            f"{metrics['examples'][label]:>11}  {_number(precision):>5}  "
            f"{_number(chance):>6}  {bundle.thresholds[label]:>9.2f}"
        )
    lines.append(_scores(metrics, name))
    if metrics["data"] == "holdout" and "out_of_fold" in metrics:
        lines.append(_scores(metrics["out_of_fold"], "out of fold, single networks"))
    kept = [f"{one['best_epoch']} of {one['epochs']}" for one in metrics["networks"]]
    lines.append(f"epoch{'s' if len(kept) > 1 else ''} kept: {', '.join(kept)}")
    lines.append(f"bundle: {bundle.path}")
    return "\n".join(lines)


def _scores(metrics: "dict[str, Any]", name: str) -> str:
    text = f"macro average precision ({name}) {_number(metrics['macro_average_precision'])}"
    if metrics.get("accuracy") is not None:
        text += f", accuracy of the top label {_number(metrics['accuracy'])}"
    return text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
