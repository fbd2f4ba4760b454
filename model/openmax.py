"""OpenMax (Bendale & Boult 2016, "Towards open set deep networks"): where a class ends."""

import math

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ALPHA = 10
"""Labels, the highest of a window, whose activations are revised, as in the paper."""
FLOOR = 1e-7
"""Scores below this are taken for this one; the activation there is 0."""
TAIL = 20
"""Largest distances of a class that its distribution is fitted to, as in the paper."""
FEWEST = 5
"""Distances below which a class takes the distribution of all classes' distances together."""


def fit_tails(distances: list[Float64]) -> Float64:
    """Location, scale and shape of each class's tail: (c, 3).

    `distances` holds those of each class's examples to its mean, one or more.
    """
    common = _fit(np.concatenate(distances))
    return np.array([_fit(own) if len(own) >= FEWEST else common for own in distances])


def _fit(distances: Float64) -> Float64:
    """Location, scale and shape of a Weibull distribution of the largest of distances (n,).

    The location is the largest distance that is not in the tail; scale and shape are of maximum
    likelihood. Where too few of the tail exceed the location the distribution is exponential.
    """
    from scipy.stats import weibull_min

    ranked = np.sort(distances)[::-1]
    size = min(TAIL, len(ranked) - 1)
    location = float(ranked[size])
    above = ranked[:size][ranked[:size] > location] - location
    mean = float(above.mean()) if len(above) else 0.0
    if len(above) < 3 or np.ptp(above) <= 1e-9 * mean:
        return np.array([location, mean, 1.0])
    shape, _, scale = weibull_min.fit(above / mean, floc=0)
    return np.array([location, scale * mean, shape])


def survival(distances: Float64, tails: Float64) -> Float64:
    """The share of each class's tail that lies beyond distances (n, c), as (n, c)."""
    location, scale, shape = tails.T
    with np.errstate(over="ignore"):  # Far beyond the tail nothing is left.
        return np.asarray(np.exp(-((np.maximum(distances - location, 0) / scale) ** shape)))


def log_odds(shares: Float32, survivals: Float64) -> Float64:
    """Log odds (n,) of `unknown` after OpenMax, of shares and survivals (n, c).

    A survival is the share of the Weibull distribution beyond the window's distance. Log odds and
    not the probability, which is 1 to the last digit for whatever lies far out.
    """
    activations = np.log(np.clip(shares.astype(np.float64), FLOOR, 1)) - math.log(FLOOR)
    alpha = min(ALPHA, shares.shape[1])
    ranks = np.argsort(np.argsort(-activations, axis=1, kind="stable"), axis=1, kind="stable")
    weights = np.clip((alpha - ranks) / alpha, 0, 1)
    moved = activations * weights * (1 - survivals)
    return np.asarray(moved.sum(axis=1) - np.logaddexp.reduce(activations - moved, axis=1))
