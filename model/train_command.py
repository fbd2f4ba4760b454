"""`dawnchorus train`: from annotated recordings to a bundle."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.training import TrainOptions

HELP = "train a network on annotated recordings and write it as a bundle"
EXAMPLE = """example:
  dawnchorus train --audio recordings --annotations recordings --output birds.bundle \\
      --window 3 --group-by site
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `dawnchorus train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--audio", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    add(
        "--annotations",
        type=Path,
        required=True,
        metavar="DIR_OR_FILE",
        help="Raven selection tables (their folder, or one), a CSV (file, start, end, label; "
        "or file, label for whole clips), or a folder with one subfolder of audio per class",
    )
    add("--output", required=True, metavar="BUNDLE", help="new folder (or URL) of the bundle")

    labels = parser.add_argument_group("labels").add_argument
    labels(
        "--label-column",
        metavar="NAME",
        help="column of the labels (default: Annotation, Species or Label)",
    )
    labels(
        "--label-map",
        type=Path,
        metavar="CSV",
        help="columns label and new_label: renames, merges or (empty) ignores labels",
    )
    labels(
        "--unannotated",
        choices=("skip", "negative"),
        default="skip",
        help="recordings without a table or row: left out, or taken to hold no label "
        "(default: skip)",
    )
    labels(
        "--task",
        choices=("multilabel", "singlelabel"),
        help="default: singlelabel if all are whole clips with one label each",
    )

    front = parser.add_argument_group("front end (names as in librosa)").add_argument
    front("--sample-rate", type=int, default=16_000, metavar="HZ", help="default: 16000")
    front("--window", type=float, default=8.0, metavar="S", help="seconds (default: 8)")
    front("--n-fft", type=int, default=1024, metavar="N", help="samples (default: 1024)")
    front(
        "--hop-length",
        type=int,
        metavar="N",
        help="samples (default: 512, shorter where a window would have fewer than 128 frames)",
    )
    front("--n-mels", type=int, default=128, metavar="N", help="default: 128")
    front("--fmin", type=float, default=0.0, metavar="HZ", help="default: 0")
    front("--fmax", type=float, metavar="HZ", help="default: half the sample rate")
    front(
        "--db-ref",
        type=_db_ref,
        default="max",
        metavar="max|POWER",
        help="power of 0 dB: each window's maximum, or a number (default: max)",
    )
    front(
        "--top-db",
        type=_top_db,
        default=80.0,
        metavar="DB|none",
        help="range kept below a window's maximum (default: 80)",
    )

    fit = parser.add_argument_group("training").add_argument
    fit("--hop", type=float, metavar="S", help="seconds between windows (default: the window)")
    fit(
        "--group-by",
        metavar="COLUMN|REGEX",
        help="what validation keeps together: a column of the annotations, or a pattern in the "
        "recording's path (default: the recording)",
    )
    fit("--validation", type=float, default=0.2, metavar="F", help="fraction (default: 0.2)")
    fit(
        "--filters",
        type=_filters,
        default=(64, 64, 128, 128),
        metavar="N,...",
        help="of each convolution (default: 64,64,128,128)",
    )
    fit("--epochs", type=int, default=100, metavar="N", help="at most (default: 100)")
    fit(
        "--patience",
        type=int,
        default=10,
        metavar="N",
        help="epochs without a lower validation loss before training stops (default: 10)",
    )
    fit("--learning-rate", type=float, default=1e-4, metavar="X", help="Adam's (default: 1e-4)")
    fit("--batch-size", type=int, default=32, metavar="N", help="windows (default: 32)")
    fit("--seed", type=int, default=1, metavar="N", help="default: 1")


def run(args: argparse.Namespace) -> int:
    """Trains, writes the bundle and prints a summary; the exit status."""
    from model.training import train

    bundle = train(make_options(args))
    print(summarise(bundle))
    return 0


def make_options(args: argparse.Namespace) -> "TrainOptions":
    """The options of a parsed command line; UserError for values out of range."""
    from model.frontend import FrontEnd, default_hop_length
    from model.training import TrainOptions

    hop_length = args.hop_length
    front_end = FrontEnd(
        sample_rate=args.sample_rate,
        window_s=args.window,
        n_fft=args.n_fft,
        hop_length=1 if hop_length is None else hop_length,
        n_mels=args.n_mels,
        fmin=args.fmin,
        fmax=args.fmax,
        db_ref=args.db_ref,
        top_db=args.top_db,
    )
    if hop_length is None:
        # Only now: the default follows from rate and window, which had to be checked first.
        from dataclasses import replace

        hop_length = default_hop_length(args.sample_rate, args.window)
        front_end = replace(front_end, hop_length=hop_length)
    return TrainOptions(
        audio=args.audio,
        annotations=args.annotations,
        output=args.output,
        label_column=args.label_column,
        label_map=args.label_map,
        unannotated=args.unannotated,
        task=args.task,
        front_end=front_end,
        hop_s=args.hop,
        group_by=args.group_by,
        validation=args.validation,
        filters=args.filters,
        epochs=args.epochs,
        patience=args.patience,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        seed=args.seed,
    )


def summarise(bundle: "Bundle") -> str:
    """What was learnt, as lines: each label's counts, average precision and threshold."""
    metrics = bundle.provenance["metrics"]
    width = max(5, *(len(label) for label in bundle.labels))
    head = f"{'label':<{width}}  {'training':>8}  {'validation':>10}  {'AP':>5}  {'chance':>6}"
    lines = [head + "  threshold"]
    for label in bundle.labels:
        precision = metrics["average_precision"][label]
        chance = metrics["average_precision_of_chance"][label]
        lines.append(
            f"{label:<{width}}  {metrics['training_examples'][label]:>8}  "
            f"{metrics['validation_examples'][label]:>10}  {_number(precision):>5}  "
            f"{_number(chance):>6}  {bundle.thresholds[label]:>9.2f}"
        )
    summary = f"macro average precision on validation {_number(metrics['macro_average_precision'])}"
    if "accuracy" in metrics:
        summary += f", accuracy of the top label {_number(metrics['accuracy'])}"
    lines.append(f"{summary}; epoch {metrics['best_epoch']} of {metrics['epochs']} kept")
    lines.append(f"bundle: {bundle.path}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _db_ref(text: str) -> float | str:
    return text if text == "max" else _float(text, "max")


def _top_db(text: str) -> float | None:
    return None if text == "none" else _float(text, "none")


def _float(text: str, word: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {word} nor a number") from None


def _filters(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers split by commas") from None
