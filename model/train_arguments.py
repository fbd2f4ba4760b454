"""The options of training on the command line, without TensorFlow."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from model.architecture_options import add_architecture_options, architecture_of
from model.augmentation_options import add_augmentation_options, augmentation_of
from model.rejection_options import add_rejection_options, rejection_of

if TYPE_CHECKING:
    from model.frontend import FrontEnd
    from model.train_options import TrainOptions


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options that `train_options_of` reads, but for the bundle's place."""
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
    add(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder of spectrograms and checkpoints, kept for later use (default: beside the "
        "output, removed at the end); the same command after a kill goes on from them",
    )

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

    network = parser.add_argument_group("network")
    add_architecture_options(network)

    split = parser.add_argument_group("division of the recordings").add_argument
    split("--hop", type=float, metavar="S", help="seconds between windows (default: the window)")
    split(
        "--group-by",
        metavar="COLUMN|REGEX",
        help="what is kept together: a column of the annotations, or a pattern in the "
        "recording's path (default: the recording)",
    )
    split(
        "--validation",
        type=float,
        default=0.2,
        metavar="F",
        help="share that decides when training stops (default: 0.2; 0: none, all epochs)",
    )
    split(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="N networks, each validated on another Nth, whose scores are averaged (default: one "
        "network)",
    )
    split(
        "--networks",
        type=int,
        default=1,
        metavar="N",
        help="networks that differ in their seed alone, whose scores are averaged (default: 1)",
    )
    split(
        "--holdout",
        type=float,
        default=0.0,
        metavar="F",
        help="share that no network has anything of, for metrics and thresholds (default: 0)",
    )

    fit = parser.add_argument_group("training").add_argument
    fit("--epochs", type=int, default=100, metavar="N", help="at most (default: 100)")
    fit(
        "--patience",
        type=_patience,
        default=20,
        metavar="N|none",
        help="epochs without a lower validation loss before training stops (default: 20)",
    )
    fit("--learning-rate", type=float, default=1e-3, metavar="R", help="Adam's (default: 0.001)")
    fit(
        "--schedule",
        choices=("constant", "cosine"),
        default="cosine",
        help="the rate's course: rising and then falling to 0 as a cosine (default), or constant",
    )
    fit("--weight-decay", type=float, default=0.0, metavar="D", help="AdamW's (default: 0)")
    fit("--batch-size", type=int, default=32, metavar="N", help="windows (default: 32)")
    fit(
        "--fine-tune",
        type=int,
        default=10,
        metavar="N",
        help="epochs of a whole backbone, after those of its head (default: 10; 0: stays frozen)",
    )
    fit(
        "--fine-tune-rate",
        type=float,
        metavar="R",
        help="learning rate of these (default: a tenth)",
    )
    fit(
        "--training-precision",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
        default="auto",
        help="auto (default): Keras's mixed_float16 on a GPU, else float32",
    )
    fit("--seed", type=int, default=1, metavar="N", help="default: 1")

    add_augmentation_options(parser.add_argument_group("augmentation"))

    after = parser.add_argument_group("scores and thresholds").add_argument
    after(
        "--threshold-goal",
        default="f1",
        metavar="GOAL",
        help="what thresholds are chosen for: f1 (default), f0.5 or another F-beta, or a "
        "precision such as precision=0.9",
    )
    after(
        "--calibrate",
        choices=("none", "platt", "isotonic", "temperature"),
        default="none",
        help="make scores probabilities on the hold-out: platt or isotonic (multilabel), "
        "temperature (singlelabel; default: none)",
    )

    add_rejection_options(parser)


def front_end_of(args: argparse.Namespace) -> "FrontEnd":
    """The front end of a parsed command line; UserError for values out of range."""
    from dataclasses import replace

    from model.frontend import FrontEnd, default_hop_length

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
    if hop_length is not None:
        return front_end
    # Only now: the default follows from rate and window, which had to be checked first.
    return replace(front_end, hop_length=default_hop_length(args.sample_rate, args.window))


def train_options_of(args: argparse.Namespace, output: str) -> "TrainOptions":
    """The options of a parsed command line; UserError for values out of range."""
    from model.fitting import FitOptions
    from model.member_fitting import Recipe
    from model.threshold_facts import Goal
    from model.train_options import TrainOptions

    fit = FitOptions(
        epochs=args.epochs,
        patience=args.patience,
        learning_rate=args.learning_rate,
        schedule=args.schedule,
        weight_decay=args.weight_decay,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    recipe = Recipe(
        architecture=architecture_of(args),
        fit=fit,
        augmentation=augmentation_of(args),
        fine_tune=args.fine_tune,
        fine_tune_rate=args.fine_tune_rate,
        precision=args.training_precision,
    )
    method, share = rejection_of(args)
    return TrainOptions(
        audio=args.audio,
        annotations=args.annotations,
        output=output,
        label_column=args.label_column,
        label_map=args.label_map,
        unannotated=args.unannotated,
        task=args.task,
        front_end=front_end_of(args),
        hop_s=args.hop,
        group_by=args.group_by,
        holdout=args.holdout,
        validation=args.validation,
        folds=args.folds,
        networks=args.networks,
        recipe=recipe,
        threshold_goal=Goal.parse(args.threshold_goal),
        calibrate=args.calibrate,
        reject=method,
        reject_share=share,
        background=args.background,
        work=args.work,
    )


def _db_ref(text: str) -> float | str:
    return text if text == "max" else _float(text, "max")


def _top_db(text: str) -> float | None:
    return None if text == "none" else _float(text, "none")


def _float(text: str, word: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {word} nor a number") from None


def _patience(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither none nor a number") from None
