"""Which recordings each network of a bundle learns from, and which are kept from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.split import split_folds, split_groups

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Member:
    """One network to be: its seed, and which recordings (n,) train it and stop its training."""

    seed: int
    training: Bool
    validation: Bool


@dataclass(frozen=True)
class Members:
    """All networks of a bundle, and the recordings (n,) that none of them has anything of.

    `folds`: each recording outside the hold-out stops one network and trains all others.
    """

    networks: tuple[Member, ...]
    holdout: Bool
    folds: bool


def plan_members(
    groups: Sequence[str],
    positives: npt.NDArray[np.float64],
    windows: npt.NDArray[np.int64],
    *,
    holdout: float,
    folds: int,
    validation: float,
    networks: int,
    seed: int,
) -> Members:
    """Divides recordings by whole groups; arguments as of `split_groups`.

    First the `holdout` is put aside (0: nothing). Of the rest there are `folds` with one network
    for each, or (folds 0) a `validation` share (0: nothing) and `networks` networks that differ in
    their seed. UserError where the groups are too few.
    """
    count = len(groups)
    held = np.zeros(count, bool)
    if holdout:
        held = split_groups(groups, positives, windows, holdout, seed)
    rest = np.flatnonzero(~held)
    left = [group for group, out in zip(groups, held, strict=True) if not out]
    if folds:
        fold = np.full(count, -1)
        fold[rest] = split_folds(left, positives[rest], windows[rest], folds, seed)
        parts = [fold == k for k in range(folds)]
    else:
        stop = np.zeros(count, bool)
        if validation:
            stop[rest] = split_groups(left, positives[rest], windows[rest], validation, seed)
        parts = [stop] * networks
    members = [Member(seed + k, ~held & ~part, part) for k, part in enumerate(parts)]
    return Members(tuple(members), held, bool(folds))
