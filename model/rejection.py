"""Rejecters of unknown sound: how unlike all that a network was trained on a window is.

The three that Morgan & Braasch compare ("Open set classification strategies for long-term
environmental field recordings for bird species recognition", JASA 151:4028, 2022): the highest
score, the distance to the classes' means in the penultimate layer, and OpenMax.
"""

import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from model.errors import UserError
from model.frontend import FrontEnd
from model.openmax import fit_tails, log_odds, survival
from model.sounding import excess_db, sounding_threshold

if TYPE_CHECKING:
    from model.bundle_document import Task

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Method = Literal["max_score", "distance", "openmax"]

KNOWN_SHARE = 0.05
"""Share of known windows that a rejecter may call unknown, unless the user says otherwise."""
TYPICAL = 0.01
"""The value that half of the known windows that are not rejected stay below."""
PRIOR = 2.0
"""Examples that the spread of all classes counts for in that of one: some have one example."""
_CHUNK = 1 << 20
"""Numbers in memory while the distances of one window are computed."""

ARRAYS: dict[Method, tuple[str, ...]] = {
    "max_score": (),
    "distance": ("means", "spreads"),
    "openmax": ("means", "tails", "columns"),
}
"""The arrays that each method has beside `curve`."""


@dataclass(frozen=True)
class Known:
    """What a network made of windows of which it is known what they hold.

    `scores` (n, n_labels) and `embeddings` (n, d) float32 are its outputs, `targets` and `mask`
    (n, n_labels) as in `Examples`. `excess` (n,) float32, as `excess_db` gives it, is needed for
    multi-label tasks.
    """

    scores: Float32
    embeddings: Float32
    targets: Float32
    mask: Float32
    excess: Float32 | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        fits = (
            len({self.scores.shape, self.targets.shape, self.mask.shape}) == 1
            and self.embeddings.ndim == 2
            and len(self.embeddings) == n
            and (self.excess is None or self.excess.shape == (n,))
        )
        if not (fits and n):
            raise ValueError("The arrays of known windows do not fit each other, or are empty.")

    @property
    def background(self) -> Bool:
        """Windows that hold no label, and for none is that unclear: (n,)."""
        unclear = (self.mask <= 0.5).any(axis=1)
        return np.asarray((self.targets <= 0.5).all(axis=1) & ~unclear)


