"""How far results would vary with other recordings: whole groups drawn again, as weights."""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.uint16]

LEVEL = 0.95
CELLS = 4_000_000
"""Numbers that are worked on at once: about 100 MB with all that is made of them."""

Interval = tuple[float, float]


def resample(groups: Int64, resamples: int, seed: int) -> Weights:
    """How often each draw takes each group: uint16 (n_groups, resamples).

    Each draw takes as many groups as there are, with replacement. Weighing a group's windows by
    the count is the same as to copy them so often. `groups` are numbers from 0.
    """
    n = int(groups.max()) + 1 if len(groups) else 0
    rng = np.random.default_rng(seed)
    weights = np.zeros((n, resamples), np.uint16)
    for i in range(resamples if n else 0):
        weights[:, i] = np.bincount(rng.integers(0, n, n), minlength=n)
    return weights


def interval(values: Float64) -> Interval | None:
    """The middle `LEVEL` of the values (n,) that are not NaN; None if there are none."""
    present = values[~np.isnan(values)]
    if not len(present):
        return None
    low, high = np.quantile(present, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def average_precisions(
    truth: Bool, known: Bool, scores: Float32, groups: Int64, weights: Weights
) -> Float64:
    """Average precision of each label in each draw, float64 (resamples, n_labels).

    It is scikit-learn's `average_precision_score` with the draw's counts as sample weights. NaN
    where the draw has no positive window of the label, and everywhere for fewer than two groups.
    `truth`, `known` and `scores` are (n, n_labels), `groups` (n,).
    """
    result = np.full((weights.shape[1], truth.shape[1]), np.nan)
    for label in range(truth.shape[1]):
        used = np.flatnonzero(known[:, label])
        here = truth[used, label]
        if len(weights) > 1 and here.any():
            ranked = np.argsort(-scores[used, label], kind="stable")
            rows = used[ranked]
            result[:, label] = _one_label(
                truth[rows, label], scores[rows, label], groups[rows], weights
            )
    return result


def _one_label(truth: Bool, scores: Float32, groups: Int64, weights: Weights) -> Float64:
    """Average precision in each draw, of windows (n,) in falling order of their scores.

    Recall rises only where there are positives. So the ranking is cut into steps that each end
    with the last of the windows that have the score of some positive, and only the number of
    windows and positives of each group in each step counts.
    """
    from scipy.sparse import csr_array

    ties = np.cumsum(np.append(False, scores[1:] != scores[:-1]))
    ends = np.unique(ties[truth])
    step = np.searchsorted(ends, ties)
    before = step < len(ends)
    shape = (len(ends), len(weights))
    ones = np.ones(len(truth), np.float32)
    everything = csr_array((ones[before], (step[before], groups[before])), shape)
    positives = csr_array((ones[truth], (step[truth], groups[truth])), shape)
    result = np.empty(weights.shape[1])
    width = max(1, CELLS // (len(ends) + len(weights)))
    for first in range(0, len(result), width):
        drawn = weights[:, first : first + width].astype(np.float32)
        # Counts are exact in float32 up to 16 million.
        found = positives @ drawn
        so_far = found.cumsum(axis=0, dtype=np.float64)
        all_so_far = (everything @ drawn).cumsum(axis=0, dtype=np.float64)
        precision = np.divide(so_far, all_so_far, out=np.zeros_like(so_far), where=all_so_far > 0)
        total = so_far[-1]
        sums = (precision * found).sum(axis=0)
        result[first : first + width] = np.divide(
            sums, total, out=np.full(len(total), np.nan), where=total > 0
        )
    return result


def ratios(part: Float64, whole: Float64, weights: Weights) -> Float64:
    """Part by whole in each draw, float64 (resamples, k), of counts (n_groups, k).

    NaN where the whole is empty, and everywhere for fewer than two groups.
    """
    if len(weights) < 2:
        return np.full((weights.shape[1], part.shape[1]), np.nan)
    drawn = weights.T.astype(np.float64)
    numerator, denominator = drawn @ part, drawn @ whole
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0
    )
