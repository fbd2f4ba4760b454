"""How well scores tell windows with a label from windows without it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

DEFAULT_THRESHOLD = 0.5
THRESHOLDS = (0.1, 0.95)
"""Bounds of a chosen threshold: below the first, datasets by default hold no scores; above the
second, a few validation windows would decide that a label is hardly ever reported."""


def average_precision(
    targets: Float32, mask: Float32, scores: Float32, labels: Sequence[str]
) -> dict[str, float | None]:
    """Average precision (scikit-learn's) of each label, over the windows that its mask lets in.

    Arrays are (n, n_labels). None for a label without a positive window.
    """
    from sklearn.metrics import average_precision_score

    result: dict[str, float | None] = {}
    for i, label in enumerate(labels):
        used = mask[:, i] > 0
        truth = targets[used, i] > 0.5
        result[label] = (
            float(average_precision_score(truth, scores[used, i])) if truth.any() else None
        )
    return result


def chance_precision(
    targets: Float32, mask: Float32, labels: Sequence[str]
) -> dict[str, float | None]:
    """The average precision that random scores tend to: the share of positive windows."""
    used, positive = mask.sum(axis=0), (targets * mask).sum(axis=0)
    return {
        label: float(positive[i] / used[i]) if positive[i] else None
        for i, label in enumerate(labels)
    }


def macro(values: dict[str, float | None]) -> float | None:
    """The mean over the labels that have a value; None if none has."""
    present = [value for value in values.values() if value is not None]
    return float(np.mean(present)) if present else None


def best_threshold(truth: npt.NDArray[np.bool_], scores: Float32) -> float:
    """The threshold with the highest F1, "score at or above it" being positive.

    It lies midway between the lowest score that counts and the highest that does not, so that it
    stands for both sides; of several with the same F1 the lowest is taken. It is kept within
    `THRESHOLDS`, and is `DEFAULT_THRESHOLD` where the truth (n,) has no positive or no negative
    window.
    """
    if not truth.any() or truth.all():
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    # Windows with the same score stand or fall together: only the last of them can be a cut.
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    cut = ends[len(ends) - 1 - np.argmax(f1[ends][::-1])]
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    return float(np.clip((ranked[cut] + below) / 2, *THRESHOLDS))


def best_thresholds(
    targets: Float32, mask: Float32, scores: Float32, labels: Sequence[str]
) -> dict[str, float]:
    """`best_threshold` of each label over the windows that its mask lets in."""
    return {
        label: best_threshold(targets[used, i] > 0.5, scores[used, i])
        for i, label in enumerate(labels)
        for used in (mask[:, i] > 0,)
    }


def top_accuracy(targets: Float32, scores: Float32) -> float:
    """The share of windows whose highest score is that of their label (single-label tasks)."""
    return float(np.mean(targets.argmax(axis=1) == scores.argmax(axis=1)))
