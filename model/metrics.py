"""How well scores tell windows with a label from windows without it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


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


def top_accuracy(targets: Float32, scores: Float32) -> float:
    """The share of windows whose highest score is that of their label (single-label tasks)."""
    return float(np.mean(targets.argmax(axis=1) == scores.argmax(axis=1)))
