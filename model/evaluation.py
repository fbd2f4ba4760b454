"""What scores are worth against what is known to be in the windows: metrics of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.bootstrap import Interval, average_precisions, interval, ratios, resample
from model.metrics import average_precision, chance_precision, macro

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """Windows (or whole clips) with their scores and what is known of them.

    `scores` (n, n_labels + m) float32 has the labels' columns first, then m further outputs that
    no annotation can name. `truth` and `known` are (n, n_labels): whether a label is there, and
    whether that is known; where it is not, the window does not count for the label. `groups` (n,)
    are numbers of what belongs together (windows of one recording, say), from 0.
    """

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    scores: Float32
    truth: Bool
    known: Bool
    groups: Int64


@dataclass(frozen=True)
class LabelResult:
    """One label: counts, and metrics that are None where they have no meaning.

    `windows` are those that count, `positives` those that hold the label, `reported` those that
    score at or above the threshold.
    """

    label: str
    windows: int
    positives: int
    reported: int
    threshold: float
    average_precision: float | None
    average_precision_interval: Interval | None
    chance: float | None
    roc_auc: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class TopResult:
    """The top label against the one label that there is, of the windows where there is one.

    `accuracy` is the share of all windows whose top label is right, `category_weighted` the mean
    over labels of each one's share (Morgan & Braasch 2021; scikit-learn's balanced accuracy), `f1`
    the mean over labels. `confusion` (n_labels, n_outputs) counts windows, a row for each label.
    """

    windows: int
    accuracy: float
    accuracy_interval: Interval | None
    category_weighted: float
    category_weighted_interval: Interval | None
    f1: float
    confusion: Int64


@dataclass(frozen=True)
class Result:
    """All labels, their means (over the labels that have a value), and the top label's."""

    windows: int
    groups: int
    labels: tuple[LabelResult, ...]
    average_precision: float | None
    average_precision_interval: Interval | None
    chance: float | None
    roc_auc: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    top: TopResult | None


@dataclass(frozen=True)
class Level:
    """What is counted (`noun` is window or clip), with what was found."""

    noun: str
    sample: Sample
    result: Result


def evaluate(
    sample: Sample, thresholds: dict[str, float], single: bool, resamples: int, seed: int
) -> Result:
    """Every metric of a sample; `single` adds those of the top label.

    Precision, recall and F1 are those of "score at or above the threshold". A label without a
    positive window has none of the metrics that are about finding it, and is in no mean; one
    that is never reported has a recall and an F1 of 0 and no precision. Intervals hold 95 % of
    the values of `resamples` draws of as many groups as there are, with replacement; None for
    fewer than two groups.
    """
    truth, known = sample.truth.astype(np.float32), sample.known.astype(np.float32)
    scores = sample.scores[:, : len(sample.labels)]
    precisions = average_precision(truth, known, scores, sample.labels)
    chances = chance_precision(truth, known, sample.labels)
    weights = resample(sample.groups, resamples, seed)
    drawn = average_precisions(sample.truth, sample.known, scores, sample.groups, weights)
    labels = []
    for i, label in enumerate(sample.labels):
        used = sample.known[:, i]
        here, values = sample.truth[used, i], scores[used, i]
        reported = values >= np.float32(thresholds[label])
        precision, recall, f1 = _at_threshold(here, reported)
        labels.append(
            LabelResult(
                label=label,
                windows=int(used.sum()),
                positives=int(here.sum()),
                reported=int(reported.sum()),
                threshold=thresholds[label],
                average_precision=precisions[label],
                average_precision_interval=interval(drawn[:, i]),
                chance=chances[label],
                roc_auc=_roc_auc(here, values),
                precision=precision,
                recall=recall,
                f1=f1,
            )
        )
    return Result(
        windows=len(scores),
        groups=len(np.unique(sample.groups)),
        labels=tuple(labels),
        average_precision=macro(precisions),
        average_precision_interval=interval(_row_means(drawn)),
        chance=macro(chances),
        roc_auc=_mean_of(labels, "roc_auc"),
        precision=_mean_of(labels, "precision"),
        recall=_mean_of(labels, "recall"),
        f1=_mean_of(labels, "f1"),
        top=_top_label(sample, weights) if single else None,
    )


def mean_by_recording(sample: Sample, recordings: Int64) -> Sample:
    """Whole clips from their windows: the mean of the scores, and what the clip holds.

    `recordings` (n,) are numbers of recordings; the windows of one have the same truth.
    """
    _, first, member, counts = np.unique(
        recordings, return_index=True, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(first), sample.scores.shape[1]))
    np.add.at(sums, member, sample.scores)
    return Sample(
        labels=sample.labels,
        outputs=sample.outputs,
        scores=(sums / counts[:, None]).astype(np.float32),
        truth=sample.truth[first],
        known=sample.known[first],
        groups=sample.groups[first],
    )


def largest_confusions(confusion: Int64, limit: int) -> list[tuple[int, int, int]]:
    """The commonest mistakes: (row, column, count), most first; of equals the first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in places if wrong[i, j]]


def _at_threshold(truth: Bool, reported: Bool) -> tuple[float | None, float | None, float | None]:
    from sklearn.metrics import precision_recall_fscore_support

    if not len(truth):
        return None, None, None
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, reported, average="binary", pos_label=True, zero_division=np.nan
    )
    return (
        None if np.isnan(precision) else float(precision),
        float(recall) if truth.any() else None,
        float(f1) if truth.any() else None,
    )


def _roc_auc(truth: Bool, scores: Float32) -> float | None:
    from sklearn.metrics import roc_auc_score

    if not truth.any() or truth.all():
        return None
    return float(roc_auc_score(truth, scores))


def _mean_of(labels: Sequence[LabelResult], name: str) -> float | None:
    return macro({each.label: getattr(each, name) for each in labels if each.positives})


def _row_means(values: Float64) -> Float64:
    """The mean of each row over what is not NaN, NaN where nothing is."""
    counts = (~np.isnan(values)).sum(axis=1)
    sums = np.nansum(values, axis=1)
    means: Float64 = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def _top_label(sample: Sample, weights: npt.NDArray[np.uint16]) -> TopResult | None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

    clear = (sample.truth.sum(axis=1) == 1) & sample.known.all(axis=1)
    if not clear.any():
        return None
    truth, top = sample.truth[clear].argmax(axis=1), sample.scores[clear].argmax(axis=1)
    present, groups = np.unique(truth), sample.groups[clear]
    counts = confusion_matrix(truth, top, labels=np.arange(len(sample.outputs)))
    right = np.zeros((len(weights), len(sample.labels)))
    every = np.zeros_like(right)
    np.add.at(right, (groups[truth == top], truth[truth == top]), 1)
    np.add.at(every, (groups, truth), 1)
    accuracy = ratios(right.sum(axis=1, keepdims=True), every.sum(axis=1, keepdims=True), weights)
    return TopResult(
        windows=int(clear.sum()),
        accuracy=float(accuracy_score(truth, top)),
        accuracy_interval=interval(accuracy[:, 0]),
        # The mean of each label's recall: balanced_accuracy_score, which warns of top labels
        # that are never the true one.
        category_weighted=float(recall_score(truth, top, labels=present, average="macro")),
        category_weighted_interval=interval(_row_means(ratios(right, every, weights))),
        f1=float(f1_score(truth, top, labels=present, average="macro")),
        confusion=counts[: len(sample.labels)].astype(np.int64),
    )
