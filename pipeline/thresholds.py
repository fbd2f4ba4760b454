"""Thresholds: from which score on a label counts, of a bundle or as given."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.bundle_document import RESERVED_LABEL, UNKNOWN_THRESHOLD
from model.errors import UserError
from pipeline.text import listed, printable

if TYPE_CHECKING:
    from model.bundle import Bundle
    from pipeline.dataset import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--threshold` and `--thresholds`."""
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="X|LABEL=X",
        help="threshold of all labels or of one; may be repeated (default: the bundle's)",
    )
    parser.add_argument(
        "--thresholds", metavar="BUNDLE", help="take the thresholds from another bundle"
    )


def thresholds_of(
    dataset: "Dataset", args: argparse.Namespace
) -> tuple[dict[str, float], str | None]:
    """The threshold of each label, as the options (`add_arguments`) or else the bundle say.

    With a sentence on what is known of them; None where nothing of a bundle is left in them.
    """
    identity = dataset.identity
    bundle = _bundle_of(dataset, args)
    stored = bundle.thresholds if bundle is not None else None
    limits = resolve_thresholds(identity["task"], identity["labels"], stored, args.threshold)
    if bundle is not None:
        named = {text.rpartition("=")[0] for text in args.threshold}
        given = {label: limits[label] for label in identity["labels"] if label in named}
        return limits, threshold_note(bundle, identity["score_fingerprint"], given)
    return limits, None


def _bundle_of(dataset: "Dataset", args: argparse.Namespace) -> "Bundle | None":
    """The bundle whose thresholds the options (`add_arguments`) leave standing, if any."""
    from model.bundle import load_bundle

    # A number alone stands for the thresholds of all labels.
    if not all("=" in text for text in args.threshold):
        return None
    if args.thresholds is not None:
        return load_bundle(args.thresholds)
    return None if dataset.identity["task"] == "singlelabel" else dataset.bundle()


def resolve_thresholds(
    task: str, labels: Sequence[str], stored: Mapping[str, float] | None, given: Iterable[str]
) -> dict[str, float]:
    """The threshold of each label: the `stored` ones of a bundle, changed by the `given`.

    `given` are texts such as "0.5" (all labels) and "LABEL=0.5", the latter stronger wherever
    they stand. Without stored ones single-label bundles have 0: their top label counts; `unknown`
    has that of rejecters. Raises UserError for a label or a number that cannot be read.
    """
    thresholds = dict.fromkeys(labels, 0.0) if task == "singlelabel" else {}
    if RESERVED_LABEL in labels:
        thresholds[RESERVED_LABEL] = UNKNOWN_THRESHOLD
    thresholds.update({k: v for k, v in (stored or {}).items() if k in labels})
    named: dict[str, float] = {}
    for text in given:
        label, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(
                f"--threshold {text} is neither a number nor LABEL=NUMBER, such as 0.5."
            ) from None
        if not equals:
            thresholds.update(dict.fromkeys(labels, value))
        elif label not in labels:
            raise UserError(
                f"--threshold {text} names no label of the dataset; it has {listed(labels)}."
            )
        else:
            named[label] = value
    return thresholds | named


def check_thresholds(
    dataset: "Dataset", thresholds: Mapping[str, float], labels: Sequence[str] | None = None
) -> None:
    """UserError unless each label (by default all) has a threshold that the dataset can answer."""
    identity = dataset.identity
    labels = identity["labels"] if labels is None else labels
    missing = [label for label in labels if label not in thresholds]
    if missing:
        raise UserError(
            f"There is no threshold for {listed(missing)}: give --threshold, or a bundle with "
            "all labels of the dataset as --thresholds."
        )
    least = float(identity["min_score"])
    for label in labels:
        value = thresholds[label]
        if not 0 <= value <= 1:
            raise UserError(f"The threshold of {label!r} is {value:g}; it must be from 0 to 1.")
        # The top label of a single-label bundle is kept whatever its score.
        if identity["task"] != "singlelabel" and np.float32(value) < np.float32(least):
            raise UserError(
                f"The threshold of {label!r} is {value:g}, but the dataset keeps scores from "
                f"{least:g} on: give a --threshold of {least:g} or more, or detect into another "
                "output with a lower --min-score."
            )


def threshold_note(
    bundle: "Bundle", score_fingerprint: str, given: Mapping[str, float] | None = None
) -> str:
    """What is known of a bundle's thresholds, for scores of a fingerprint, in a line.

    `given` are labels whose threshold is another.
    """
    told = ", ".join(f"{printable(label)} {value:g}" for label, value in (given or {}).items())
    if told and set(bundle.labels) <= set(given or ()):
        return f"The thresholds were given: {told}."
    note = _note(bundle, score_fingerprint, given or {})
    return f"{note} Given, and not among these: {told}." if told else note


def _note(bundle: "Bundle", score_fingerprint: str, given: Mapping[str, float]) -> str:
    facts = bundle.threshold_facts
    if bundle.score_fingerprint != score_fingerprint:
        return "The thresholds are of another model: they promise nothing of these scores."
    if facts is None:
        return "The thresholds are uncalibrated: their bundle does not say what holds at them."
    name = f"for {facts.goal}" if facts.calibrated else "uncalibrated"
    if facts.data == "nothing":
        return f"The thresholds are {name}: nothing was held out to choose them on."
    kept = [one for label, one in facts.labels.items() if label not in given]
    precision = _range([x.precision for x in kept], "{:.2f}")
    if facts.data == "verified":
        return f"The thresholds are {name}: precision {precision} of verified detections."
    windows = {"holdout": "held-out", "out_of_fold": "out-of-fold"}.get(facts.data, facts.data)
    share = _range([x.prevalence for x in kept], "{:.1%}")
    return (
        f"The thresholds are {name}: precision {precision} on {windows} windows, of which {share} "
        "had the label."
    )


def _range(values: Iterable[float | None], form: str) -> str:
    """The lowest and the highest of the values that are known."""
    known = [form.format(value) for value in sorted(v for v in values if v is not None)]
    if not known:
        return "unknown"
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
