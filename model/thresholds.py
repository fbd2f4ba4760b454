"""Thresholds for a goal, chosen on held-out windows, and what holds at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.share_interval import share_interval
from model.threshold_facts import Data, Goal, Interval, LabelFacts, ThresholdFacts

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DEFAULT_THRESHOLD = 0.5
THRESHOLDS = (0.1, 0.95)
"""Bounds of a chosen threshold: below the first, datasets by default hold no scores; above the
second, a few windows would decide that a label is hardly ever reported. Only where a wanted
precision is not reached within them is a threshold above the second."""


@dataclass(frozen=True)
class Checked:
    """Windows (or detections) of which it is known whether they hold one label; arrays (n,).

    `scores` are what the threshold is for. `units` number what is independent: windows of one
    group (a recording, a bird) are not. `weights` say how many windows each stands for, and
    `strata` which part it was drawn from; by default 1, and one. `lowest` is the score below
    which nothing was checked: no threshold lies below it, and recall is of what is above it.
    """

    truth: npt.NDArray[np.bool_]
    scores: Float32
    units: Integers
    weights: Float64 | None = None
    strata: Integers | None = None
    lowest: float = 0.0

    def weigh(self) -> Float64:
        """The weight of each."""
        return np.ones(len(self.truth)) if self.weights is None else self.weights

    def share(self, of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float | None:
        """The weighted share of `of` among those in `among`; None if there are none."""
        weights = self.weigh()[among]
        return float(weights[of[among]].sum() / weights.sum()) if among.any() else None

    def interval(self, of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Interval | None:
        """The 95 % interval of that share; None if there are none."""
        if not among.any():
            return None
        strata = np.zeros(len(of), np.int64) if self.strata is None else self.strata
        return share_interval(of[among], self.weigh()[among], self.units[among], strata[among])


def choose_thresholds(
    targets: Float32,
    mask: Float32,
    scores: Float32,
    labels: Sequence[str],
    groups: Sequence[object] | npt.NDArray[Any],
    goal: Goal,
    data: Data,
) -> tuple[dict[str, float], ThresholdFacts]:
    """The threshold of each label for a goal, and what holds at it.

    `targets`, `mask` and `scores` are (n, n_labels); `groups` (n,) names what each window
    belongs to, as for the split. The scores must be those that the bundle gives: the mean over
    its networks, after its calibrator.
    """
    _, units = np.unique(np.asarray(groups), return_inverse=True)
    thresholds, facts = {}, {}
    for i, label in enumerate(labels):
        used = mask[:, i] > 0
        checked = Checked(targets[used, i] > 0.5, scores[used, i], units[used])
        thresholds[label], facts[label] = choose_threshold(checked, goal)
    return thresholds, ThresholdFacts(data, goal, facts)


def choose_threshold(checked: Checked, goal: Goal) -> tuple[float, LabelFacts]:
    """The threshold of one label for a goal, "score at or above it" being positive.

    It lies midway between the lowest score that counts and the highest that does not, so that it
    stands for both sides; of several that are as good the lowest is taken. Where the goal cannot
    be reached it is the one that comes nearest, and `DEFAULT_THRESHOLD` where the truth has no
    positive or no negative window.
    """
    truth = checked.truth
    low = max(THRESHOLDS[0], checked.lowest)
    if not truth.any() or truth.all():
        threshold = max(DEFAULT_THRESHOLD, low)
        return threshold, measure(checked, threshold, reached=False)
    within = _cuts(checked, low, max(THRESHOLDS[1], low))
    if goal.kind == "f":
        right, called = _counts(checked, within)
        positive = checked.weigh()[truth].sum()
        scores = (1 + goal.value**2) * right / (called + goal.value**2 * positive)
        return _chosen(checked, within, scores, reached=True)
    for cuts in (within, _cuts(checked, low, 1.0)):
        # Weights need not be whole numbers: their sums are rounded.
        enough = _precision(checked, cuts) >= goal.value * (1 - 1e-9)
        if enough.any():
            return _chosen(checked, cuts, enough.astype(np.float64), reached=True)
    return _chosen(checked, within, _precision(checked, within), reached=False)


def measure(checked: Checked, threshold: float, *, reached: bool) -> LabelFacts:
    """What holds at a threshold, however it was chosen."""
    truth, everything = checked.truth, np.ones(len(checked.truth), np.bool_)
    # A score is a float32, and so is what "at or above" compares it with.
    called = checked.scores >= np.float32(threshold)
    return LabelFacts(
        reached=reached,
        precision=checked.share(truth, called),
        precision_interval=checked.interval(truth, called),
        recall=checked.share(called, truth),
        false_positive_rate=checked.share(called, ~truth),
        false_positive_rate_interval=checked.interval(called, ~truth),
        prevalence=checked.share(truth, everything),
        positives=int(truth.sum()),
        windows=len(truth),
        lowest=checked.lowest,
    )


def _chosen(
    checked: Checked, cuts: Float32, merit: Float64, *, reached: bool
) -> tuple[float, LabelFacts]:
    """The lowest of the cuts (ascending) with the highest merit."""
    _, called = _counts(checked, cuts)
    # Of cuts that call the same, bounded ones among them, the one nearest to what it calls.
    cut = cuts[called == called[int(np.argmax(merit))]].max()
    # The shortest text that is this float32: as a float64 it would end in digits of no meaning.
    threshold = float(str(cut))
    return threshold, measure(checked, threshold, reached=reached)


def _cuts(checked: Checked, low: float, high: float) -> Float32:
    """Every threshold, ascending, that tells some scores from others, within bounds."""
    scores = np.unique(checked.scores)
    below = np.concatenate([np.array([min(checked.lowest, scores[0])], np.float32), scores[:-1]])
    middle = ((scores.astype(np.float64) + below) / 2).astype(np.float32)
    # Between two neighbouring float32 there is none.
    middle = np.where(middle > below, middle, scores)
    return np.unique(np.clip(middle, np.float32(low), np.float32(high)))


def _precision(checked: Checked, cuts: Float32) -> Float64:
    """The precision at each cut; 0 where nothing is at or above it."""
    right, called = _counts(checked, cuts)
    return np.divide(right, called, out=np.zeros(len(cuts)), where=called > 0)


def _counts(checked: Checked, cuts: Float32) -> tuple[Float64, Float64]:
    """The weights of what is right and of all that is at or above each cut."""
    order = np.argsort(-checked.scores, kind="stable")
    weights = checked.weigh()[order]
    right = np.concatenate([[0.0], np.cumsum(weights * checked.truth[order])])
    called = np.concatenate([[0.0], np.cumsum(weights)])
    at = np.searchsorted(-checked.scores[order], -cuts, side="right")
    return right[at], called[at]
