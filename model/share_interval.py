"""Confidence intervals of shares whose windows are not independent or not equally likely drawn."""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CONFIDENCE = 0.95


def share_interval(
    right: npt.NDArray[np.bool_], weights: Float64, units: Integers, strata: Integers
) -> tuple[float, float]:
    """The 95 % interval of the weighted share of `right` ones, all arrays (n,), n at least 1.

    `units` number what was drawn independently (a group of windows of one recording, or one
    verified detection) and `strata` the part that it was drawn from; a unit lies in one stratum.
    The method is Korn & Graubard's (Survey Methodology 24, 1998): the exact interval of Clopper
    and Pearson for the number of independent draws that would have the same variance, which is
    the linearised one between units. With one window per unit and equal weights it is Clopper and
    Pearson's own. Where all are right, or none, the variance says nothing (a bootstrap gives an
    interval of no width), and the independent draws are at most the units (Kish's effective
    number of them).
    """
    from scipy.stats import beta, t

    n, total = len(right), weights.sum()
    share = float(weights[right].sum() / total)
    _, index = np.unique(units, return_inverse=True)
    count = int(index.max()) + 1
    size = np.bincount(index, weights)
    effective = total**2 / (size**2).sum()
    stratum = np.zeros(count, np.int64)
    stratum[index] = strata
    _, stratum, members = np.unique(stratum, return_inverse=True, return_counts=True)
    if 0 < share < 1 and count > len(members):
        residual = np.bincount(index, weights * (right - share)) / total
        # A stratum's only unit is compared with the whole: it tells no variance of its own.
        alone = members == 1
        centre = np.where(alone, 0, np.bincount(stratum, residual) / members)
        squares = np.bincount(stratum, (residual - centre[stratum]) ** 2)
        variances = squares * np.where(alone, 1, members / np.maximum(members - 1, 1))
        variance = variances.sum()
        effective = float(n)
        if variance * n**2 > share * (1 - share):  # Less is luck, or rounding: units all alike.
            # Satterthwaite's degrees of freedom: few units in the stratum that matters are few.
            freedom = variance**2 / (variances**2 / np.maximum(members - 1, 1)).sum()
            wide, narrow = t.ppf((1 + CONFIDENCE) / 2, [freedom, n - 1])
            effective = 1 + share * (1 - share) / variance * (narrow / wide) ** 2
    effective = min(effective, n)
    hits = share * effective
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, effective - hits + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, effective - hits)) if share < 1 else 1.0
    return low, high
