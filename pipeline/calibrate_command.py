"""`dawnchorus calibrate`: thresholds from detections that a person has verified."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UserError
from pipeline.text import align, count, printable, short

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.thresholds import Checked
    from model.verified import Verified


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Chooses a bundle's thresholds anew from detections that a person has verified, and "
        "writes a copy of the bundle with them. Scores and datasets stay what they are."
    )
    parser.epilog = (
        "Example: dawnchorus calibrate --verified verified.csv --dataset out --model "
        "birds.bundle --output field.bundle --threshold-goal precision=0.9"
    )
    parser.add_argument(
        "--verified",
        required=True,
        type=Path,
        metavar="TABLE",
        help="columns recording, start, end, label, verdict (right or wrong); perhaps channel, "
        "and score, and weight or probability (with which it was drawn)",
    )
    parser.add_argument("--model", required=True, metavar="BUNDLE", help="the bundle that detected")
    parser.add_argument("--output", required=True, metavar="NEW", help="new folder of the copy")
    parser.add_argument(
        "--dataset",
        metavar="OUT",
        help="the dataset of the detections: gives their scores and, where the table has no "
        "weight, how many there are in each bin of the score (else the table needs both)",
    )
    parser.add_argument(
        "--bins",
        type=_edges,
        metavar="S,...",
        help="scores between the bins that detections were drawn from (default: 0.1,0.2,...,0.9)",
    )
    parser.add_argument(
        "--threshold-goal",
        default="f1",
        metavar="GOAL",
        help="f1 (default), another F-beta such as f0.5, or precision=0.9",
    )


def run(args: argparse.Namespace) -> int:
    """Write a bundle with new thresholds; exit status 0, UserError for what does not fit."""
    from model.bundle import check_vacant, load_bundle, with_thresholds
    from model.tables import read_table
    from model.threshold_facts import Goal
    from model.verified import choose_verified, parse_verified

    goal = Goal.parse(args.threshold_goal)
    check_vacant(args.output)
    bundle = load_bundle(args.model)
    verified, waiting = parse_verified(read_table(args.verified), bundle.labels)
    samples = _samples(args, bundle, verified)
    thresholds, facts = choose_verified(samples, bundle.thresholds, goal)
    new = with_thresholds(bundle, thresholds, facts, args.output)
    print("\n".join(_report(bundle, new)))
    if waiting:
        print(f"{count(waiting, 'row')} without a verdict did not count.")
    use = f"; use them: dawnchorus activity {args.dataset} --thresholds {args.output}"
    print(f"Written: {new.path}" + (use if args.dataset else ""))
    return 0


def _samples(
    args: argparse.Namespace, bundle: "Bundle", verified: Sequence["Verified"]
) -> dict[str, "Checked"]:
    """The verified detections by label, with their scores and weights."""
    import numpy as np

    from model.verified import EDGES, sample

    weighted = all(one.weight is not None for one in verified)
    if args.dataset is None:
        if not weighted or any(one.score is None for one in verified):
            raise UserError(
                f"{args.verified} does not tell score and weight of its detections; give "
                "--dataset OUT, or the columns score and weight (or probability)."
            )
        return sample(verified, np.array([one.score for one in verified], np.float32), None)
    from pipeline.dataset import open_dataset
    from pipeline.verification import count_by_bin, scores_of

    dataset = open_dataset(args.dataset)
    if dataset.identity["score_fingerprint"] != bundle.score_fingerprint:
        raise UserError(
            f"The scores in {dataset.folder.url} are not those of {bundle.path}; give the bundle "
            "that detected them."
        )
    if weighted and args.bins is not None:
        raise UserError(f"{args.verified} has weights; leave out --bins or the weights.")
    edges = args.bins or EDGES
    counts = None if weighted else count_by_bin(dataset, edges)
    scores = scores_of(dataset, verified)
    return sample(verified, scores, counts, edges, float(dataset.identity["min_score"]))


def _report(bundle: "Bundle", new: "Bundle") -> list[str]:
    """What was found, a line for each label."""
    about = new.threshold_facts
    assert about is not None
    checked = sum(facts.windows for facts in about.labels.values())
    lines = [["label", "verified", "right", "was", "threshold", "precision", "95 %", "recall", ""]]
    for label, threshold in new.thresholds.items():
        facts = about.labels[label]
        interval = facts.precision_interval
        note = "" if facts.reached else f"{about.goal} not reached"
        if facts.positives in (0, facts.windows):
            note = "kept: all are alike" if facts.windows else "kept"
        lines.append(
            [
                short(printable(label), 30),
                f"{facts.windows:,}",
                f"{facts.positives:,}",
                f"{bundle.thresholds[label]:.2f}",
                f"{threshold:.2f}",
                _number(facts.precision),
                f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-",
                _number(facts.recall),
                note,
            ]
        )
    return [
        f"Thresholds for {about.goal}, from {count(checked, 'verified detection')}",
        "",
        *align(lines, 1),
        "",
        "Recall is of the right detections from the lowest score that was verified on; calls that",
        "were not detected at all are not in it.",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _edges(text: str) -> tuple[float, ...]:
    try:
        edges = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers split by commas") from None
    if any(not 0 < edge < 1 for edge in edges) or sorted(set(edges)) != list(edges):
        raise argparse.ArgumentTypeError(f"{text!r} do not rise from above 0 to below 1")
    return edges
