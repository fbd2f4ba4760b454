"""Scores that are shares: of the windows scored 0.8, eight in ten have the label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from model.errors import UserError

if TYPE_CHECKING:
    from model.bundle_document import Task

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Method = Literal["platt", "isotonic", "temperature"]

_LEAST = 1e-7
"""Scores this near to 0 or 1 have no finite logit in float32, or one that is noise."""
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibrator:
    """A monotone map of each label's score, fitted on held-out windows; parameters by label.

    - "platt" (Platt 1999): expit(slope x logit(score) + offset), slope at least 0;
    - "isotonic" (Zadrozny & Elkan 2002): `curves` holds scores and shares, between them a line;
    - "temperature" (Guo et al. 2017, for single-label bundles): softmax(slope x log(score)), all
      slopes 1 / temperature. Scores still add up to 1, and the top label stays the top label.

    It holds for the share of windows with the label that it was fitted at, `prevalence`, which
    is None for a label that it leaves as it is: one that all windows had, or none.
    """

    method: Method
    labels: tuple[str, ...]
    prevalence: tuple[float | None, ...]
    slopes: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def __call__(self, scores: Float32) -> Float32:
        """Calibrated scores (n, n_labels), float32 from 0 to 1, of those of the networks."""
        if self.method == "isotonic":
            columns = (np.interp(scores[:, i], *curve) for i, curve in enumerate(self.curves))
            return np.stack(list(columns), axis=1).astype(np.float32)
        from scipy.special import expit, logit, softmax

        slopes = np.array(self.slopes)
        within = np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST)
        if self.method == "temperature":
            return cast(Float32, softmax(slopes * np.log(within), axis=1).astype(np.float32))
        linear = slopes * logit(within) + np.array(self.offsets)
        return cast(Float32, expit(linear).astype(np.float32))

    def to_json(self) -> dict[str, Any]:
        """What stands in bundle.json under `calibrator`."""
        by_label: dict[str, dict[str, Any]] = {}
        for i, label in enumerate(self.labels):
            by_label[label] = {"prevalence": self.prevalence[i]}
            if self.method == "isotonic":
                x, y = self.curves[i]
                by_label[label] |= {"scores": list(x), "shares": list(y)}
            else:
                by_label[label] |= {"slope": self.slopes[i], "offset": self.offsets[i]}
        return {"method": self.method, "labels": by_label}

    @staticmethod
    def from_json(document: Any, labels: Sequence[str], task: "Task") -> "Calibrator":
        """The calibrator of a bundle with these labels and task; UserError if it is none."""
        whole = isinstance(document, dict) and set(document) == {"method", "labels"}
        _require(whole and isinstance(document["labels"], dict), "is not whole")
        method, found = document["method"], document["labels"]
        _require(method in get_args(Method), "has an unknown method")
        check_method(method, task)
        _require(set(found) == set(labels), "is not of the bundle's labels")
        isotonic = method == "isotonic"
        keys = {"prevalence", *(("scores", "shares") if isotonic else ("slope", "offset"))}
        for label in labels:
            values = found[label]
            _require(isinstance(values, dict) and set(values) == keys, f"is not whole for {label}")
            share = values["prevalence"]
            _require(share is None or _rising([share], 1), f"has no prevalence of {label}")
            if isotonic:
                x, y = values["scores"], values["shares"]
                valid = _rising(x, 1, strictly=True) and _rising(y, 1) and len(x) == len(y)
            else:
                slope, offset = values["slope"], values["offset"]
                valid = _rising([slope], 1e300) and _is_number(offset)
            _require(valid, f"has no monotone map for {label}")
        ordered = [found[label] for label in labels]
        shares = tuple(values["prevalence"] for values in ordered)
        if isotonic:
            curves = tuple((tuple(v["scores"]), tuple(v["shares"])) for v in ordered)
            return Calibrator(method, tuple(labels), shares, curves=curves)
        slopes = tuple(float(values["slope"]) for values in ordered)
        offsets = tuple(float(values["offset"]) for values in ordered)
        if method == "temperature":
            same = len(set(slopes)) == 1 and not any(offsets) and slopes[0] > 0
            _require(same, "has no temperature")
        return Calibrator(method, tuple(labels), shares, slopes, offsets)


def check_method(method: str, task: "Task") -> None:
    """UserError for a method that does not fit the task."""
    if (method == "temperature") != (task == "singlelabel"):
        fitting = "temperature" if task == "singlelabel" else "platt or isotonic"
        raise UserError(
            f"The calibrator {method} does not fit a {task} model, whose calibrator is {fitting}."
        )


def fit_calibrator(
    targets: Float32,
    mask: Float32,
    scores: Float32,
    labels: Sequence[str],
    task: "Task",
    method: Method,
) -> Calibrator:
    """Fits a calibrator to held-out windows; arrays are (n, n_labels), scores the mean's.

    A label whose windows all have it, or none, keeps its scores. Isotonic regression follows any
    monotone curve and needs hundreds of positive windows; Platt's two parameters need tens.
    UserError for a method that does not fit the task.
    """
    check_method(method, task)
    used, truth = mask > 0, targets > 0.5
    shares: list[float | None] = []
    for i in range(len(labels)):
        known = truth[used[:, i], i]
        both = known.any() and not known.all()
        shares.append(float(known.mean()) if both else None)
    fitted = [share is not None for share in shares]
    columns = [(scores[used[:, i], i], truth[used[:, i], i]) for i in range(len(labels))]
    names, prevalence = tuple(labels), tuple(shares)
    if method == "isotonic":
        pairs = zip(columns, fitted, strict=True)
        same = ((0.0, 1.0), (0.0, 1.0))
        curves = tuple(_isotonic(*column) if fit else same for column, fit in pairs)
        return Calibrator(method, names, prevalence, curves=curves)
    if method == "temperature":
        rows = used.all(axis=1)
        slope = _temperature(scores[rows], truth[rows]) if any(fitted) else 1.0
        return Calibrator(method, names, prevalence, (slope,) * len(names), (0.0,) * len(names))
    lines = [_platt(*c) if fit else (1.0, 0.0) for c, fit in zip(columns, fitted, strict=True)]
    slopes, offsets = (tuple(values) for values in zip(*lines, strict=True))
    return Calibrator(method, names, prevalence, slopes, offsets)


def _platt(scores: Float32, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset by logistic regression on the logit, with Platt's targets.

    His targets, (n+ + 1) / (n+ + 2) and 1 / (n- + 2), keep the slope finite where the scores tell
    all windows apart. Scores that rank in reverse, or not at all, all become the share.
    """
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression

    positive, negative = int(truth.sum()), int((~truth).sum())
    wanted = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = logit(np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST))
    if np.ptp(x) > 0:
        # A share as a target is a window that counts in part as each: scikit-learn has no other.
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000)
        both = np.repeat([1, 0], len(x))
        model.fit(np.tile(x, 2)[:, None], both, np.concatenate([wanted, 1 - wanted]))
        slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
        if slope > 0:
            return slope, offset
    return 0.0, float(logit(wanted.mean()))


