"""What thresholds and calibrated scores promise, and what they keep, on folds of ESC-10.

    python -m benchmarks calibration DATA/esc10 WORK

WORK is that of `python -m benchmarks esc10`, which has scored each fold by networks trained on the
others. Here three folds at a time fit a temperature and choose thresholds for a precision, on these
scores, and the fourth is compared with what they promise; as windows, of each label by itself.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from model.calibration import fit_calibrator
from model.evaluation import Sample
from model.promises import Promise, compare_promises
from model.reliability import reliability
from model.threshold_facts import Goal
from model.thresholds import choose_thresholds

FOLDS = ("1", "2", "3", "4")


def scores_of(data: Path, work: Path) -> tuple[dict[str, Sample], tuple[str, ...]]:
    """The windows of each fold with their scores, and the labels."""
    with (data / "clips.csv").open(newline="") as file:
        source = {clip["file"]: int(clip["freesound_id"]) for clip in csv.DictReader(file)}
    samples = {}
    for fold in FOLDS:
        table = pq.read_table(work / f"fold-{fold}" / "evaluation" / "scores.parquet").to_pandas()
        window = ["recording", "start_s"]
        scores = table.pivot(index=window, columns="label", values="score")
        truth = table.pivot(index=window, columns="label", values="truth").astype(bool)
        labels = tuple(scores.columns)
        groups = np.array([source[name] for name, _ in scores.index], np.int64)
        known = np.ones(scores.shape, bool)
        values = scores.to_numpy(np.float32), truth.to_numpy(bool), known, groups
        samples[fold] = Sample(labels, labels, *values)
    return samples, labels


def error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of the top label."""
    top = scores.argmax(axis=1)
    rows = np.arange(len(top))
    return reliability(truth[rows, top], scores[rows, top]).error or 0.0


def main() -> None:
    """Prints the table of promises in Markdown, and the calibration error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--precision", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    args = parser.parse_args()
    samples, labels = scores_of(args.data, args.work)
    errors = []
    promises: dict[float, list[Promise]] = {goal: [] for goal in args.precision}
    for fold, test in samples.items():
        others = [sample for other, sample in samples.items() if other != fold]
        scores, truth = (
            np.concatenate([getattr(sample, name) for sample in others])
            for name in ("scores", "truth")
        )
        groups = np.concatenate([sample.groups for sample in others])
        targets, mask = truth.astype(np.float32), np.ones_like(scores)
        known = targets, mask, scores, labels
        calibrator = fit_calibrator(*known, "singlelabel", "temperature")
        errors.append((error(test.scores, test.truth), error(calibrator(test.scores), test.truth)))
        rest = test.truth, test.known, test.groups
        calibrated = Sample(labels, labels, calibrator(test.scores), *rest)
        for goal in args.precision:
            thresholds, facts = choose_thresholds(
                targets,
                mask,
                calibrator(scores),
                labels,
                groups,
                Goal("precision", goal),
                "out_of_fold",
            )
            promises[goal] += compare_promises(facts, thresholds, calibrated).labels
    print("| asked | labels and folds where it was reached | promised | found |")
    print("|---|---|---|---|")
    for goal, found in promises.items():
        kept = [p for p in found if p.promised.reached and p.found.precision is not None]
        promised = np.mean([p.expected for p in kept])
        share = np.mean([p.found.precision for p in kept])
        print(f"| {goal:g} | {len(kept)} of {len(found)} | {promised:.3f} | {share:.3f} |")
    before, after = np.mean(errors, axis=0)
    print(f"expected calibration error of the top label: {before:.3f}, calibrated {after:.3f}")


if __name__ == "__main__":
    main()
