"""Whether scores are shares: reliability by bins of the score, and the calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model.calibration import Method, fit_calibrator

if TYPE_CHECKING:
    from model.bundle_document import Task

Float32 = npt.NDArray[np.float32]

BINS, FOLDS = 10, 5


@dataclass(frozen=True)
class Reliability:
    """By bins of the score of equal width: `counts`, `mean_scores` and `shares` with the label.

    Mean and share are None where a bin is empty.
    """

    counts: tuple[int, ...]
    mean_scores: tuple[float | None, ...]
    shares: tuple[float | None, ...]

    @property
    def error(self) -> float | None:
        """The expected calibration error (Guo et al. 2017): the mean of |share - mean score|.

        Each bin counts by its windows; None without any.
        """
        total = sum(self.counts)
        rows = zip(self.counts, self.mean_scores, self.shares, strict=True)
        gaps = [
            n * abs(share - mean)
            for n, mean, share in rows
            if mean is not None and share is not None
        ]
        return sum(gaps) / total if total else None

    def to_json(self) -> dict[str, Any]:
        """Lists by bin, and the error."""
        return {
            "counts": list(self.counts),
            "mean_scores": list(self.mean_scores),
            "shares": list(self.shares),
            "error": self.error,
        }


def reliability(truth: npt.NDArray[np.bool_], scores: Float32, bins: int = BINS) -> Reliability:
    """The reliability of scores (n,) against the truth (n,)."""
    index = np.minimum((scores.astype(np.float64) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins).astype(np.int64)
    sums = np.bincount(index, scores.astype(np.float64), bins).astype(np.float64)
    right = np.bincount(index, truth.astype(np.float64), bins).astype(np.float64)

    def means(values: npt.NDArray[np.float64]) -> tuple[float | None, ...]:
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        return tuple(value / n if n else None for value, n in pairs)

    return Reliability(tuple(counts.tolist()), means(sums), means(right))


def cross_calibrate(
    targets: Float32,
    mask: Float32,
    scores: Float32,
    labels: Sequence[str],
    groups: Sequence[object] | npt.NDArray[Any],
    task: "Task",
    method: Method,
) -> Float32 | None:
    """Calibrated scores (n, n_labels), each by a calibrator that did not see the window's group.

    What a calibrator does for windows that it was not fitted on. None with fewer than two groups.
    """
    from sklearn.model_selection import GroupKFold

    _, units = np.unique(np.asarray(groups), return_inverse=True)
    folds = min(FOLDS, int(units.max(initial=0)) + 1)
    if folds < 2:
        return None
    result = np.empty_like(scores)
    for rest, fold in GroupKFold(folds).split(scores, groups=units):
        calibrate = fit_calibrator(targets[rest], mask[rest], scores[rest], labels, task, method)
        result[fold] = calibrate(scores[fold])
    return result


def describe_reliability(
    targets: Float32, mask: Float32, scores: Float32, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The reliability of each label as JSON, over the windows that its mask lets in."""
    found = {}
    for i, label in enumerate(labels):
        used = mask[:, i] > 0
        found[label] = reliability(targets[used, i] > 0.5, scores[used, i]).to_json()
    return found
