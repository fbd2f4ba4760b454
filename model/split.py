"""Training and validation, apart by group and never by window."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.errors import UserError


def group_recordings(
    recordings: Sequence[str], columns: Mapping[str, Mapping[str, str]], group_by: str | None
) -> list[str]:
    """The group of each recording.

    `group_by` is a column of the annotations, or else a regular expression that is searched in
    the recording's path: its first group, or the whole match, names the group. None makes each
    recording a group. UserError for a column without one value per recording, and for a pattern
    that is none or does not match.
    """
    if group_by is None:
        return list(recordings)
    if any(group_by in values for values in columns.values()):
        for recording in recordings:
            if not columns.get(recording, {}).get(group_by):
                raise UserError(
                    f"The column {group_by} has no value, or several, for {recording}; give each "
                    "recording one, or choose another --group-by."
                )
        return [columns[recording][group_by] for recording in recordings]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UserError(f"--group-by {group_by} is no regular expression: {error}.") from error
    groups = []
    for recording in recordings:
        match = pattern.search(recording)
        name = match and (match[1] if pattern.groups else match[0])
        if not name:
            names = sorted({name for values in columns.values() for name in values})
            raise UserError(
                f"--group-by {group_by} is no column of the annotations "
                f"({', '.join(names) or 'there are none'}) and, as a pattern, names no group for "
                f"{recording}."
            )
        groups.append(name)
    return groups


def split_groups(
    groups: Sequence[str],
    positives: npt.NDArray[np.float64],
    windows: npt.NDArray[np.int64],
    fraction: float,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Which recordings are for validation: whole groups, about `fraction` of each label.

    `positives` (n, n_labels) counts each recording's positive windows, `windows` (n,) all. A
    label that two groups or more hold is in both parts wherever that is possible, and always in
    training; one that a single group holds is in training. Labels of few groups choose first.
    UserError if no group can be spared.
    """
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    member = np.array([place[group] for group in groups])
    counts = np.zeros((len(names), positives.shape[1]))
    np.add.at(counts, member, positives)
    sizes = np.zeros(len(names))
    np.add.at(sizes, member, windows)
    if len(names) < 2:
        raise UserError(
            f"All recordings are in one group ({names[0]}), so none is left for validation; "
            "annotate more recordings or choose another --group-by."
        )
    chosen = _choose(counts, sizes, fraction, np.random.default_rng(seed))
    if not chosen.any():
        raise UserError(
            "No group can be spared for validation, since each holds a label that no other has; "
            "annotate more recordings or choose another --group-by."
        )
    validation: npt.NDArray[np.bool_] = chosen[member]
    return validation


def split_folds(
    groups: Sequence[str],
    positives: npt.NDArray[np.float64],
    windows: npt.NDArray[np.int64],
    folds: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The fold, from 0, of each recording: whole groups, each label and all windows shared evenly.

    Arguments as of `split_groups`. The largest groups are dealt first, each to the fold that then
    is the least uneven. With as many groups as folds each group is one. UserError for fewer than 2
    folds or more folds than groups.
    """
    names = sorted(set(groups))
    if not 2 <= folds <= len(names):
        raise UserError(
            f"--folds is {folds}; it must be from 2 to the number of groups that training has "
            f"({len(names)})."
        )
    place = {name: i for i, name in enumerate(names)}
    member = np.array([place[group] for group in groups])
    shares = np.zeros((len(names), positives.shape[1] + 1))
    np.add.at(shares, member, np.column_stack([positives, windows]))
    shares /= np.maximum(shares.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    if folds == len(names):
        return member
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    held = np.zeros((folds, shares.shape[1]))
    sizes = np.zeros(folds, np.int64)
    fold = np.zeros(len(names), np.int64)
    for number, group in enumerate(order):
        after = np.square(held + shares[group]) - np.square(held)
        cost = after.sum(axis=1)
        # No fold stays empty: the last groups go to those that are.
        if len(order) - number <= (sizes == 0).sum():
            cost[sizes > 0] = np.inf
        fold[group] = np.argmin(cost)
        held[fold[group]] += shares[group]
        sizes[fold[group]] += 1
    found: npt.NDArray[np.int64] = fold[member]
    return found


def _choose(
    counts: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    fraction: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(len(counts), bool)
    decided = np.zeros(len(counts), bool)
    order = rng.permutation(len(counts))
    present = counts > 0
    in_training = present.sum(axis=0)
    got = np.zeros(counts.shape[1])

    def take(group: int) -> None:
        chosen[group] = decided[group] = True
        in_training[present[group]] -= 1
        got[:] += counts[group]

    def spared(group: int) -> bool:
        return bool((in_training[present[group]] > 1).all())

    for label in np.argsort(present.sum(axis=0), kind="stable"):
        holders = [int(g) for g in order if present[g, label]]
        goal = fraction * counts[:, label].sum()
        for group in holders:
            if decided[group]:
                continue
            # Taken if the label then is nearer to its goal than without.
            if spared(group) and got[label] + counts[group, label] / 2 <= goal:
                take(group)
            decided[group] = True
        if not got[label]:
            smallest = sorted(holders, key=lambda g: counts[g, label])
            spare = next((g for g in smallest if spared(g)), None)
            if spare is not None:
                take(spare)
    empty = [int(g) for g in order if not present[g].any()]
    goal, taken = fraction * sum(sizes[empty]), 0.0
    for group in empty:
        if taken + sizes[group] / 2 <= goal:
            take(group)
            taken += sizes[group]
    if not chosen.any() and empty:
        take(min(empty, key=lambda g: sizes[g]))
    return chosen