def _isotonic(
    scores: Float32, truth: npt.NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1)
    model.fit(scores.astype(np.float64), truth.astype(np.float64))
    return tuple(model.X_thresholds_.tolist()), tuple(model.y_thresholds_.tolist())


def _temperature(scores: Float32, truth: npt.NDArray[np.bool_]) -> float:
    """1 / the temperature with the least log-loss."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logs = np.log(np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST))
    right = truth.argmax(axis=1)[:, None]

    def loss(log_slope: float) -> float:
        found = np.take_along_axis(log_softmax(math.exp(log_slope) * logs, axis=1), right, axis=1)
        return -float(found.mean())

    low, high = (-math.log(temperature) for temperature in reversed(_TEMPERATURES))
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)


def _rising(values: object, most: float, *, strictly: bool = False) -> bool:
    """Whether they are one or more finite numbers from 0 to `most`, none below the last."""
    if not isinstance(values, list) or not values:
        return False
    if not all(map(_is_number, values)):
        return False
    ordered = all(a < b if strictly else a <= b for a, b in pairwise(values))
    return ordered and values[0] >= 0 and values[-1] <= most


def _is_number(value: object) -> bool:
    # Whole numbers in JSON may be too large for a float64.
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -1e300 < cast(float, value) < 1e300


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise UserError(f"its calibrator {problem}; copy or train the bundle again.")