@dataclass(frozen=True, eq=False)
class Rejecter:
    """Tells how unknown a window is, from a network's outputs.

    `edge` is the value of the method's statistic at which a window is as likely rejected as not
    and `scale` the width of the logistic curve around it. `excess_db` is the excess from which a
    window of a multi-label task is taken to sound; None for single-label tasks. `means` (c, d) are
    those of the classes (labels, and background for multi-label tasks), `spreads` (c,) their root
    mean square distances, `tails` (c, 3) the Weibull distributions of the largest of them and
    `columns` (c,) the classes' places among the activations.
    """

    method: Method
    n_labels: int
    known_share: float
    edge: float
    scale: float
    excess_db: float | None = None
    means: Float32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    spreads: Float64 = field(default_factory=lambda: np.zeros(0))
    tails: Float64 = field(default_factory=lambda: np.zeros((0, 3)))
    columns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        check_method(self.method, self.known_share)
        numbers = [self.edge, self.scale, *([] if self.excess_db is None else [self.excess_db])]
        classes, names = len(self.means), ARRAYS[self.method]
        most = self.n_labels + (self.excess_db is not None)
        _require(all(math.isfinite(x) for x in numbers) and self.scale > 0, "edge, scale or excess")
        _require(self.means.ndim == 2 and bool(np.isfinite(self.means).all()), "means")
        _require(("means" in names) == bool(classes) and classes <= most, "means")
        _require(self.spreads.shape == (classes * ("spreads" in names),), "spreads")
        _require(bool((self.spreads > 0).all() and np.isfinite(self.spreads).all()), "spreads")
        _require(self.tails.shape == (classes * ("tails" in names), 3), "tails")
        _require(bool(np.isfinite(self.tails).all() and (self.tails[:, 1:] > 0).all()), "tails")
        _require(self.columns.shape == (classes * ("columns" in names),), "columns")
        _require(bool(((self.columns >= 0) & (self.columns < most)).all()), "columns")

    @property
    def size(self) -> int:
        """The numbers of an embedding; 0 for methods that look at scores alone."""
        return int(self.means.shape[1])

    def apply(
        self, scores: Float32, embeddings: Float32, spectrograms: Float32, f: FrontEnd
    ) -> Float32:
        """Scores with those of `unknown` as a last column: (n, n_labels + 1) float32.

        Single-label: the scores share what `unknown` leaves. Multi-label: they stay.
        """
        excess = None if self.excess_db is None else excess_db(spectrograms, f)
        unknown = self.unknown(scores, embeddings, excess)[:, None]
        known = scores if self.excess_db is not None else scores * (1 - unknown)
        return np.concatenate([known, unknown], axis=1)

    def unknown(
        self, scores: Float32, embeddings: Float32, excess: Float32 | None = None
    ) -> Float32:
        """How unknown n windows are, from 0 to 1: (n,) float32. Those of 0.5 or more are rejected.

        `scores` (n, n_labels), `embeddings` (n, d); `excess` (n,), as `excess_db` gives it, for
        multi-label tasks: what does not sound has 0.
        """
        z = (self.statistic(scores, embeddings) - self.edge) / self.scale
        # Written with tanh, the logistic function does not overflow.
        unknown = (0.5 + 0.5 * np.tanh(z / 2)).astype(np.float32)
        if self.excess_db is not None:
            assert excess is not None, "a multi-label task needs the windows' excess"
            unknown[excess < self.excess_db] = 0
        return unknown

    def statistic(self, scores: Float32, embeddings: Float32) -> Float64:
        """The method's own measure, (n,): the higher, the less known. Each window by itself."""
        top: Float64 = 1 - scores.astype(np.float64).max(axis=1)
        if self.method == "max_score":
            return top
        distances = np.array([_distances(row, self.means) for row in embeddings])
        distances = distances.reshape(len(embeddings), len(self.means))
        if self.method == "distance":
            return np.asarray((distances / self.spreads).min(axis=1))
        shares = scores if self.excess_db is None else np.column_stack([scores, top])
        return log_odds(shares[:, self.columns], survival(distances, self.tails))

    def save(self) -> bytes:
        """The rejecter as an npz file without pickles; equal ones give equal bytes."""
        curve = [self.known_share, self.edge, self.scale]
        curve += [] if self.excess_db is None else [self.excess_db]
        arrays = {name: getattr(self, name) for name in ARRAYS[self.method]}
        out = io.BytesIO()
        np.savez(out, curve=np.array(curve), **arrays)
        return out.getvalue()

    @classmethod
    def load(cls, content: bytes, method: Method, task: "Task", n_labels: int) -> "Rejecter":
        """The rejecter that `save` wrote; UserError for anything else."""
        names = ("curve", *ARRAYS[method])
        kinds = {"means": np.float32, "columns": np.int64}
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = dict(archive)
        except Exception as error:  # Of a broken archive anything may come.
            raise UserError(f"The rejecter cannot be read: {error}.") from error
        _require(sorted(arrays) == sorted(names), "arrays")
        for name, array in arrays.items():
            known = isinstance(array, np.ndarray)  # What is not named .npy comes as bytes.
            _require(known and array.dtype == kinds.get(name, np.float64), name)
        curve = arrays.pop("curve")
        _require(curve.shape == (3 + (task == "multilabel"),), "curve")
        share, edge, scale, *excess = (float(x) for x in curve)
        return cls(method, n_labels, share, edge, scale, excess[0] if excess else None, **arrays)


def check_method(method: str, known_share: float) -> None:
    """UserError unless there is such a method, and such a share of known windows."""
    names = get_args(Method)
    if method not in names:
        raise UserError(f"The rejecter is {method}; it must be {', '.join(names)}.")
    if not 0 < known_share < 1:
        raise UserError(
            f"The share of known windows to reject is {known_share}; it must be between 0 and 1."
        )


def fit_rejecter(
    method: Method,
    task: "Task",
    front_end: FrontEnd,
    training: Known,
    held_out: Known,
    known_share: float = KNOWN_SHARE,
) -> Rejecter:
    """The rejecter that calls at most `known_share` of the known `held_out` windows unknown.

    `distance` is the smallest Euclidean distance of the embedding to the mean of a class, in
    units of that class's own root mean square distance. Lee et al. (2018), "A simple unified
    framework for detecting out-of-distribution samples", give Mahalanobis's with a shared
    covariance instead; with the few examples of field data it was worse (docs/unknown.md).
    `openmax` is that of Bendale & Boult (2016), "Towards open set deep networks": Weibull
    distributions of the largest distances of correctly classified training windows to their
    class's mean move activation from the highest labels to `unknown`. Activations are
    log scores above a floor, so that none is negative.

    For multi-label tasks background is a class among the known, and only windows that sound
    count: others are never rejected. Raises UserError for unknown methods or shares, and for
    outputs that are not numbers.
    """
    check_method(method, known_share)
    for known in (training, held_out):
        if not (np.isfinite(known.scores).all() and np.isfinite(known.embeddings).all()):
            raise UserError("The network gives values that are no numbers: no rejecter fits it.")
    threshold = None
    judged = np.ones(len(held_out.scores), bool)
    if task == "multilabel":
        assert training.excess is not None and held_out.excess is not None
        threshold = sounding_threshold(training.excess[training.background], front_end)
        judged = held_out.excess >= threshold
        if not judged.any():
            judged[:] = True
    n_labels = training.scores.shape[1]
    parts: dict[str, Any] = {} if method == "max_score" else _fit_classes(method, task, training)
    bare = Rejecter(method, n_labels, known_share, 0.0, 1.0, threshold, **parts)
    values = bare.statistic(held_out.scores[judged], held_out.embeddings[judged])
    edge = _edge(values, known_share)
    typical = float(np.median(values[values < edge]))
    scale = (edge - typical) / math.log((1 - TYPICAL) / TYPICAL)
    return Rejecter(method, n_labels, known_share, edge, scale, threshold, **parts)


def _edge(values: Float64, share: float) -> float:
    """A value that at most `share` of the values (n,) reach, amid the gap to the next below.

    Where none may reach it, it lies a little above the highest.
    """
    ranked = np.sort(values)[::-1]
    allowed = math.floor(share * len(ranked) + 1e-9)
    above = ranked[:allowed][ranked[:allowed] > ranked[min(allowed, len(ranked) - 1)]]
    if len(above):
        below = ranked[len(above)]
        return max(float((above[-1] + below) / 2), float(np.nextafter(below, np.inf)))
    top = float(ranked[0])
    return top + max(0.05 * (top - float(np.median(ranked))), 1e-6 * max(1.0, abs(top)))


def _fit_classes(method: Method, task: "Task", training: Known) -> dict[str, Any]:
    """Means, spreads, tails and columns of the classes that have training windows."""
    members = training.targets > 0.5
    right = (training.scores >= 0.5) if task == "multilabel" else _is_top(training.scores)
    right &= members
    if task == "multilabel":
        empty = training.background
        quiet = empty & (training.scores < 0.5).all(axis=1)
        members, right = np.column_stack([members, empty]), np.column_stack([right, quiet])
    columns = np.flatnonzero(members.any(axis=0))
    used = members
    if method == "openmax":
        # Those of a class that is never recognised are all that there is of it.
        used = np.where(right.any(axis=0), right, members)
    means = np.array([training.embeddings[used[:, i]].mean(axis=0, dtype=float) for i in columns])
    own = [
        _distances_of(training.embeddings[used[:, i]], mean)
        for i, mean in zip(columns, means, strict=True)
    ]
    found: dict[str, Any] = {"means": means.astype(np.float32)}
    smallest = 1e-6 * max(1.0, float(np.abs(means).max()))
    if method == "openmax":
        tails = np.maximum(fit_tails(own), [0, smallest, 0])
        return found | {"tails": tails, "columns": columns}
    return found | {"spreads": np.maximum(_spreads(own), smallest)}


def _is_top(scores: Float32) -> Bool:
    """Where each window's highest score is, (n, n_labels)."""
    top = np.zeros(scores.shape, bool)
    top[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return top


def _spreads(own: list[Float64]) -> Float64:
    """Root mean square distance (c,) of each class, drawn to that of all by `PRIOR` examples."""
    squares = np.array([np.square(distances).sum() for distances in own])
    # A mean takes one degree of freedom from its own examples.
    free = np.array([len(distances) - 1 for distances in own])
    common = squares.sum() / max(1, free.sum())
    return np.asarray(np.sqrt((squares + PRIOR * common) / (free + PRIOR)))


def _distances(row: Float32, means: Float32) -> Float64:
    """Euclidean distances (c,) of one embedding (d,) to means (c, d).

    Not by a product of matrices, whose sums depend on how many windows there are.
    """
    step = max(1, _CHUNK // max(1, len(row)))
    parts = [
        np.square(means[at : at + step] - row).sum(axis=1, dtype=np.float64)
        for at in range(0, len(means), step)
    ]
    return np.asarray(np.sqrt(np.concatenate([*parts, np.zeros(0)])))


def _distances_of(rows: Float32, mean: Float64) -> Float64:
    """Euclidean distances (n,) of embeddings (n, d) to one mean (d,)."""
    return np.asarray(np.sqrt(np.square(rows - mean).sum(axis=1)))


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise UserError(f"The rejecter has no valid {name}; copy or train the bundle again.")
